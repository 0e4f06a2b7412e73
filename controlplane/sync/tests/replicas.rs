//! Replicas of one control plane, each with a server of its own over loopback TLS, tell each other what they see.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::replica::{NAMESPACE, Replica, at, proxy};
use common::{HOUR, PATIENCE, objects, put};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};
use ursa_crds::schema::{CURRENT, Schemas};
use ursa_crds::{
    DataplaneInsightSpec, Enforcement, Kind, MeshZoneSpec, Object, ObjectKey, PeerTransport, Spec, Tags,
    UnauthenticatedPeer,
};
use ursa_envoy::{ResourceKey, ResourceType};
use ursa_identity::{DataplaneClaims, ReplicaClaims, Tokens, UserClaims, ZoneClaims};
use ursa_index::{ProxyInsight, Rejection, Snapshot};
use ursa_model::ProxyId;
use ursa_proto::replicas::replicas_client::ReplicasClient;
use ursa_proto::replicas::{Hello, Insight, Message, Ping, message};
use ursa_store::Store;
use ursa_sync::global::SILENCE;
use ursa_sync::replicas::Leader;

/// What silence may take to be noticed, on a machine that has much to do.
const NOTICED_WITHIN: Duration = Duration::from_secs(12);

fn tokens() -> Arc<Tokens> {
    Arc::new(Tokens::generate().unwrap())
}

#[tokio::test]
async fn every_replica_knows_what_any_sees_and_a_proxy_moves_without_being_lost() {
    let (tokens, all) = (tokens(), ["web-1", "web-2", "web-3"]);
    let a = Replica::start("a", &tokens, &all).await;
    let b = Replica::start("b", &tokens, &all).await;
    let c = Replica::start("c", &tokens, &all).await;
    let _one = a.connect("web-1", 10);
    let two = b.connect("web-2", 11);
    for replica in [&a, &b, &c] {
        replica.is_led_by(&a);
    }
    // After the first set, as differences.
    let three = c.connect("web-3", 12);
    let let_in: Arc<[_]> = [UnauthenticatedPeer {
        port: 80,
        transport: PeerTransport::Plaintext,
        address: Some("192.0.2.7".parse().unwrap()),
        dataplane: None,
        count: 1,
        last_seen: at(13),
    }]
    .into();
    for replica in [&a, &b, &c] {
        for name in all {
            let known = replica.sees("connected", name, |known| known.connected).await;
            assert_eq!(known.envoy_version, "1.40");
            assert_eq!(known.certificate.unwrap().backend, "ca-1");
            replica.reports(name, true).await;
        }
    }
    three.unauthenticated_peers(&let_in);
    for replica in [&a, &b, &c] {
        let known = replica.sees("let in", "web-3", |known| !known.unauthenticated_peers.is_empty()).await;
        assert_eq!(known.unauthenticated_peers, let_in);
        let shows = |spec: &DataplaneInsightSpec| spec.unauthenticated_peers[..] == *let_in;
        replica.reports_that("somebody was let in", "web-3", shows).await;
    }
    // From b to c; that b lost it comes at any time.
    let _moved = c.connect("web-2", 20);
    for replica in [&a, &b, &c] {
        replica.sees("at c", "web-2", |known| known.connected_at == Some(at(20))).await;
    }
    b.disconnect("web-2", 21);
    drop(two);
    c.index.observe(&proxy("web-3"), |insight| insight.envoy_version = "1.41".into());
    for replica in [&a, &b, &c] {
        // What b says of web-2 is there once what was said later is.
        replica.sees("upgraded", "web-3", |known| known.envoy_version == "1.41").await;
        assert!(replica.get("web-2").connected, "{}", replica.identity);
    }
    c.disconnect("web-2", 30);
    for replica in [&a, &b, &c] {
        replica.sees("lost", "web-2", |known| known.disconnected_at == Some(at(30))).await;
        replica.reports("web-2", false).await;
    }
}

#[tokio::test]
async fn the_lead_moves_and_what_a_gone_replica_saw_is_unheard_of() {
    let (tokens, all) = (tokens(), ["web-1", "web-2", "web-3"]);
    let a = Replica::start("a", &tokens, &all).await;
    let b = Replica::start("b", &tokens, &all).await;
    let c = Replica::start("c", &tokens, &all).await;
    let (_one, _two, _three) = (a.connect("web-1", 10), b.connect("web-2", 11), c.connect("web-3", 12));
    for replica in [&a, &b, &c] {
        replica.is_led_by(&a);
    }
    c.sees("connected", "web-2", |known| known.connected).await;
    b.sees("connected", "web-3", |known| known.connected).await;
    // The leader goes, and b takes its place.
    drop(a);
    for replica in [&b, &c] {
        replica.is_led_by(&b);
    }
    for replica in [&b, &c] {
        let known = replica.sees("unheard of", "web-1", |known| known.unheard_since.is_some()).await;
        assert!(!known.connected && known.certificate.is_some(), "{known:?}");
        replica.reports("web-1", false).await;
    }
    // A newcomer gets to know all of it.
    let d = Replica::start("d", &tokens, &all).await;
    d.is_led_by(&b);
    let known = d.sees("unheard of", "web-1", |known| known.unheard_since.is_some()).await;
    assert!(known.certificate.is_some(), "{known:?}");
    for (replica, name) in [(&b, "web-3"), (&c, "web-2"), (&d, "web-2"), (&d, "web-3")] {
        replica.sees("connected", name, |known| known.connected).await;
    }
    // Its agent is back, at another one.
    let _again = d.connect("web-1", 40);
    for replica in [&b, &c, &d] {
        replica.sees("back", "web-1", |known| known.connected && known.unheard_since.is_none()).await;
    }
}

/// What the zone says of itself, by its leader.
async fn offers(leader: &Replica, what: &str, condition: impl Fn(&MeshZoneSpec) -> bool) {
    let key = ObjectKey::in_mesh(Kind::MeshZone, "default", "east");
    let offered = |store: &Store| match store.get(&key).map(|object| object.spec.clone()) {
        Some(Spec::MeshZone(spec)) => condition(&spec),
        _ => false,
    };
    common::until(&leader.store, what, offered).await;
}

/// A replica says this of how the zone's proxies follow the permission of this UID.
async fn says(replica: &Replica, what: &str, uid: &str, condition: impl Fn(&Enforcement) -> bool) {
    let key = ObjectKey::in_mesh(Kind::MeshZoneInsight, "default", "east");
    let said = |store: &Store| match store.get(&key).map(|object| object.spec.clone()) {
        Some(Spec::MeshZoneInsight(spec)) => spec.resources.iter().any(|of| of.uid == uid && condition(of)),
        _ => false,
    };
    common::until(&replica.store, &format!("{}: {what}", replica.identity), said).await;
}

/// A permission as global has it; `action` differs from generation to generation.
fn permission(generation: u64, action: &str) -> Object {
    let any = "[{match: {ursamesh.io/service: '*'}}]";
    let mut object = objects::object(&format!(
        "kind: TrafficPermission\nmetadata: {{name: p}}\nspec: {{mesh: default, action: {action}, sources: {any}, destinations: {any}}}\n"
    ));
    (object.meta.uid, object.meta.generation) = ("p-uid".into(), generation);
    object.meta.created = Some(at(1));
    object
}

#[tokio::test]
async fn a_policy_is_enforced_once_every_proxy_of_every_replica_follows_it() {
    let (tokens, all) = (tokens(), ["web-1", "web-2"]);
    let a = Replica::start("a", &tokens, &all).await;
    let b = Replica::start("b", &tokens, &all).await;
    let mut streams = Vec::new();
    for (replica, name) in [(&a, "web-1"), (&b, "web-2")] {
        replica.is_led_by(&a);
        replica.store.put_copy(permission(1, "Allow")).await.unwrap();
        // Before anybody watches what it changes.
        says(replica, "it is there", "p-uid", |of| of.generation == 1).await;
        let connection = replica.connect(name, 10);
        streams.push((connection, replica.index.opened(&proxy(name)).await.unwrap()));
    }
    let follow = |replica: &Replica, name: &str, snapshot: &Option<Arc<Snapshot>>| {
        replica.index.acknowledged(&proxy(name), snapshot.as_deref().unwrap());
    };
    let lags = |names: &'static [&str]| {
        move |of: &Enforcement| !of.enforced && of.total == 2 && of.laggards == names && of.generation == 1
    };
    for replica in [&a, &b] {
        says(replica, "nobody said anything", "p-uid", lags(&["web-1", "web-2"])).await;
    }
    let one = streams[0].1.wait_for(Option::is_some).await.unwrap().clone();
    follow(&a, "web-1", &one);
    for replica in [&a, &b] {
        says(replica, "one of two", "p-uid", lags(&["web-2"])).await;
    }
    let two = streams[1].1.wait_for(Option::is_some).await.unwrap().clone();
    follow(&b, "web-2", &two);
    for replica in [&a, &b] {
        says(replica, "both", "p-uid", |of| of.enforced && (of.acked, of.total) == (2, 2)).await;
    }
    // Without mutual TLS it changes nothing for proxies: whoever knows it enforces it.
    a.store.put_copy(permission(2, "Deny")).await.unwrap();
    let half = |of: &Enforcement| of.generation == 2 && !of.enforced && (of.acked, of.total) == (1, 2);
    says(&a, "the other replica does not know it", "p-uid", half).await;
    b.store.put_copy(permission(2, "Deny")).await.unwrap();
    for replica in [&a, &b] {
        says(replica, "both know it", "p-uid", |of| of.generation == 2 && of.enforced && of.acked == 2).await;
    }
    // A stream that is opened anew begins from nothing.
    b.index.opened(&proxy("web-2")).await.unwrap();
    for replica in [&a, &b] {
        says(replica, "a new stream", "p-uid", |of| !of.enforced && of.laggards == ["web-2"]).await;
    }
    follow(&b, "web-2", &two);
    says(&a, "as before", "p-uid", |of| of.enforced && of.acked == 2).await;
    // What a proxy refuses, it does not enforce; a resource that nobody saw change may be behind all that it has a say in.
    let key = ResourceKey { resource_type: ResourceType::Route, name: "inbound:10.0.0.1:80".into() };
    let rejection = Rejection { version: "v".into(), message: "bad".into() };
    b.index.observe(&proxy("web-2"), |insight| drop(insight.rejections.insert(key.clone(), rejection)));
    for replica in [&a, &b] {
        let refused = |of: &Enforcement| {
            !of.enforced && of.rejections.iter().any(|it| it.dataplane == "web-2" && it.message == "bad")
        };
        says(replica, "refused", "p-uid", refused).await;
    }
    b.index.observe(&proxy("web-2"), |insight| insight.rejections.clear());
    says(&a, "taken", "p-uid", |of| of.enforced).await;
    a.store.delete(&permission(2, "Deny").key(), None).await.unwrap();
    let key = ObjectKey::in_mesh(Kind::MeshZoneInsight, "default", "east");
    let gone = |store: &Store| match store.get(&key).map(|object| object.spec.clone()) {
        Some(Spec::MeshZoneInsight(spec)) => spec.resources.iter().all(|of| of.uid != "p-uid"),
        _ => false,
    };
    common::until(&a.store, "deleted", gone).await;
}

#[tokio::test]
async fn certificates_are_counted_exactly_unless_a_replica_is_not_heard_of() {
    let tokens = tokens();
    let a = Replica::start("a", &tokens, &[]).await;
    let b = Replica::start("b", &tokens, &[]).await;
    for replica in [&a, &b] {
        let backends = "[{name: ca-1, type: Builtin}, {name: ca-2, type: Builtin}]";
        let mesh = format!("{{mtls: {{enabledBackend: ca-1, backends: {backends}}}}}");
        put(
            &replica.store,
            objects::object(&format!("kind: Mesh\nmetadata: {{name: default}}\nspec: {mesh}\n")),
        )
        .await;
        let pods = ["web-1", "web-2"].map(|name| {
            let pod = objects::pod(name);
            (pod.key(), Some(pod))
        });
        replica.store.discovered(pods.into());
    }
    let counted = |ca_1: u32, ca_2: u32| {
        move |zone: &MeshZoneSpec| {
            let counts = zone.backends.iter().map(|backend| (backend.name.as_str(), backend.proxies));
            counts.eq([("ca-1", ca_1), ("ca-2", ca_2)])
        }
    };
    // ca-2 does not sign; that it never did nobody knows of a pod that nobody speaks of.
    a.is_led_by(&a);
    offers(&a, "two unknown pods", counted(0, 2)).await;
    let _one = a.connect("web-1", 10);
    offers(&a, "one unknown pod", counted(1, 1)).await;
    let _two = b.connect("web-2", 11);
    b.is_led_by(&a);
    offers(&a, "exact", counted(2, 0)).await;
    b.leader.send_replace(None);
    offers(&a, "b is not heard of", counted(2, 1)).await;
    b.is_led_by(&a);
    offers(&a, "exact again", counted(2, 0)).await;
}

#[tokio::test]
async fn a_dataplane_whose_agent_talks_to_one_replica_serves_at_all() {
    let tokens = tokens();
    let a = Replica::start("a", &tokens, &[]).await;
    let b = Replica::start("b", &tokens, &[]).await;
    for replica in [&a, &b] {
        replica.is_led_by(&a);
    }
    let instances =
        |count: u32| move |zone: &MeshZoneSpec| zone.services.iter().all(|s| s.instances == count);
    let one = b.connect("web-1", 10);
    for replica in [&a, &b] {
        // As the API server brings it to each.
        put(&replica.store, objects::dataplane("web-1")).await;
    }
    a.sees("connected", "web-1", |known| known.connected).await;
    offers(&a, "not ready yet", |zone| !zone.services.is_empty() && instances(0)(zone)).await;
    one.unready([].into());
    offers(&a, "ready", instances(1)).await;
    one.unready([80].into());
    offers(&a, "not ready", instances(0)).await;
}

#[tokio::test]
async fn a_subset_is_offered_once_the_ingress_knows_it_whichever_replica_it_talks_to() {
    let tokens = tokens();
    let a = Replica::start("a", &tokens, &["web-1"]).await;
    let b = Replica::start("b", &tokens, &["web-1"]).await;
    let ingress = ProxyId::new("", "east.in");
    for replica in [&a, &b] {
        put(&replica.store, objects::ingress("east.in", "east", "10.0.0.9")).await;
        replica.is_led_by(&a);
    }
    let mut snapshots = b.index.subscribe(&ingress).await.unwrap();
    let _here = b.index.connect(&ingress);
    b.index.observe(&ingress, |insight| {
        insight.connected = true;
        insight.connected_at = Some(at(10));
    });
    let (_, mut news) = a.index.insights().follow_for_replica("nobody");
    let arrived = async {
        while !a.index.insights().get(&ingress).is_some_and(|known| known.connected) {
            news.next().await;
        }
    };
    timeout(PATIENCE, arrived).await.expect("a hears of it");
    let split = "[{weight: 1, destination: {ursamesh.io/service: web, version: v2}}]";
    let any = "[{match: {ursamesh.io/service: '*'}}]";
    let route = format!(
        "kind: TrafficRoute\nmetadata: {{name: r}}\nspec: {{mesh: default, sources: {any}, destinations: \
         [{{match: {{ursamesh.io/service: web}}}}], conf: {{split: {split}}}}}\n"
    );
    // Something that a offers later than the route, to see that the route is taken and its subset is not offered.
    put(&a.store, objects::object(&route)).await;
    put(&a.store, objects::object(&objects::dataplane_yaml("other-1", "other"))).await;
    let no_subset = |zone: &MeshZoneSpec| zone.services.len() == 2 && zone.subsets.is_empty();
    offers(&a, "without the subset", no_subset).await;
    put(&b.store, objects::object(&route)).await;
    let named = snapshots.wait_for(|snapshot| snapshot.as_ref().is_some_and(|s| !s.server_names.is_empty()));
    let snapshot = timeout(PATIENCE, named).await.unwrap().unwrap().clone().unwrap();
    b.index.acknowledged(&ingress, &snapshot);
    // Of all ports, and of the one that there is.
    offers(&a, "with the subset", |zone| zone.subsets.len() == 2).await;
}

#[tokio::test]
async fn a_replica_that_is_cut_off_for_a_moment_is_not_unheard_of() {
    let tokens = tokens();
    let a = Replica::start("a", &tokens, &["web-1"]).await;
    let b = Replica::start("b", &tokens, &["web-1"]).await;
    let link = common::link::Link::to(&a.server.address).await;
    let _one = b.connect("web-1", 10);
    a.is_led_by(&a);
    b.is_led_by(&a);
    b.leader.send_replace(Some(Leader { identity: "a".into(), address: link.address.clone() }));
    a.sees("connected", "web-1", |known| known.connected).await;
    link.cut();
    b.index.observe(&proxy("web-1"), |insight| insight.envoy_version = "1.41".into());
    link.mend();
    let upgraded = |known: &ProxyInsight| {
        assert!(known.connected && known.unheard_since.is_none(), "{known:?}");
        known.envoy_version == "1.41"
    };
    a.sees("upgraded", "web-1", upgraded).await;
}

/// A call to a replica with this token: its stream, or why there is none.
async fn call(
    replica: &Replica,
    token: Option<&str>,
) -> Result<(mpsc::Sender<Message>, Streaming<Message>), Status> {
    let address = format!("https://{}", replica.server.address);
    let channel = ursa_proto::connect(&address, &replica.server.ca_file).await.unwrap();
    let (sender, messages) = mpsc::channel(8);
    let mut request = Request::new(ReceiverStream::new(messages));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let stream = ReplicasClient::new(channel).stream(request).await?;
    Ok((sender, stream.into_inner()))
}

fn replica_token(tokens: &Tokens, namespace: &str, replica: &str) -> String {
    let claims = ReplicaClaims { namespace: namespace.into(), replica: replica.into() };
    tokens.issue_replica(&claims, HOUR, Timestamp::now()).unwrap().token
}

#[tokio::test]
async fn only_a_replica_of_the_control_plane_is_let_in() {
    let tokens = tokens();
    let a = Replica::start("a", &tokens, &[]).await;
    a.is_led_by(&a);
    let now = Timestamp::now();
    let user = UserClaims { name: "admin".into(), groups: vec!["admin".into()] };
    let dataplane = DataplaneClaims {
        mesh: "default".into(),
        zone: None,
        name: Some("web-1".into()),
        services: vec![],
        tags: Tags::new(),
    };
    let zone = ZoneClaims { zone: "east".into(), uid: "u".into() };
    let foreign = Tokens::generate().unwrap();
    let refused = [
        ("no token", None),
        ("a user's", Some(tokens.issue_user(&user, HOUR, now).unwrap().token)),
        ("an agent's", Some(tokens.issue_dataplane(&dataplane, HOUR, now).unwrap().token)),
        ("a zone's", Some(tokens.issue_zone(&zone, HOUR, now).unwrap().token)),
        ("of another control plane", Some(replica_token(&foreign, NAMESPACE, "b"))),
        ("of another namespace", Some(replica_token(&tokens, "other", "b"))),
    ];
    for (what, token) in refused {
        let status = call(&a, token.as_deref()).await.map(drop).unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{what}: {status:?}");
    }
    // It is let in, as itself only.
    let token = replica_token(&tokens, NAMESPACE, "b");
    let (sender, mut stream) = call(&a, Some(&token)).await.unwrap();
    let hello = Hello { replica: "c".into(), ..Hello::default() };
    sender.send(Message { message: Some(message::Message::Hello(hello)) }).await.unwrap();
    let status = timeout(PATIENCE, stream.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    // One that does not lead listens to nobody.
    a.leads.send_replace(false);
    let status = call(&a, Some(&token)).await.map(drop).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
}

/// The next message that says nothing of proxies.
async fn besides_deltas(stream: &mut Streaming<Message>) -> Result<Option<Message>, Status> {
    loop {
        let message = stream.message().await?;
        if !matches!(message, Some(Message { message: Some(message::Message::Delta(_)) })) {
            return Ok(message);
        }
    }
}

#[tokio::test]
async fn a_leader_that_leads_no_more_ends_the_streams() {
    let tokens = tokens();
    let a = Replica::start("a", &tokens, &[]).await;
    a.is_led_by(&a);
    let (sender, mut stream) = call(&a, Some(&replica_token(&tokens, NAMESPACE, "b"))).await.unwrap();
    let hello = Hello { replica: "b".into(), ..Hello::default() };
    sender.send(Message { message: Some(message::Message::Hello(hello)) }).await.unwrap();
    let first = timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
    assert!(matches!(first.message, Some(message::Message::Hello(hello)) if hello.replica == "a"));
    a.leads.send_replace(false);
    let status = timeout(PATIENCE, besides_deltas(&mut stream)).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
}

#[tokio::test]
async fn a_silent_replica_is_let_go_and_one_that_pings_is_answered() {
    let tokens = tokens();
    let a = Replica::start("a", &tokens, &["web-1"]).await;
    a.is_led_by(&a);
    let (sender, mut stream) = call(&a, Some(&replica_token(&tokens, NAMESPACE, "b"))).await.unwrap();
    let hello = Hello { replica: "b".into(), ..Hello::default() };
    for message in [message::Message::Hello(hello), message::Message::Ping(Ping { nonce: 7 })] {
        sender.send(Message { message: Some(message) }).await.unwrap();
    }
    let mut next = async || timeout(NOTICED_WITHIN, besides_deltas(&mut stream)).await.expect("a message");
    assert!(matches!(next().await, Ok(Some(Message { message: Some(message::Message::Hello(_)) }))));
    let pong = next().await.unwrap().unwrap().message;
    assert_eq!(pong, Some(message::Message::Pong(Ping { nonce: 7 })));
    let silent_from = Instant::now();
    let status = next().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let after = silent_from.elapsed();
    assert!(after > SILENCE / 2 && after < NOTICED_WITHIN, "{after:?}");
}

/// What the leader tells a replica that says this of its schemas: names of proxies, and whether anything is told of them
/// that came late.
async fn told(
    leader: &Replica,
    tokens: &Tokens,
    schema: u32,
    oldest_schema: u32,
) -> Result<(Vec<String>, bool), Status> {
    let (sender, mut stream) = call(leader, Some(&replica_token(tokens, NAMESPACE, "b"))).await?;
    let hello =
        Hello { replica: "b".into(), schema, oldest_schema, version: "0.9".into(), ..Hello::default() };
    sender.send(Message { message: Some(message::Message::Hello(hello)) }).await.unwrap();
    loop {
        match timeout(PATIENCE, stream.message()).await.expect("a message")?.unwrap().message {
            Some(message::Message::Hello(hello)) => assert_eq!(hello.schema, CURRENT),
            Some(message::Message::Delta(delta)) => {
                let is_late = |insight: &Insight| {
                    !insight.behind.is_empty() || !insight.unauthenticated_peers.is_empty()
                };
                let late = delta.upserts.iter().filter_map(|summary| summary.insight.as_ref()).any(is_late);
                return Ok((
                    delta.upserts.into_iter().map(|summary| summary.proxy.unwrap().name).collect(),
                    late,
                ));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_older_replica_is_told_what_it_knows_and_one_without_a_common_schema_nothing() {
    let tokens = tokens();
    let a = Replica::start("a", &tokens, &["web-1"]).await;
    a.is_led_by(&a);
    a.store.put_copy(permission(1, "Allow")).await.unwrap();
    let one = a.connect("web-1", 10);
    let peer = UnauthenticatedPeer {
        port: 80,
        transport: PeerTransport::Plaintext,
        address: None,
        dataplane: None,
        count: 1,
        last_seen: at(13),
    };
    one.unauthenticated_peers(&[peer].into());
    says(&a, "known", "p-uid", |_| true).await;
    assert_eq!(told(&a, &tokens, CURRENT, 1).await.unwrap(), (vec![String::new(), "web-1".into()], true));
    assert_eq!(told(&a, &tokens, 0, 0).await.unwrap(), (vec!["web-1".into()], false));
    let status = told(&a, &tokens, CURRENT + 2, CURRENT + 1).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    for part in ["replica b (version 0.9) speaks schemas 3 to 4", "upgrade replica a first"] {
        assert!(status.message().contains(part), "{status:?}");
    }
}

#[tokio::test]
async fn while_replicas_of_two_versions_run_they_know_each_others_proxies_and_nothing_is_enforced_unsaid() {
    let old = Schemas { oldest: 1, newest: 1 };
    for (of_leader, of_other) in [(Schemas::OURS, old), (old, Schemas::OURS)] {
        let (tokens, all) = (tokens(), ["web-1", "web-2"]);
        let a = Replica::speaking(of_leader, "a", &tokens, &all).await;
        let b = Replica::speaking(of_other, "b", &tokens, &all).await;
        let mut streams = Vec::new();
        for (replica, name) in [(&a, "web-1"), (&b, "web-2")] {
            replica.is_led_by(&a);
            replica.store.put_copy(permission(1, "Allow")).await.unwrap();
            let connection = replica.connect(name, 10);
            let mut snapshots = replica.index.opened(&proxy(name)).await.unwrap();
            let snapshot = snapshots.wait_for(Option::is_some).await.unwrap().clone();
            replica.index.acknowledged(&proxy(name), snapshot.as_deref().unwrap());
            streams.push((connection, snapshots));
        }
        for replica in [&a, &b] {
            for name in all {
                replica
                    .sees("connected", name, |known| known.connected && known.envoy_version == "1.40")
                    .await;
                replica.reports(name, true).await;
            }
        }
        // What each knows of its own is said before what comes now.
        for (replica, name) in [(&a, "web-1"), (&b, "web-2")] {
            replica.index.observe(&proxy(name), |insight| insight.envoy_version = "1.41".into());
        }
        for replica in [&a, &b] {
            for name in all {
                replica.sees("upgraded", name, |known| known.envoy_version == "1.41").await;
            }
            let partly = |of: &Enforcement| !of.enforced && (of.acked, of.total) == (1, 2);
            says(replica, "half of it is known", "p-uid", partly).await;
        }
        // Once all are of one version, all is known.
        drop(b);
        let c = Replica::start("c", &tokens, &all).await;
        if of_leader == Schemas::OURS {
            c.is_led_by(&a);
            c.store.put_copy(permission(1, "Allow")).await.unwrap();
            let _two = c.connect("web-2", 20);
            let mut snapshots = c.index.opened(&proxy("web-2")).await.unwrap();
            let snapshot = snapshots.wait_for(Option::is_some).await.unwrap().clone();
            c.index.acknowledged(&proxy("web-2"), snapshot.as_deref().unwrap());
            for replica in [&a, &c] {
                says(replica, "all", "p-uid", |of| of.enforced && (of.acked, of.total) == (2, 2)).await;
            }
        }
    }
}
