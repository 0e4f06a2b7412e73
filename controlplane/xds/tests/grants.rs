//! What a mesh grants: to be in it, to carry a service's name, to have tags in an identity. A change of the mesh takes effect
//! on what is there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

mod common;

use std::collections::BTreeMap;

use common::agent::{Agent, Session};
use common::certificates::{Leaf, csr, names};
use common::{HOUR, PATIENCE, World, ZONE, assert_refused, claims, put, web_1};
use jiff::Timestamp;
use rcgen::KeyPair;
use tokio::time::timeout;
use tonic::{Code, Status};
use ursa_crds::{
    Capture, DataplaneSpec, Inbound, Kind, Meta, Networking, Object, ObjectKey, Pod, Spec, WorkloadIdentity,
    tag,
};
use ursa_identity::DataplaneClaims;
use ursa_index::{IdentityGrant, Snapshot};
use ursa_model::{ProxyId, SpiffeId};

/// The mesh `default` with mutual TLS, and this in its specification.
async fn mesh(world: &World, more: &str) {
    let spec =
        format!("{{mtls: {{enabledBackend: ca-1, backends: [{{name: ca-1, type: Builtin}}]}}, {more}}}");
    let mesh =
        format!("apiVersion: ursamesh.io/v1alpha1\nkind: Mesh\nmetadata: {{name: default}}\nspec: {spec}\n");
    put(&world.store, &mesh).await;
}

/// A token for web-1 with these tags.
fn with_tags(world: &World, tags: &[(&str, &str)]) -> String {
    let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    world.token(&DataplaneClaims { tags, ..claims("default", Some("web-1"), &["web"]) })
}

fn hash(tags: &[(&str, &str)]) -> String {
    SpiffeId::hash(&tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

/// Waits until an identity with this in it is announced.
async fn announced(session: &mut Session, part: &str) {
    let wait = async { while !session.identity().await.spiffe_id.contains(part) {} };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("an identity with {part} is announced"));
}

/// What a session ends with.
async fn end(session: &mut Session) -> Status {
    let wait = async {
        loop {
            if let Err(status) = session.next().await {
                return status;
            }
        }
    };
    timeout(PATIENCE, wait).await.expect("the session ends")
}

const EXCLUDED: [&str; 4] = ["default/web-1", "mesh default", "zone east", "Mesh.spec.members.zones"];

#[tokio::test]
async fn who_is_no_member_is_refused_everywhere_and_told_why() {
    let world = World::start().await;
    mesh(&world, "members: {zones: [west]}").await;
    let before = world.registered();
    let agent = world.agent(&world.token_of("default", "web-1")).await;
    assert_refused("register", agent.register(web_1()).await, Code::PermissionDenied, &EXCLUDED);
    assert_eq!(world.registered(), before, "a refused registration changed the store");
    put(&world.store, &web_1()).await;
    assert_refused("ads", agent.first_delta("default/web-1").await, Code::PermissionDenied, &EXCLUDED);
    let request = csr(&KeyPair::generate().unwrap(), &[], &[]);
    assert_refused("sign", agent.sign("default/web-1", &request).await, Code::PermissionDenied, &EXCLUDED);
    // Strangers are not told more than before.
    let stranger = world.agent(&world.token_of("default", "db-9")).await;
    let refusal = stranger.first_delta("default/web-1").await;
    let refusal = assert_refused("a stranger", refusal, Code::PermissionDenied, &["db-9"]);
    assert!(!refusal.message().contains("members"), "{refusal:?}");
}

#[tokio::test]
async fn open_streams_end_when_a_mesh_excludes_and_open_again_when_it_does_not() {
    let world = World::start().await;
    let agent = world.agent(&world.token_of("default", "web-1")).await;
    let mut session = agent.register(web_1()).await.unwrap();
    announced(&mut session, "/service/web/").await;
    let mut ads = agent.ads("default/web-1").await;
    ads.next().await.unwrap();
    let ca = world.authority.current("default", "ca-1").await.unwrap();
    let id: SpiffeId = "spiffe://east.default.ursa/service/web/ns/-/tags/-/proxy/web-1".parse().unwrap();
    let leaf = Leaf::signed(&ca, &id, HOUR, Timestamp::now());

    mesh(&world, "members: {zones: [west, north]}").await;
    assert_refused("session", Err::<(), _>(end(&mut session).await), Code::PermissionDenied, &EXCLUDED);
    let wait = async {
        loop {
            if let Err(status) = ads.next().await {
                return status;
            }
        }
    };
    let ended = timeout(PATIENCE, wait).await.expect("the stream ends");
    assert_refused("ads", Err::<(), _>(ended), Code::PermissionDenied, &EXCLUDED);
    let by_certificate = leaf.agent(&world).await;
    let refusal = by_certificate.first_delta("default/web-1").await;
    assert_refused("with a certificate", refusal, Code::PermissionDenied, &EXCLUDED);
    world.until(|store| offered(store, ZONE).is_some_and(|(services, _)| services.is_empty())).await;

    mesh(&world, "members: {zones: [east]}").await;
    // A snapshot of before may still be in the way.
    let wait = async { while agent.register(web_1()).await.is_err() {} };
    timeout(PATIENCE, wait).await.expect("it is a member again");
    let wait = async { while agent.first_delta("default/web-1").await.is_err() {} };
    timeout(PATIENCE, wait).await.expect("it is a member again");
}

/// Services and identities that a zone offers in the mesh `default`.
fn offered(store: &ursa_store::Store, zone: &str) -> Option<(Vec<String>, Vec<WorkloadIdentity>)> {
    match &store.get(&ObjectKey::in_mesh(Kind::MeshZone, "default", zone))?.spec {
        Spec::MeshZone(spec) => {
            let services = spec.services.iter().map(|service| service.tags[tag::SERVICE].clone()).collect();
            Some((services, spec.identities.clone()?))
        }
        _ => None,
    }
}

#[tokio::test]
async fn tags_of_a_token_are_part_of_the_identity_if_the_mesh_declares_them() {
    let world = World::start().await;
    mesh(&world, "identityTags: [{key: team}, {key: tier, zones: [west]}]").await;
    let tags = [("team", "payments"), ("tier", "gold"), ("color", "red")];
    let agent = world.agent(&with_tags(&world, &tags)).await;
    let mut session = agent.register(web_1()).await.unwrap();
    let team = hash(&[("team", "payments")]);
    announced(&mut session, &format!("/tags/{team}/")).await;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let chain = agent.sign("default/web-1", &csr(&key, &[], &[])).await.unwrap().chain;
    let id = format!("spiffe://east.default.ursa/service/web/ns/-/tags/{team}/proxy/web-1");
    assert_eq!(names(&chain), (vec![id], false));
    let own = WorkloadIdentity {
        service: "web".into(),
        namespace: String::new(),
        tags: [("team".to_owned(), "payments".to_owned())].into(),
    };
    world.until(|store| offered(store, ZONE).is_some_and(|(_, identities)| identities.contains(&own))).await;

    // With its certificate alone it is who it was.
    drop(session);
    let leaf = Leaf { chain, key };
    let mut session = leaf.agent(&world).await.register(web_1()).await.unwrap();
    announced(&mut session, &format!("/tags/{team}/")).await;
    // What the mesh declares changes the identity at once.
    mesh(&world, "identityTags: [{key: tier}, {key: team}]").await;
    announced(&mut session, &hash(&[("team", "payments"), ("tier", "gold")])).await;
    mesh(&world, "identityTags: []").await;
    announced(&mut session, "/tags/-/").await;
}

#[tokio::test]
async fn what_no_token_proves_is_no_part_of_the_identity() {
    let world = World::start().await;
    mesh(&world, "identityTags: [{key: team}]").await;
    let claimed = web_1().replace("ursamesh.io/service: web}", "ursamesh.io/service: web, team: payments}");
    let written = format!("{claimed}  tokenTags: {{team: payments}}\n");
    let agent: Agent = world.agent(&with_tags(&world, &[])).await;
    for resource in [claimed, written] {
        let mut session = agent.register(resource).await.unwrap();
        assert!(session.identity().await.spiffe_id.contains("/tags/-/"));
    }
    // A token with tags counts until one without comes.
    let mut session =
        world.agent(&with_tags(&world, &[("team", "payments")])).await.register(web_1()).await.unwrap();
    announced(&mut session, &hash(&[("team", "payments")])).await;
    let mut session = agent.register(web_1()).await.unwrap();
    announced(&mut session, "/tags/-/").await;
}

#[tokio::test]
async fn a_name_that_is_granted_to_other_zones_is_refused_here() {
    let world = World::start().await;
    mesh(&world, "services: [{name: web, zones: [west]}]").await;
    let agent = world.agent(&world.token_of("default", "web-1")).await;
    let words = ["service name web", "not to east", "Mesh.spec.services", "default"];
    assert_refused("register", agent.register(web_1()).await, Code::PermissionDenied, &words);
    mesh(&world, "services: [{name: web, zones: [west, east]}]").await;
    agent.register(web_1()).await.unwrap();
}

/// The dataplane of a pod behind a Service `redis` that wishes to be called so in the mesh.
fn pod(namespace: &str) -> (ObjectKey, Option<Object>) {
    let name = format!("redis-1.{namespace}");
    let service = format!("redis.{namespace}");
    let tags: BTreeMap<String, String> = [
        (tag::SERVICE, service.as_str()),
        (tag::NAMESPACE, namespace),
        (tag::PORT, "6379"),
        (tag::PROTOCOL, "tcp"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let spec = DataplaneSpec {
        mesh: "default".into(),
        networking: Networking {
            address: "10.1.0.1".parse().unwrap(),
            capture: Some(Capture::default()),
            inbound: vec![Inbound {
                port: 6379,
                service_address: None,
                service_port: None,
                tags: tags.clone(),
                readiness_probe: None,
            }],
            outbound: Vec::new(),
        },
        token_tags: BTreeMap::new(),
        token_id: None,
        pod: Some(Pod {
            namespace: namespace.into(),
            uid: "u".into(),
            wished_names: [(service.clone(), "redis".to_owned())].into(),
            service,
            wished_service: None,
            tags,
            unready: [].into(),
            started: true,
        }),
    };
    let key = ObjectKey::in_mesh(Kind::Dataplane, "default", &name);
    let meta = Meta { name, uid: "u".into(), ..Meta::default() };
    (key, Some(Object { meta, spec: Spec::Dataplane(spec) }))
}

#[tokio::test]
async fn a_pod_has_the_name_that_its_service_wishes_while_the_mesh_grants_it() {
    let world = World::start().await;
    world.store.discovered(vec![pod("shop"), pod("bank")]);
    let proxies = ["shop", "bank"].map(|namespace| ProxyId::new("default", &format!("redis-1.{namespace}")));
    let service = async |proxy: &ProxyId, expected: &str| {
        let mut snapshots = world.index.subscribe(proxy).await.unwrap();
        let has = |snapshot: &Snapshot| match &snapshot.identity {
            Some(IdentityGrant { spiffe_id, .. }) => spiffe_id.service == expected,
            None => false,
        };
        let named = snapshots.wait_for(|snapshot| snapshot.as_deref().is_some_and(has));
        let named =
            timeout(PATIENCE, named).await.unwrap_or_else(|_| panic!("{proxy} is {expected}")).unwrap();
        assert_eq!(named.as_ref().unwrap().exclusion, None);
    };
    service(&proxies[0], "redis.shop").await;
    mesh(&world, "services: [{name: redis, namespaces: [shop]}]").await;
    service(&proxies[0], "redis").await;
    service(&proxies[1], "redis.bank").await;
    let view = world.index.inspect(&proxies[1]).await.unwrap();
    let [note] = &view.policies.notes[..] else { panic!("one note: {:?}", view.policies.notes) };
    for word in ["redis is not granted", "namespace bank", "zone east", "Mesh.spec.services"] {
        assert!(note.contains(word), "{note}");
    }
    assert_eq!(view.config.inbounds[0].service, "redis.bank");
    let served = world.index.inspect(&proxies[0]).await.unwrap();
    assert_eq!((served.config.inbounds[0].service.as_str(), served.policies.notes.len()), ("redis", 0));
    mesh(&world, "services: [{name: redis, namespaces: [bank]}]").await;
    service(&proxies[0], "redis.shop").await;
    service(&proxies[1], "redis").await;
}

#[tokio::test]
async fn a_pod_of_a_namespace_that_is_no_member_is_to_get_nothing() {
    let world = World::start().await;
    world.store.discovered(vec![pod("shop"), pod("bank")]);
    mesh(&world, "members: {namespaces: [shop]}").await;
    let proxy = ProxyId::new("default", "redis-1.bank");
    let mut snapshots = world.index.subscribe(&proxy).await.unwrap();
    let excluded = snapshots.wait_for(|snapshot| snapshot.as_ref().is_some_and(|s| s.exclusion.is_some()));
    let snapshot = timeout(PATIENCE, excluded).await.expect("it is excluded").unwrap().clone().unwrap();
    let reason = snapshot.exclusion.as_ref().unwrap();
    assert!(reason.contains("namespace bank") && reason.contains("Mesh.spec.members.namespaces"), "{reason}");
    assert!(snapshot.identity.is_none() && snapshot.resources.is_empty() && snapshot.names.is_none());
    let view = world.index.inspect(&proxy).await.unwrap();
    assert_eq!(&view.policies.notes[0], reason);
    world
        .until(|store| {
            offered(store, ZONE).is_some_and(|(services, identities)| {
                services == ["db", "redis.shop"]
                    && identities.iter().all(|identity| identity.namespace != "bank")
            })
        })
        .await;
}
