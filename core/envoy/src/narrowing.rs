//! Changes that refuse somebody who was let in before.
//!
//! Who may connect to a TCP inbound is decided in the handshake, so a change of the rules leaves open connections
//! alone. When a change refuses somebody who was accepted before, the inbound's filter chain is replaced by an equal
//! one: Envoy then closes the connections of the old chain within its drain time. A change that only admits more
//! leaves everything open.
//!
//! Invariant: when Envoy does not take such a change, the inbound lets nobody in ([`closed`]); it does not go on with
//! the rules that were to end.

mod callers;
mod listener;
mod routes;

use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use prost::Message as _;

use crate::pack::any;
use crate::resource::ResourceType;
use crate::wire::Any;

pub use callers::narrows;

/// The listener whose callers the secret of this name decides on; `None` for any other secret.
pub fn listener_of_callers(secret: &str) -> Option<String> {
    let address = secret.strip_prefix("callers:").or_else(|| secret.strip_prefix("members:"))?;
    Some(format!("inbound:{address}"))
}

/// What takes the place of the last-good version of a resource after Envoy refused `wanted`: a version of `good` that
/// lets nobody in, if `wanted` may refuse somebody whom `good` lets in; `None` if `good` may stay.
pub fn closed(resource_type: ResourceType, name: &str, good: &Any, wanted: &Any) -> Option<Any> {
    match resource_type {
        ResourceType::Secret if listener_of_callers(name).is_some() => {
            narrows(good, wanted).then(|| callers::closed(good))?
        }
        ResourceType::Listener if name.starts_with("inbound:") => {
            listener::narrows(good, wanted).then(|| listener::closed(good))?
        }
        ResourceType::Route if name.starts_with("inbound:") => {
            routes::narrows(good, wanted).then(|| routes::closed(good))?
        }
        _ => None,
    }
}

/// The same listener with filter chains that Envoy takes for new ones.
pub fn with_generation(listener: &Any, generation: u64) -> Option<Any> {
    let mut listener = Listener::decode(listener.value.as_slice()).ok()?;
    let text = Value { kind: Some(Kind::StringValue(generation.to_string())) };
    let fields = Struct { fields: [("generation".to_owned(), text)].into() };
    for chain in &mut listener.filter_chains {
        let metadata = chain.metadata.get_or_insert_with(Metadata::default);
        metadata.filter_metadata.insert("ursa".into(), fields.clone());
    }
    Some(any(listener))
}

/// Whose identities count.
enum Identities {
    /// All, and those who have none where nobody needs one.
    Any,
    /// Those that start with one of these.
    Prefixed(Vec<String>),
}

impl Identities {
    fn cover(&self, others: &Self) -> bool {
        match (self, others) {
            (Self::Any, _) => true,
            (Self::Prefixed(_), Self::Any) => false,
            (Self::Prefixed(own), Self::Prefixed(others)) => {
                others.iter().all(|other| own.iter().any(|prefix| other.starts_with(prefix)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_changes_the_chains_and_nothing_else() {
        let listener =
            any(Listener { name: "l".into(), filter_chains: vec![Default::default()], ..Default::default() });
        let first = with_generation(&listener, 1).unwrap();
        assert_ne!(first.value, listener.value);
        assert_eq!(with_generation(&with_generation(&listener, 2).unwrap(), 1).unwrap().value, first.value);
    }
}
