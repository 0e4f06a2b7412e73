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

/// A state that waits for nothing must say so: the writer would never sleep.
#[tokio::test]
async fn a_mesh_that_is_gone_waits_for_nothing() {
    let store = ursa_store::Store::memory();
    let authority = Arc::new(Authority::standalone(store, "east"));
    let mut mesh = MeshState::default();
    let version = std::iter::once(("version".to_owned(), "v2".to_owned())).collect();
    let subset = DestinationId { mesh: "m".into(), service: "web".into(), subset: version };
    mesh.shift.pass_on([subset].into(), Instant::now());
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
