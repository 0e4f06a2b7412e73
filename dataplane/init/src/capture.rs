//! Starts and ends the capture with whatever the host has.
//!
//! Invariant: nothing is captured twice; what one backend made goes when another takes over.

use anyhow::Context as _;
use ursa_redirect::{Ruleset, Settings, rules};

use crate::cli::Backend;
use crate::{iptables, ipv6, nftables};

/// What to do about a refusal for want of rights.
pub(crate) const NOT_PERMITTED: &str = "not permitted to change the kernel's packet filter: run ursa-init as root with \
     the capabilities NET_ADMIN and NET_RAW (in a pod: securityContext.runAsUser: 0 and capabilities.add; on a VM: sudo)";

/// `ursa-init up`: what was done.
pub(crate) async fn up(settings: Settings, backend: Backend) -> anyhow::Result<String> {
    let settings = Settings { ipv6: settings.ipv6 && ipv6::is_there(), ..settings };
    let ruleset = rules(&settings);
    let needs_source = ipv6::needs_source(&settings);
    let (name, was_there) = put(&ruleset, backend).await?;
    if needs_source {
        let told = ipv6::add().await;
        if told.is_err() {
            down(Backend::Auto).await.context("cannot undo what is left of the capture")?;
        }
        told.map_err(source_failed)?;
    } else if was_there {
        ipv6::remove().await.map_err(source_failed)?;
    }
    Ok(format!("ursa-init: the capture is up, by {name}"))
}

/// `ursa-init down`: what was done.
pub(crate) async fn down(backend: Backend) -> anyhow::Result<String> {
    let was_there = match backend {
        Backend::Nftables => nftables::replace(None).await?,
        Backend::Iptables => iptables::remove()?,
        Backend::Auto => cleared_nftables().await? | iptables::remove()?,
    };
    if !was_there {
        return Ok("ursa-init: there is no capture, so nothing was changed".to_owned());
    }
    if ipv6::is_there() {
        ipv6::remove().await.map_err(source_failed)?;
    }
    Ok("ursa-init: the capture is down".to_owned())
}

/// Tells the kernel. Says by what, and whether there was a capture.
async fn put(ruleset: &Ruleset, backend: Backend) -> anyhow::Result<(&'static str, bool)> {
    let by_nftables = match backend {
        Backend::Iptables => None,
        Backend::Nftables => Some(nftables::replace(Some(ruleset)).await?),
        Backend::Auto => match nftables::replace(Some(ruleset)).await {
            Ok(was_there) => Some(was_there),
            Err(refusal @ nftables::Error::Refused(_)) => {
                eprintln!("ursa-init: {refusal}; trying iptables");
                None
            }
            Err(error) => return Err(error.into()),
        },
    };
    Ok(match by_nftables {
        Some(was_there) => ("nftables", was_there | iptables::remove()?),
        None => ("iptables", iptables::put(ruleset)? | cleared_nftables().await?),
    })
}

/// Removes what nftables has of ours; a kernel without it has nothing.
async fn cleared_nftables() -> Result<bool, nftables::Error> {
    match nftables::replace(None).await {
        Err(nftables::Error::Refused(_)) => Ok(false),
        other => other,
    }
}

fn source_failed(error: nlink::Error) -> anyhow::Error {
    if error.is_permission_denied() {
        return anyhow::anyhow!(NOT_PERMITTED);
    }
    let advice = "cannot change the address ::6 of the loopback interface, from which the proxy reaches the workload; \
                  --no-ipv6 does without";
    anyhow::Error::new(error).context(advice)
}
