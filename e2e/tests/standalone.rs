//! One zone: a standalone control plane, agents with real Envoys, traffic between two workloads.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use ursa_crds::{Kind, ObjectKey};
use ursa_e2e::{
    Agent, Banner, ControlPlane, Conversation, Echo, Load, MTLS, Workload, World, answer, eventually,
    refused, refused_plaintext,
};

/// Generous: the figures are printed, not judged.
const SOON: Duration = Duration::from_secs(10);

/// A permission for a service's workloads.
fn permission(name: &str, action: &str, service: &str) -> String {
    ursa_e2e::permission(name, action, &format!("ursamesh.io/service: '{service}'"))
}

/// A server workload `server` and a client workload `client` that calls it.
struct Pair {
    world: World,
    plane: ControlPlane,
    server: Agent,
    client: Agent,
    _banner: Banner,
    application: SocketAddr,
    inbound: SocketAddr,
    outbound: SocketAddr,
}

impl Pair {
    async fn start(test: &str) -> anyhow::Result<Self> {
        let world = World::new(test)?;
        let plane = world.standalone("aws").await?;
        let application = SocketAddr::new(world.addresses.host(1, 4), 16379);
        let banner = Banner::start(application, "server-1").await?;
        let inbound = SocketAddr::new(world.addresses.host(1, 4), 6379);
        let workload =
            Workload::new("server-1", inbound.ip()).serves("server", 6379, application, &[]).probed();
        let server = world.agent(&plane, &workload).await?;
        let outbound = SocketAddr::new(world.addresses.host(1, 3), 26379);
        let own = SocketAddr::new(outbound.ip(), 5000);
        let workload =
            Workload::new("client-1", outbound.ip()).serves("client", 5001, own, &[]).calls("server", 26379);
        let client = world.agent(&plane, &workload).await?;
        Ok(Self { world, plane, server, client, _banner: banner, application, inbound, outbound })
    }

    async fn answers(&self, what: &str) -> anyhow::Result<()> {
        eventually(what, SOON, async || answer(self.outbound).await).await.map(drop)
    }

    async fn refuses(&self, what: &str) -> anyhow::Result<()> {
        eventually(what, SOON, async || refused(self.outbound).await).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_flows_and_survives_crashes() -> anyhow::Result<()> {
    let mut pair = Pair::start("standalone-crashes").await?;
    pair.answers("first answer through two proxies").await?;

    let saved = pair.client.files.join("data/last-good.pb");
    eventually("the agent has saved its configuration", SOON, async || std::fs::metadata(&saved)).await?;
    pair.plane.process()?.kill()?;
    for _ in 0..10 {
        answer(pair.outbound).await?;
    }
    pair.client.process()?.kill()?;
    pair.client.start()?;
    pair.answers("agent restarted without its control plane").await?;

    pair.plane.start().await?;
    pair.answers("control plane is back").await?;
    let api = pair.plane.api()?;
    let (_, list) = api.send(reqwest::Method::GET, "/meshes/default/dataplanes", None).await?;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "{list}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_dies_and_comes_back_costs_no_request() -> anyhow::Result<()> {
    let mut pair = Pair::start("standalone-restarts").await?;
    let api = pair.plane.api()?;
    api.apply(MTLS).await?;
    api.apply(&permission("allow-all", "Allow", "*")).await?;
    eventually("plaintext clients are refused", SOON, async || refused_plaintext(pair.inbound).await).await?;
    pair.answers("mutual TLS is on").await?;
    let load = Load::start([pair.outbound]);
    for round in 1..=4 {
        pair.plane.process()?.kill()?;
        pair.plane.start().await?;
        let api = pair.plane.api()?;
        eventually(&format!("round {round}: both agents are back"), SOON, async || {
            for name in ["server-1", "client-1"] {
                let path = format!("/meshes/default/dataplanes/{name}/insight");
                let (_, insight) = api.send(reqwest::Method::GET, &path, None).await?;
                anyhow::ensure!(insight["connected"] == true, "{name}: {insight}");
            }
            Ok(())
        })
        .await?;
        // What the agents are told after that comes in force under load, too.
        pair.answers("still").await?;
    }
    println!("{} requests on the way, none failed", load.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_agent_leaves_and_takes_its_dataplane_along() -> anyhow::Result<()> {
    let mut pair = Pair::start("standalone-drain").await?;
    pair.answers("first answer").await?;
    let status = pair.server.process()?.stop()?;
    assert!(status.success(), "{status}");
    pair.refuses("no instance is left").await?;
    let api = pair.plane.api()?;
    let (status, _) = api.send(reqwest::Method::GET, "/meshes/default/dataplanes/server-1", None).await?;
    assert_eq!(status, 404);
    pair.server.start()?;
    pair.answers("the instance is back").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_application_leaves_the_endpoints_and_comes_back() -> anyhow::Result<()> {
    let pair = Pair::start("standalone-probe").await?;
    let other = SocketAddr::new(pair.world.addresses.host(1, 5), 16379);
    let banner = Banner::start(other, "server-2").await?;
    let workload = Workload::new("server-2", other.ip()).serves("server", 6379, other, &[]).probed();
    let _agent = pair.world.agent(&pair.plane, &workload).await?;
    let both = async || {
        let mut names = std::collections::BTreeSet::new();
        for _ in 0..8 {
            names.insert(answer(pair.outbound).await?);
        }
        anyhow::ensure!(names.len() == 2, "only {names:?} answered");
        Ok(())
    };
    eventually("both instances answer", SOON, both).await?;
    drop(banner);
    eventually("only the living instance answers", SOON, async || {
        for _ in 0..20 {
            let name = answer(pair.outbound).await?;
            anyhow::ensure!(name == "server-1", "{name} answered");
        }
        Ok(())
    })
    .await?;
    let _banner = Banner::start(other, "server-2").await?;
    eventually("both instances answer again", SOON, both).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_comes_and_goes_costs_no_request() -> anyhow::Result<()> {
    let pair = Pair::start("standalone-scaling").await?;
    let api = pair.plane.api()?;
    api.apply(MTLS).await?;
    api.apply(&permission("allow-all", "Allow", "*")).await?;
    eventually("plaintext clients are refused", SOON, async || refused_plaintext(pair.inbound).await).await?;
    pair.answers("mutual TLS is on").await?;
    let other = SocketAddr::new(pair.world.addresses.host(1, 5), 16379);
    let _banner = Banner::start(other, "server-2").await?;
    let workload = Workload::new("server-2", other.ip()).serves("server", 6379, other, &[]);
    for round in 1..=3 {
        let load = Load::start([pair.outbound]);
        let mut second = pair.world.agent(&pair.plane, &workload).await?;
        eventually("the second instance answers", SOON, async || {
            let name = answer(pair.outbound).await?;
            anyhow::ensure!(name == "server-2", "{name} answered");
            Ok(())
        })
        .await?;
        let status = second.process()?.stop()?;
        assert!(status.success(), "{status}");
        println!("round {round}: {} requests on the way, none failed", load.stop().await?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_refuses_by_default_and_permissions_open_and_close() -> anyhow::Result<()> {
    let pair = Pair::start("standalone-mtls").await?;
    let api = pair.plane.api()?;
    pair.answers("plaintext").await?;

    api.apply(MTLS).await?;
    pair.refuses("default deny").await?;
    eventually("plaintext clients are refused", SOON, async || refused_plaintext(pair.inbound).await).await?;

    api.apply(&permission("allow-all", "Allow", "*")).await?;
    pair.answers("allow-all").await?;
    refused_plaintext(pair.inbound).await?;
    answer(pair.application).await?;

    api.apply(&permission("deny-client", "Deny", "client")).await?;
    pair.refuses("a Deny wins").await?;
    api.delete(&ObjectKey::in_mesh(Kind::TrafficPermission, "default", "deny-client")).await?;
    pair.answers("the Deny is gone").await?;

    api.apply(&permission("allow-all", "Allow", "someone-else")).await?;
    pair.refuses("allowed to someone else").await?;
    api.apply(&permission("allow-all", "Allow", "client")).await?;
    pair.answers("allowed by name").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrowing_ends_open_connections_and_an_addition_leaves_them() -> anyhow::Result<()> {
    let mut pair = Pair::start("standalone-narrowing").await?;
    let api = pair.plane.api()?;
    api.apply(MTLS).await?;
    api.apply(&permission("allow-client", "Allow", "client")).await?;
    let echo_at = SocketAddr::new(pair.application.ip(), 17000);
    let _echo = Echo::start(echo_at).await?;
    let address = pair.world.addresses.host(1, 6);
    let workload = Workload::new("echo-1", address).serves("echo", 7000, echo_at, &[]);
    let _agent = pair.world.agent(&pair.plane, &workload).await?;
    let outbound = SocketAddr::new(pair.outbound.ip(), 27000);
    let own = SocketAddr::new(outbound.ip(), 5000);
    let workload =
        Workload::new("client-1", outbound.ip()).serves("client", 5001, own, &[]).calls("echo", 27000);
    pair.client.process()?.stop()?;
    let _client = pair.world.agent(&pair.plane, &workload).await?;
    let mut open =
        eventually("a conversation is open", SOON, async || Conversation::open(outbound).await).await?;

    api.apply(&permission("allow-more", "Allow", "somebody-else")).await?;
    let until = tokio::time::Instant::now() + Duration::from_secs(7);
    while tokio::time::Instant::now() < until {
        open.say("still there").await?;
    }
    api.apply(&permission("allow-client", "Allow", "nobody")).await?;
    eventually("the open conversation has ended", SOON, async || match open.say("and now").await {
        Ok(()) => Err("it goes on"),
        Err(_) => Ok(()),
    })
    .await?;
    eventually("and no new one opens", SOON, async || match Conversation::open(outbound).await {
        Ok(_) => Err("one opened"),
        Err(_) => Ok(()),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_under_load_fails_no_request() -> anyhow::Result<()> {
    let pair = Pair::start("standalone-rotation").await?;
    let api = pair.plane.api()?;
    api.apply(&MTLS.replace("type: Builtin", "type: Builtin, dpCert: {rotation: {expiration: 5s}}")).await?;
    api.apply(&permission("allow-all", "Allow", "*")).await?;
    pair.answers("mutual TLS is on").await?;
    eventually("plaintext clients are refused", SOON, async || refused_plaintext(pair.inbound).await).await?;
    let until = tokio::time::Instant::now() + Duration::from_secs(12);
    let mut requests = 0;
    while tokio::time::Instant::now() < until {
        answer(pair.outbound).await.map_err(|error| error.context(format!("request {requests}")))?;
        requests += 1;
    }
    println!("{requests} requests over three lifetimes of the certificates, none failed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_ends_with_its_agent_and_restarts_when_it_dies() -> anyhow::Result<()> {
    let mut pair = Pair::start("standalone-envoy").await?;
    pair.answers("first answer").await?;
    let agent = pair.client.process()?.pid();
    let envoy = eventually("Envoy's process", SOON, async || child_of(agent.as_raw())).await?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(envoy), Signal::SIGKILL)?;
    pair.answers("Envoy is back").await?;
    let envoy = eventually("Envoy's new process", SOON, async || child_of(agent.as_raw())).await?;
    pair.client.process()?.kill()?;
    eventually("Envoy ends with its agent", SOON, async || {
        anyhow::ensure!(
            !std::path::Path::new(&format!("/proc/{envoy}/exe")).exists(),
            "Envoy {envoy} still runs"
        );
        Ok(())
    })
    .await
}

/// The first child process of a process.
fn child_of(parent: i32) -> anyhow::Result<i32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let threads = std::fs::read_dir(format!("/proc/{parent}/task"))?;
    let all = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let text: String = children.into_iter().chain(all).collect();
    text.split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok())
        .ok_or_else(|| anyhow::anyhow!("{parent} has no child"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_refused_with_a_clear_message_and_left_alone() -> anyhow::Result<()> {
    let world = World::new("standalone-damaged-store")?;
    let mut plane = world.standalone("aws").await?;
    plane.api()?.apply(&permission("allow-all", "Allow", "*")).await?;
    plane.process()?.stop()?;
    let file = plane.data.join("store.redb");
    let whole = std::fs::read(&file)?;
    for damaged in [whole[..whole.len() / 2].to_vec(), Vec::new(), b"something else".repeat(1000)] {
        std::fs::write(&file, &damaged)?;
        let error = plane.start().await.err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(error.contains("store.redb") && error.contains("backup"), "{error}");
        assert_eq!(std::fs::read(&file)?, damaged, "the file was touched");
    }
    std::fs::write(&file, &whole)?;
    plane.start().await?;
    assert_eq!(plane.api()?.names("default", "trafficpermissions").await?, ["allow-all"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_does_and_why_can_be_looked_up() -> anyhow::Result<()> {
    let pair = Pair::start("standalone-inspect").await?;
    let api = pair.plane.api()?;
    api.apply(MTLS).await?;
    api.apply(&permission("allow-client", "Allow", "client")).await?;
    pair.answers("allowed by name").await?;
    let get = async |path: &str| -> anyhow::Result<serde_json::Value> {
        let (status, value) =
            api.send(reqwest::Method::GET, &format!("/meshes/default/{path}"), None).await?;
        anyhow::ensure!(status.is_success(), "{path}: {status}: {value}");
        Ok(value)
    };
    let policies = get("dataplanes/server-1/policies").await?;
    assert_eq!(policies["inbounds"][0]["permissions"][0]["name"], "allow-client", "{policies}");
    let config = get("dataplanes/server-1/config").await?;
    let allowed = &config["inbounds"][0]["tls"]["allowed"];
    assert_eq!(allowed[0]["Service"][1], "client", "{config}");
    let clusters = get("dataplanes/client-1/clusters").await?;
    assert_eq!(clusters["items"][0]["endpoints"][0]["port"], 6379, "{clusters}");
    let services = get("services").await?;
    assert_eq!(services["items"][1]["service"], "server", "{services}");
    assert_eq!(services["items"][1]["zones"]["aws"], 1, "{services}");
    let shown = |arguments: &[&str], expected: &[&str]| -> anyhow::Result<()> {
        let text = pair.plane.ursactl(&[&["inspect"], arguments].concat())?;
        let missing: Vec<_> = expected.iter().filter(|part| !text.contains(**part)).collect();
        anyhow::ensure!(missing.is_empty(), "{arguments:?} lacks {missing:?}:\n{text}");
        Ok(())
    };
    shown(&["meshes"], &["default", "ca-1"])?;
    shown(&["services"], &["server", "aws=1"])?;
    shown(&["dataplanes"], &["client-1", "server-1", "true", "1.40.0"])?;
    shown(&["dataplane", "server-1"], &["allow-client", "decision"])?;
    shown(&["dataplane", "client-1", "--type", "clusters", "-o", "json"], &["6379"])?;
    let size = get("dataplanes/client-1/size").await?;
    let bytes = |part: &serde_json::Value| part["bytes"].as_u64().unwrap_or_default();
    let services: u64 = size["services"].as_array().into_iter().flatten().map(bytes).sum();
    let of_server = &size["services"][0];
    anyhow::ensure!(of_server["service"] == "server" && of_server["endpoints"] == 1, "{size}");
    anyhow::ensure!(bytes(of_server) > 0 && services + bytes(&size["others"]) == bytes(&size), "{size}");
    let why_size = ["dataplane", "client-1", "--why-size"];
    shown(&why_size, &["server", "declared", "allow-client", "(inbounds, capture)"])?;
    pair.plane.ursactl(&["delete", "trafficpermission", "allow-client"])?;
    shown(&why_size, &["nobody: it is refused"])?;
    eventually("the certificate's end is known", SOON, async || {
        let insight = get("dataplanes/client-1/insight").await?;
        anyhow::ensure!(
            insight["connected"] == true && insight["certificateExpires"].is_string(),
            "{insight}"
        );
        anyhow::ensure!(insight["acknowledged"].as_u64() > Some(0), "{insight}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_permissive_inbound_lets_in_can_be_looked_up() -> anyhow::Result<()> {
    let pair = Pair::start("standalone-permissive").await?;
    pair.plane.api()?.apply(&MTLS.replace("  mtls:", "  mtls:\n    mode: Permissive")).await?;
    eventually("a plaintext call is shown", SOON * 2, async || {
        answer(pair.inbound).await?;
        let text = pair.plane.ursactl(&["inspect", "dataplane", "server-1"])?;
        let words = ["decision", "newest first", "127.0.0.1", "6379", "Plaintext"];
        anyhow::ensure!(words.iter().all(|word| text.contains(word)), "{text}");
        let insight =
            pair.plane.ursactl(&["inspect", "dataplane", "server-1", "--type", "insight", "-o", "json"])?;
        let insight: serde_json::Value = serde_json::from_str(&insight)?;
        let peer = &insight["unauthenticatedPeers"][0];
        anyhow::ensure!(peer["port"] == 6379 && peer["count"].as_u64() > Some(0), "{insight}");
        Ok(())
    })
    .await
}
