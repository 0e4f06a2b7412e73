use ursa_envoy::Interner;
use ursa_model::DestinationId;

use super::follow::Surroundings;
use super::*;
use crate::addresses::DataplaneAddresses;
use crate::authority::Authority;
use crate::insight::Insights;
use crate::offer::Offer;
use crate::work::Work;

#[test]
fn whom_a_proxy_let_in_is_reported_and_nothing_is_worked_out() {
    let mut mesh = MeshState::default();
    mesh.counted("web-1");
    assert!(!mesh.is_dirty() && !mesh.offer_dirty && mesh.deadline().is_none());
    let (sender, mut reports) = tokio::sync::mpsc::unbounded_channel();
    mesh.report("m", "east", &Insights::default(), &DataplaneAddresses::default(), &sender);
    assert!(reports.try_recv().is_ok() && reports.try_recv().is_err());
}

fn subset() -> DestinationId {
    let version = std::iter::once(("version".to_owned(), "v2".to_owned())).collect();
    DestinationId { mesh: "m".into(), service: "web".into(), subset: version }
}

/// A state that waits for nothing must say so: the writer would never sleep.
#[tokio::test]
async fn a_mesh_that_is_gone_waits_for_nothing() {
    let store = ursa_store::Store::memory();
    let authority = Arc::new(Authority::standalone(store, "east"));
    let mut mesh = MeshState::default();
    mesh.shift.pass_on([subset()].into(), Instant::now());
    mesh.shift.pass_on(BTreeSet::new(), Instant::now());
    assert!(mesh.deadline().is_some());
    mesh.work_out_anew();
    assert!(mesh.deadline().is_none(), "while it is to be worked out");
    let mut around = Surroundings {
        authority: &authority,
        ingresses: &Ingresses::new(),
        addresses: &Arc::default(),
        interner: &mut Interner::default(),
        sequence: 1,
        work: &mut Work::default(),
    };
    mesh.rebuild("m", &mut around).await.unwrap();
    assert!(mesh.deadline().is_none(), "its routes are gone with it");
    assert!(!mesh.is_over(), "that the zone is no longer in it is yet to be said");
    mesh.offer("m", "east", &Insights::default(), &[]);
    assert!(matches!(mesh.progress("m", "east", &Insights::default()), Some(Offer::Withdrawn(_))));
    assert!(mesh.is_over());
}

/// The same once it is time to forget what no route names any more, with nothing else to do.
#[tokio::test]
async fn what_no_route_names_any_more_is_forgotten_in_time() {
    let authority = Arc::new(Authority::standalone(ursa_store::Store::memory(), "east"));
    let (ingresses, addresses) = (Ingresses::new(), Arc::default());
    let (mut interner, mut work) = (Interner::default(), Work::default());
    let mut around = Surroundings {
        authority: &authority,
        ingresses: &ingresses,
        addresses: &addresses,
        interner: &mut interner,
        sequence: 1,
        work: &mut work,
    };
    let mut mesh = MeshState::default();
    let object =
        ursa_crds::decode(b"apiVersion: ursamesh.io/v1alpha1\nkind: Mesh\nmetadata: {name: m}\n").unwrap();
    mesh.apply("east", &object.key(), Some(Arc::new(object)), Presence::new(Instant::now()));
    mesh.rebuild("m", &mut around).await.unwrap();
    mesh.offer("m", "east", &Insights::default(), &[]);

    let long_ago = Instant::now() - crate::shift::KEEP;
    mesh.shift.pass_on([subset()].into(), long_ago);
    mesh.shift.pass_on(BTreeSet::new(), long_ago);
    mesh.expire(Instant::now());
    assert!(mesh.is_dirty());
    around.sequence = 2;
    mesh.rebuild("m", &mut around).await.unwrap();
    assert_eq!(mesh.shift.deadline(), None);
}

/// What somebody deletes of the zone's own is said again, and nothing is worked out for that.
#[test]
fn what_the_zone_says_of_itself_stays_said() {
    let (mut mesh, presence) = (MeshState::default(), Presence::new(Instant::now()));
    let [own, other] = ["east", "west"].map(|zone| ObjectKey::in_mesh(Kind::MeshZone, "m", zone));
    mesh.apply("east", &own, None, presence);
    assert!(mesh.offer_dirty && !mesh.is_dirty());
    mesh.apply("east", &other, None, Presence::new(Instant::now()));
    assert!(mesh.is_dirty());
}
