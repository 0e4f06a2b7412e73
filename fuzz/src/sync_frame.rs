//! Frames between a zone and global, from a peer that is not what it should be.

use std::collections::BTreeMap;

use prost::Message as _;
use ursa_crds::schema::CURRENT;
use ursa_crds::{Kind, ObjectKey};
use ursa_proto::sync::{Delta, FromGlobal, FromZone, from_global, from_zone};
use ursa_sync::{Outgoing, ownership, wire};

/// The zone at one end.
const ZONE: &str = "east";
/// Deltas that any peer is brought up to date with.
const DELTAS: usize = 1000;

/// A frame of either direction: what is taken belongs to who sent it, and a peer that says anything at all about what
/// it holds is brought to what it is to have.
pub fn sync_frame(bytes: &[u8]) {
    let Some((direction, frame)) = bytes.split_first() else { return };
    if direction % 2 == 0 {
        match FromZone::decode(frame).ok().and_then(|frame| frame.message) {
            Some(from_zone::Message::Delta(delta)) => from_the_zone(&delta),
            Some(from_zone::Message::Hello(hello)) => {
                bring_up(wire::read_held(hello.held, CURRENT).collect());
            }
            _ => {}
        }
    } else {
        match FromGlobal::decode(frame).ok().and_then(|frame| frame.message) {
            Some(from_global::Message::Delta(delta)) => from_global_itself(&delta),
            Some(from_global::Message::Welcome(welcome)) => {
                bring_up(wire::read_held(welcome.held, CURRENT).collect());
            }
            _ => {}
        }
    }
}

fn from_the_zone(delta: &Delta) {
    for object in delta.upserts.iter().filter_map(|item| wire::read_object(item, CURRENT).ok()) {
        if ownership::check_from_zone(&object, ZONE).is_ok() {
            assert_eq!(ownership::owning_zone(&object), Some(ZONE), "{}", object.key());
            assert!(object.meta.name.starts_with(ZONE), "{}", object.key());
            assert!(ursa_policy::validate(&object).is_empty(), "{}", object.key());
        }
    }
    for key in &delta.removals {
        let _ = wire::read_key(key.clone(), CURRENT);
    }
}

fn from_global_itself(delta: &Delta) {
    for object in delta.upserts.iter().filter_map(|item| wire::read_object(item, CURRENT).ok()) {
        if ownership::check_from_global(&object, ZONE).is_ok() {
            assert_ne!(ownership::owning_zone(&object), Some(ZONE), "{}", object.key());
            let never =
                [Kind::Secret, Kind::Dataplane, Kind::Zone, Kind::ZoneInsight, Kind::DataplaneInsight];
            assert!(!never.contains(&object.kind()), "{}", object.key());
        }
    }
}

fn bring_up(held: BTreeMap<ObjectKey, String>) {
    let wanted = ObjectKey::in_mesh(Kind::TrafficPermission, "default", "wanted");
    let desired = BTreeMap::from([(wanted.clone(), ("1".to_owned(), ()))]);
    let mut has = held.clone();
    let mut outgoing = Outgoing::new(held, desired);
    for _ in 0..DELTAS {
        let Some(delta) = outgoing.next_delta() else { break };
        has.extend(delta.upserts.iter().map(|(key, version, ())| (key.clone(), version.clone())));
        has.retain(|key, _| !delta.removals.contains(key));
        outgoing.acknowledged(delta.sequence);
    }
    assert!(outgoing.is_settled());
    assert_eq!(has, BTreeMap::from([(wanted, "1".to_owned())]));
}
