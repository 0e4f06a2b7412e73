//! Tells the kernel over netlink, without any program.
//!
//! Invariant: the table is replaced as a whole or not at all; no packet meets half of the rules.

use nlink::netlink::nftables::Family;
use nlink::{Connection, Nftables};
use ursa_redirect::{Ruleset, TABLE};

use crate::lower;

/// How often to look again after someone else has changed rules between our look and our change.
const ATTEMPTS: usize = 20;

/// Why the kernel was not told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The process may not.
    #[error("{}", crate::capture::NOT_PERMITTED)]
    NotPermitted,
    /// The kernel has no nftables, or not all that the rules need.
    #[error(
        "the kernel refuses the nftables rules ({0}): it has to be 5.2 or later with the modules nf_tables, \
         nft_chain_nat, nft_redir, nft_ct and nft_fib_inet; or else use --backend iptables"
    )]
    Refused(nlink::Error),
    /// Someone else keeps changing rules.
    #[error("other programs kept changing nftables rules meanwhile: try again")]
    Contended,
}

impl From<nlink::Error> for Error {
    fn from(error: nlink::Error) -> Self {
        if error.is_permission_denied() { Self::NotPermitted } else { Self::Refused(error) }
    }
}

/// Puts the ruleset in the place of what there is of ours, or nothing. Says whether there was something.
pub(crate) async fn replace(ruleset: Option<&Ruleset>) -> Result<bool, Error> {
    let connection = Connection::<Nftables>::new()?;
    for _ in 0..ATTEMPTS {
        let generation = connection.generation().await?;
        let tables = connection.list_tables_in(Family::Inet).await?;
        let there = tables.iter().any(|table| table.name == TABLE);
        let mut transaction = connection.transaction().expect_generation(generation);
        if there {
            transaction = transaction.del_table(TABLE, Family::Inet);
        }
        match ruleset {
            Some(ruleset) => transaction = lower::add(transaction, ruleset)?,
            None if there => {}
            None => return Ok(false),
        }
        match transaction.commit(&connection).await {
            Ok(()) => return Ok(there),
            Err(error) if error.is_restart() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Contended)
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn only_a_kernel_that_lacks_something_is_a_reason_to_try_iptables() {
        let of = |errno: Errno| Error::from(nlink::Error::from_errno(-(errno as i32)));
        for lacking in [Errno::EINVAL, Errno::ENOENT, Errno::EOPNOTSUPP, Errno::EPROTONOSUPPORT] {
            assert!(matches!(of(lacking), Error::Refused(_)), "{lacking}");
        }
        assert!(matches!(of(Errno::EPERM), Error::NotPermitted));
    }
}
