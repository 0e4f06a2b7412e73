//! Names of private values that more than one part of the control plane knows.

/// The key that tokens are signed with (PKCS#8, PEM).
pub const TOKEN_SIGNING_KEY: &str = "token-signing-key";
/// The certificate that a control plane made for itself, with its authority and the keys (JSON).
pub const SERVER_TLS: &str = "server-tls";
/// Says that the store was filled with what there is at the beginning.
pub const INITIALIZED: &str = "initialized";
/// Says that an administrator adopted this store, in place of whichever one the zones knew; another value: once more.
pub const ADOPTED: &str = "sync/adopted";
/// Of a restored store: the zones that have not spoken to it yet (a JSON list), so that it does not know what is theirs now.
pub const UNHEARD: &str = "sync/unheard";
/// On an API server: what restored objects were before, in parts (JSON; see `kubernetes::former`).
pub(crate) const FORMER: &str = "restored/";
/// On an API server: the store's epoch.
pub(crate) const EPOCH: &str = "epoch";

/// Whether a private value says something of this very store, so that it means nothing in another one.
pub(crate) fn is_of_the_store(name: &str) -> bool {
    [EPOCH, INITIALIZED, ADOPTED, UNHEARD].contains(&name) || name.starts_with(FORMER)
}
