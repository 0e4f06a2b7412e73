//! Control planes of two versions: what the older one does not know is not sent, and what it lacks comes once it is upgraded.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

mod common;

use std::sync::Arc;

use common::fake::Fake;
use common::objects::{self, held};
use common::raw::RawZone;
use common::{HOUR, PATIENCE, World, Zone, global_key, put, until};
use jiff::Timestamp;
use tokio::time::timeout;
use tonic::Code;
use ursa_crds::schema::{CURRENT, Schemas};
use ursa_crds::{Kind, Object, ObjectKey, Spec, ZoneInsightSpec};
use ursa_identity::Tokens;
use ursa_proto::sync::{Delta, GlobalWelcome, Held, ZoneHello, from_global, from_zone};
use ursa_store::Store;
use ursa_sync::zone::{Cause, Link};

const OLD: Schemas = Schemas { oldest: 1, newest: 1 };
/// Of a version that is still to come.
const LATER: Schemas = Schemas { oldest: CURRENT + 1, newest: CURRENT + 2 };

/// A mesh that says who may join it, which the first schema does not know.
fn mesh_with_members() -> Object {
    objects::object(
        "kind: Mesh\nmetadata: {name: default}\nspec: {members: {zones: [east, west]}, routing: {localityAwareLoadBalancing: true}}\n",
    )
}

/// An offer that says who the zone's workloads are, which the first schema does not know.
fn offer_with_identities(zone: &str) -> Object {
    let mut offer = objects::mesh_zone(zone, &["web"]);
    if let Spec::MeshZone(spec) = &mut offer.spec {
        spec.identities = Some(Vec::new());
    }
    offer
}

/// Of a kind that the first schema does not have.
fn progress(zone: &str) -> Object {
    objects::object(&format!("kind: MeshZoneInsight\nmetadata: {{name: {zone}}}\nspec: {{mesh: default}}\n"))
}

fn has_members(store: &Store) -> bool {
    match store.get(&ObjectKey::mesh("default")).as_deref() {
        Some(Object { spec: Spec::Mesh(mesh), .. }) => mesh.members.is_some(),
        _ => false,
    }
}

fn has_identities(store: &Store, zone: &str) -> bool {
    match store.get(&ObjectKey::in_mesh(Kind::MeshZone, "default", zone)).as_deref() {
        Some(Object { spec: Spec::MeshZone(offer), .. }) => offer.identities.is_some(),
        _ => false,
    }
}

fn has_progress(store: &Store, zone: &str) -> bool {
    store.get(&ObjectKey::in_mesh(Kind::MeshZoneInsight, "default", zone)).is_some()
}

fn insight(store: &Store, zone: &str) -> ZoneInsightSpec {
    match store.get(&global_key(Kind::ZoneInsight, zone)).as_deref() {
        Some(Object { spec: Spec::ZoneInsight(spec), .. }) => spec.clone(),
        _ => ZoneInsightSpec::default(),
    }
}

/// The real end of a zone of a version that speaks these schemas, with what it had before.
async fn zone(world: &World, name: &str, store: &Store, schemas: Schemas) -> Zone {
    let (server, token) = (&world.server, world.token(name).await);
    server.start_speaking(name, &server.address, &token, store.clone(), true, schemas)
}

#[tokio::test]
async fn an_older_zone_gets_what_it_knows_and_the_rest_once_it_is_upgraded() {
    let world = World::start().await;
    put(&world.store, mesh_with_members()).await;
    let (east_store, west_store) = (Store::memory(), Store::memory());
    let mut east = zone(&world, "east", &east_store, OLD).await;
    let mut west = zone(&world, "west", &west_store, Schemas::OURS).await;
    east.until_connected(true).await;
    west.until_connected(true).await;
    until(&west_store, "the mesh", has_members).await;
    put(&west_store, offer_with_identities("west")).await;
    put(&west_store, progress("west")).await;
    until(&world.store, "west's offer", |store| has_identities(store, "west")).await;
    until(&world.store, "west's progress", |store| has_progress(store, "west")).await;
    // It tells what it knows, too: of the same source, it makes what it does not speak of.
    put(&east_store, progress("east")).await;
    put(&east_store, offer_with_identities("east")).await;
    let offer = |zone: &str| ObjectKey::in_mesh(Kind::MeshZone, "default", zone);
    until(&world.store, "east's offer", |store| store.get(&offer("east")).is_some()).await;
    until(&east_store, "west's offer", |store| store.get(&offer("west")).is_some()).await;
    let mesh = east_store.get(&ObjectKey::mesh("default")).unwrap();
    assert!(matches!(&mesh.spec, Spec::Mesh(mesh) if mesh.routing.locality_aware_load_balancing));
    assert!(!has_members(&east_store) && !has_identities(&east_store, "west"));
    assert!(!has_identities(&world.store, "east") && !has_progress(&world.store, "east"));
    assert_eq!((insight(&world.store, "east").schema, insight(&world.store, "west").schema), (1, CURRENT));

    east.leads.send_replace(false);
    east.until_connected(false).await;
    let mut east = zone(&world, "east", &east_store, Schemas::OURS).await;
    east.until_connected(true).await;
    until(&east_store, "the mesh", has_members).await;
    until(&east_store, "west's offer", |store| has_identities(store, "west")).await;
    until(&world.store, "east's offer", |store| has_identities(store, "east")).await;
    until(&world.store, "east's progress", |store| has_progress(store, "east")).await;
    until(&west_store, "east's offer", |store| has_identities(store, "east")).await;
    assert_eq!(insight(&world.store, "east").schema, CURRENT);
}

#[tokio::test]
async fn an_older_global_gets_what_it_knows_and_the_rest_once_it_is_upgraded() {
    let (store, tokens) = (Store::memory(), Arc::new(Tokens::generate().unwrap()));
    put(&store, objects::mesh()).await;
    let old = World::speaking(OLD, store.clone(), tokens.clone()).await;
    let east_store = Store::memory();
    let mut east = zone(&old, "east", &east_store, Schemas::OURS).await;
    east.until_connected(true).await;
    put(&east_store, progress("east")).await;
    put(&east_store, offer_with_identities("east")).await;
    let offer = ObjectKey::in_mesh(Kind::MeshZone, "default", "east");
    until(&store, "east's offer", |store| store.get(&offer).is_some()).await;
    until(&east_store, "the mesh", |store| store.get(&ObjectKey::mesh("default")).is_some()).await;
    assert!(!has_identities(&store, "east") && !has_progress(&store, "east"));

    east.leads.send_replace(false);
    east.until_connected(false).await;
    let new = World::speaking(Schemas::OURS, store.clone(), tokens).await;
    let mut east = zone(&new, "east", &east_store, Schemas::OURS).await;
    east.until_connected(true).await;
    until(&store, "east's offer", |store| has_identities(store, "east")).await;
    until(&store, "east's progress", |store| has_progress(store, "east")).await;
    put(&store, mesh_with_members()).await;
    until(&east_store, "the mesh", has_members).await;
}

/// As where a zone goes back, or one of its replicas is of the version before.
#[tokio::test]
async fn what_a_zone_no_longer_says_global_no_longer_says_either() {
    let world = World::start().await;
    let store = Store::memory();
    put(&store, offer_with_identities("east")).await;
    let mut east = zone(&world, "east", &store, Schemas::OURS).await;
    east.until_connected(true).await;
    until(&world.store, "east's offer", |store| has_identities(store, "east")).await;
    east.leads.send_replace(false);
    east.until_connected(false).await;

    // The same, as far as the version before knows it.
    let key = ObjectKey::in_mesh(Kind::MeshZone, "default", "east");
    let mut offer = Object::clone(&store.get(&key).unwrap());
    if let Spec::MeshZone(spec) = &mut offer.spec {
        spec.identities = None;
    }
    let store = Store::memory();
    store.put_copy(offer).await.unwrap();
    let mut east = zone(&world, "east", &store, OLD).await;
    east.until_connected(true).await;
    until(&world.store, "east's offer as it is now", |store| {
        store.get(&key).is_some() && !has_identities(store, "east")
    })
    .await;
}

/// Opens a stream as a zone that says this of its schemas.
async fn raw(
    world: &World,
    held: Vec<Held>,
    schema: u32,
    oldest_schema: u32,
) -> Result<RawZone, tonic::Status> {
    let token = world.tokens.issue_zone(&world.claims("east").await, HOUR, Timestamp::now()).unwrap().token;
    let hello = ZoneHello { zone: "east".into(), version: "0.9".into(), held, schema, oldest_schema };
    RawZone::open(world, Some(&format!("Bearer {token}")), from_zone::Message::Hello(hello)).await
}

#[tokio::test]
async fn one_that_says_no_schema_has_the_first_and_is_told_nothing_twice() {
    let world = World::start().await;
    put(&world.store, mesh_with_members()).await;
    let mut east = raw(&world, Vec::new(), 0, 0).await.unwrap();
    let delta = east.delta().await;
    east.acknowledge(&delta).await;
    assert_eq!(objects::names(&delta.upserts), ["Mesh default"]);
    let text = String::from_utf8(delta.upserts[0].object.clone()).unwrap();
    assert!(!text.contains("members") && text.contains("localityAware"), "{text}");
    drop(east);
    // It holds what it was sent.
    let mut east = raw(&world, held(&delta.upserts), 0, 0).await.unwrap();
    east.ping().await;
    // What it does not know has changed, and nothing else.
    let mut mesh = mesh_with_members();
    if let Spec::Mesh(spec) = &mut mesh.spec {
        spec.members.as_mut().unwrap().zones.push("aws".into());
    }
    put(&world.store, mesh).await;
    // Only the generation tells: it is part of what a copy is.
    assert_eq!(east.take().await, ["+Mesh default"]);
    drop(east);
    // To one that knows more, all of it is new.
    let mut east = raw(&world, held(&delta.upserts), CURRENT, 1).await.unwrap();
    let full = east.delta().await;
    assert!(String::from_utf8(full.upserts[0].object.clone()).unwrap().contains("members"));
}

#[tokio::test]
async fn what_is_not_of_the_schema_is_refused() {
    let world = World::start().await;
    for (what, object, word) in [
        ("a field", offer_with_identities("east"), "spec.identities: unknown field"),
        ("a kind", progress("east"), "unknown kind MeshZoneInsight"),
    ] {
        let mut east = raw(&world, Vec::new(), 1, 1).await.unwrap();
        let delta = Delta { sequence: 1, upserts: vec![objects::item(&object)], removals: Vec::new() };
        let told = east.delta().await;
        east.acknowledge(&told).await;
        east.refused(&world, what, from_zone::Message::Delta(delta), &[Code::PermissionDenied], &[word])
            .await;
    }
}

#[tokio::test]
async fn a_zone_without_a_common_schema_is_refused_shown_and_goes_on() {
    let world = World::start().await;
    let east_store = Store::memory();
    let copy = east_store.put_copy(objects::permission("kept")).await.unwrap().object;
    let mut east = zone(&world, "east", &east_store, LATER).await;
    let refused = |link: &Link| matches!(link, Link::Lost { cause: Cause::Incompatible, .. });
    let told = timeout(PATIENCE, east.connected.wait_for(refused)).await.unwrap().unwrap().clone();
    let Link::Lost { reason, .. } = told else { unreachable!() };
    let parts = [
        "zone east (version ",
        "speaks schemas 3 to 4",
        "global (version ",
        "speaks schemas 1 to 2",
        "upgrade global first",
    ];
    for part in parts {
        assert!(reason.contains(part), "no {part:?} in {reason}");
    }
    until(&world.store, "shown", |store| !insight(store, "east").incompatible.is_empty()).await;
    assert_eq!(insight(&world.store, "east").incompatible, reason);
    assert_eq!(insight(&world.store, "east").schema, LATER.newest);
    // It is no news at each try.
    let revision = world.store.revision();
    for _ in 0..3 {
        timeout(PATIENCE, east.connected.changed()).await.unwrap().unwrap();
        assert!(refused(&east.connected.borrow_and_update()));
    }
    assert_eq!(world.store.revision(), revision);
    assert_eq!(east_store.get(&copy.key()), Some(copy), "it goes on with what it has");
    drop(east);

    let mut east = zone(&world, "east", &east_store, Schemas::OURS).await;
    east.until_connected(true).await;
    assert_eq!(insight(&world.store, "east").incompatible, "");
}

#[tokio::test]
async fn a_zone_refuses_a_global_that_speaks_no_schema_of_its_own() {
    let mut fake = Fake::start().await;
    let mut east = fake.zone("east");
    let copy = east.store.put_copy(objects::permission("kept")).await.unwrap().object;
    let (mut stream, hello) = fake.accept().await;
    assert_eq!((hello.schema, hello.oldest_schema), (CURRENT, 1));
    let welcome = GlobalWelcome {
        epoch: "e".into(),
        schema: LATER.newest,
        oldest_schema: LATER.oldest,
        version: "9.1".into(),
        ..GlobalWelcome::default()
    };
    stream.send(from_global::Message::Welcome(welcome)).await;
    assert_eq!(stream.news().await, None, "it ends the stream");
    let lost = |link: &Link| matches!(link, Link::Lost { .. });
    let link = timeout(PATIENCE, east.connected.wait_for(lost)).await.unwrap().unwrap().clone();
    let Link::Lost { cause, reason } = link else { unreachable!() };
    assert_eq!(cause, Cause::Incompatible);
    assert!(
        reason.contains("global (version 9.1)") && reason.contains("upgrade zone east first"),
        "{reason}"
    );
    assert_eq!(east.store.get(&copy.key()), Some(copy));
}
