use super::*;

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
    mesh.dirty = true;
    assert!(mesh.deadline().is_none(), "while it is to be worked out");
    let (none, mut interner) = (Arc::default(), Interner::default());
    mesh.rebuild("m", &authority, &Ingresses::new(), &none, &mut interner, 1).await.unwrap();
    assert!(mesh.deadline().is_none(), "its routes are gone with it");
    assert!(!mesh.is_over(), "that the zone is no longer in it is yet to be said");
    mesh.offer("m", "east", &Insights::default(), &[]);
    assert!(mesh.is_over());
}
