//! When the callers of an inbound become fewer, its listener is sent to Envoy with new filter chains, so that the
//! connections of those who may no longer call end within the drain time. When Envoy refuses such a change, the inbound
//! lets nobody in until a version is accepted.
//!
//! The listener is the control plane's still: its version here is the control plane's with a mark behind it.

use std::sync::Arc;

use ursa_envoy::{ResourceType, closed, listener_of_callers, narrows, with_generation};

use crate::xds::cache::{Cache, Entry};

/// Between the control plane's version and the number of the chains; no version of the control plane has it.
const MARK: char = '~';

/// The version as the control plane knows it.
pub(super) fn upstream_version(version: &str) -> &str {
    version.split_once(MARK).map_or(version, |(version, _)| version)
}

/// Replaces the chains of the listener whose callers this secret decides on, if it accepts fewer than the one before.
pub(super) fn replace_chains(wanted: &mut Cache, secret: &str, new: &Entry) {
    let Some(listener) = listener_of_callers(secret) else { return };
    let Some(old) = wanted.get(ResourceType::Secret, secret) else { return };
    if old.version != new.version && narrows(&old.body, &new.body) {
        renew_chains(wanted, &listener);
    }
}

fn renew_chains(wanted: &mut Cache, listener: &str) {
    let Some(current) = wanted.get(ResourceType::Listener, listener) else { return };
    let generation = current.version.split_once(MARK).and_then(|(_, n)| n.parse().ok()).unwrap_or(0_u64) + 1;
    let Some(body) = with_generation(&current.body, generation) else { return };
    let version = format!("{}{MARK}{generation}", upstream_version(&current.version));
    wanted.insert(ResourceType::Listener, listener, Arc::new(Entry { version, body }));
}

/// The version of what lets nobody in; no version of the control plane is this, so it sends its own on every new stream.
const CLOSED: &str = "closed";

/// What the control plane is told behind Envoy's reason.
pub(super) const CLOSED_NOTE: &str = " (it may refuse callers that were let in before, so this inbound lets nobody in until a version is accepted)";

/// Whether the last-good version of a resource lets nobody in.
pub(super) fn is_closed(good: &Cache, resource_type: ResourceType, name: &str) -> bool {
    good.get(resource_type, name).is_some_and(|entry| entry.version == CLOSED)
}

/// After Envoy refused a version of a resource: makes its last-good version let nobody in, if the refused one is wanted and
/// may refuse somebody whom that lets in. True: the last-good version changed.
pub(super) fn close(
    good: &mut Cache,
    wanted: &mut Cache,
    (resource_type, name, version): (ResourceType, &str, &str),
) -> bool {
    let Some(current) = good.get(resource_type, name).filter(|current| current.version != CLOSED) else {
        return false;
    };
    let refused = wanted.get(resource_type, name).filter(|entry| entry.version == version);
    let refused = refused.filter(|refused| refused.version != current.version);
    let Some(body) = refused.and_then(|refused| closed(resource_type, name, &current.body, &refused.body))
    else {
        return false;
    };
    good.insert(resource_type, name, Arc::new(Entry { version: CLOSED.to_owned(), body }));
    if resource_type == ResourceType::Secret
        && let Some(listener) = listener_of_callers(name)
    {
        renew_chains(wanted, &listener);
    }
    true
}

#[cfg(test)]
mod tests {
    use ursa_envoy::{Interner, ResourceType::Listener, translate};
    use ursa_model::{Inbound, InboundTls, Protocol, ProxyId, ProxyModel, TrustBundle};

    use super::*;

    /// The listener of an inbound, in plaintext or not.
    fn listener(version: &str, tls: Option<InboundTls>) -> Entry {
        let inbound = Inbound {
            address: [127, 0, 0, 1].into(),
            port: 80,
            app_address: [127, 0, 0, 1].into(),
            app_port: 8080,
            service: "web".into(),
            protocol: Protocol::Tcp,
            tls,
        };
        let model = ProxyModel {
            capture: None,
            id: ProxyId::new("default", "web-1"),
            zone: "east".into(),
            inbounds: vec![inbound],
            outbounds: Vec::new(),
            destinations: Vec::new(),
            ingress_routes: Vec::new(),
            ingress_listener: None,
        };
        let set = translate(&model, &mut Interner::default());
        let listener = set.values().find(|resource| resource.key.resource_type == Listener).unwrap();
        Entry { version: version.to_owned(), body: listener.body.clone() }
    }

    #[test]
    fn what_is_closed_stays_so_until_a_version_is_accepted() {
        let name = "inbound:127.0.0.1:80";
        let tls = InboundTls { trust: TrustBundle::default(), allowed: Vec::new(), permissive: false };
        let (plaintext, strict) = (Arc::new(listener("1", None)), Arc::new(listener("2", Some(tls))));
        let (mut good, mut wanted) = (Cache::default(), Cache::default());
        wanted.insert(Listener, name, strict);
        let mut refuse = |good: &mut Cache, version: &str| {
            let changed = close(good, &mut wanted, (Listener, name, version));
            (is_closed(good, Listener, name), changed)
        };
        assert_eq!(refuse(&mut good, "2"), (false, false), "nothing is in force");
        good.insert(Listener, name, plaintext.clone());
        // The last-good one itself, or one that is not wanted any more.
        assert_eq!(refuse(&mut good, "1"), (false, false));
        assert_eq!(refuse(&mut good, "0"), (false, false));
        assert_eq!(good.get(Listener, name), Some(&plaintext));

        assert_eq!(refuse(&mut good, "2"), (true, true));
        let closed = good.get(Listener, name).unwrap().clone();
        assert_eq!(closed.version, CLOSED);
        assert_eq!(refuse(&mut good, "2"), (true, false));
        assert_eq!(good.get(Listener, name), Some(&closed));
    }
}
