//! Global and three zones: what is applied at global reaches every zone, and traffic crosses by the zone ingresses.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use ursa_crds::{Kind, ObjectKey};
use ursa_e2e::{
    ANYBODY, Api, Banner, Load, MTLS, Multizone, Peer, Workload, ZONES, Zone, answer, eventually, permission,
    refused, refused_plaintext, route, shares,
};

/// Generous: the figures are printed, not judged.
const SOON: Duration = Duration::from_secs(10);

fn part(weight: u32, tags: &str) -> String {
    format!("{{weight: {weight}, destination: {{ursamesh.io/service: server, {tags}}}}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_talk() -> anyhow::Result<()> {
    let mesh = Multizone::start("multizone-talk").await?;
    let api = mesh.global.api()?;

    // 1: nothing enabled: traffic stays at home.
    for zone in &mesh.zones {
        eventually(&format!("{} reaches itself", zone.name), SOON, async || {
            let seen = shares(zone.outbound, 8).await?;
            anyhow::ensure!(seen.len() == 1 && seen.contains_key(zone.name), "{seen:?}");
            Ok(())
        })
        .await?;
    }
    // 2 and 3: default deny, then everybody reaches all zones.
    mesh.open().await?;
    for zone in &mesh.zones {
        refused_plaintext(zone.inbound).await?;
    }
    let zones = mesh.global.ursactl(&["inspect", "zones"])?;
    assert!(ZONES.iter().all(|zone| zones.contains(zone)) && !zones.contains("false"), "{zones}");
    let dataplanes = mesh.global.ursactl(&["inspect", "dataplanes"])?;
    assert!(ZONES.iter().all(|zone| dataplanes.contains(&format!("server-{zone}"))), "{dataplanes}");
    let services = mesh.global.ursactl(&["inspect", "services"])?;
    assert!(services.contains("aws=1 east=1 west=1"), "{services}");
    // 4: all to east.
    api.apply(&route(&part(1, "ursamesh.io/zone: east"))).await?;
    mesh.each_reaches(&["east"]).await?;
    // 5: half and half.
    let half = [part(50, "ursamesh.io/zone: aws"), part(50, "ursamesh.io/zone: east")].join(", ");
    api.apply(&route(&half)).await?;
    mesh.each_reaches(&["aws", "east"]).await?;
    for zone in &mesh.zones {
        let seen = shares(zone.outbound, 1_000).await?;
        println!("{}: {seen:?}", zone.name);
        // A fair coin leaves these bounds less than once in ten million.
        assert!(seen["aws"].abs_diff(500) <= 85, "{}: {seen:?}", zone.name);
    }
    // 6: only east may call; then a Deny wins over allow-all.
    api.apply(&permission("allow-all", "Allow", "ursamesh.io/zone: east")).await?;
    for zone in &mesh.zones {
        if zone.name == "east" {
            eventually("east still calls", SOON, async || answer(zone.outbound).await).await?;
        } else {
            eventually(&format!("{} is refused", zone.name), SOON, async || refused(zone.outbound).await)
                .await?;
        }
    }
    api.apply(&permission("allow-all", "Allow", ANYBODY)).await?;
    mesh.each_reaches(&["aws", "east"]).await?;
    api.apply(&permission("no-client", "Deny", "ursamesh.io/service: client")).await?;
    for zone in &mesh.zones {
        eventually(&format!("{} is denied", zone.name), SOON, async || refused(zone.outbound).await).await?;
    }
    api.delete(&ObjectKey::in_mesh(Kind::TrafficPermission, "default", "no-client")).await?;
    // 7: the route is gone: spread again.
    api.delete(&ObjectKey::in_mesh(Kind::TrafficRoute, "default", "server")).await?;
    mesh.each_reaches(&ZONES).await?;
    // 9: a second version in west takes all traffic, and gives it back.
    let west = &mesh.zones[2];
    let application = SocketAddr::new(mesh.world.addresses.host(3, 5), 16379);
    let _banner = Banner::start(application, "west-v2").await?;
    let second = Workload::new("server-v2", application.ip());
    let _agent = mesh
        .world
        .agent(&west.plane, &second.serves("server", 6379, application, &[("version", "v2")]))
        .await?;
    api.apply(&route(&part(1, "version: v2"))).await?;
    mesh.each_reaches(&["west-v2"]).await?;
    api.apply(&route(&part(1, "version: v1"))).await?;
    mesh.each_reaches(&ZONES).await
}

#[tokio::test(flavor = "multi_thread")]
async fn shifting_traffic_costs_no_request() -> anyhow::Result<()> {
    let mesh = Multizone::start("multizone-shifting").await?;
    mesh.open().await?;
    let api = mesh.global.api()?;
    let application = SocketAddr::new(mesh.world.addresses.host(3, 5), 16379);
    let _banner = Banner::start(application, "west-v2").await?;
    let second = Workload::new("server-v2", application.ip());
    let _agent = mesh
        .world
        .agent(&mesh.zones[2].plane, &second.serves("server", 6379, application, &[("version", "v2")]))
        .await?;
    mesh.each_reaches(&["aws", "east", "west", "west-v2"]).await?;
    let everywhere: &[&str] = &["aws", "east", "west", "west-v2"];
    let steps: [(String, &[&str]); 6] = [
        (part(1, "ursamesh.io/zone: east"), &["east"]),
        (
            [part(50, "ursamesh.io/zone: aws"), part(50, "ursamesh.io/zone: west")].join(", "),
            &["aws", "west", "west-v2"],
        ),
        (part(1, "version: v2"), &["west-v2"]),
        (part(1, "version: v1"), &ZONES),
        (
            [
                part(90, "version: v1"),
                part(10, "{version: v2, ursamesh.io/zone: west}".trim_matches(['{', '}'])),
            ]
            .join(", "),
            everywhere,
        ),
        (part(1, "ursamesh.io/zone: west"), &["west", "west-v2"]),
    ];
    let mut failures = Vec::new();
    for (split, expected) in steps {
        let load = Load::start(mesh.zones.iter().map(|zone| zone.outbound));
        api.apply(&route(&split)).await?;
        mesh.each_reaches(expected).await?;
        match load.stop().await {
            Ok(answered) => println!("{split}: {answered} requests on the way, none failed"),
            Err(error) => failures.push(format!("{split}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_counts_only_for_the_zone_whose_key_signed_it() -> anyhow::Result<()> {
    let mesh = Multizone::start("multizone-foreign").await?;
    mesh.open().await?;
    let id = |zone: &str| format!("spiffe://{zone}.default.ursa/service/client/ns/-/tags/-/proxy/thief");
    let west = mesh.zones[2].stolen("ca/default/ca-1")?;
    let stranger = ursa_identity::ZoneCa::generate(
        &ursa_model::TrustDomain::new("east", "default"),
        jiff::Timestamp::now(),
    )?;
    let rightful = Peer::forge(&west, &id("west"))?;
    let other_zone = Peer::forge(&west, &id("east"))?;
    let other_mesh = Peer::forge(&west, &id("west").replace(".default.", ".other."))?;
    let foreign = Peer::forge(&stranger.to_private_pem(), &id("east"))?;
    for zone in &mesh.zones {
        // The same client with a rightful certificate is heard: it is the certificate that decides.
        assert_eq!(rightful.hears(zone.inbound, b"").await?, format!("{}\n", zone.name), "{}", zone.name);
        for (name, peer) in
            [("another zone", &other_zone), ("another mesh", &other_mesh), ("a foreign CA", &foreign)]
        {
            assert_eq!(
                peer.hears(zone.inbound, b"").await?,
                "",
                "{} lets in an identity of {name}",
                zone.name
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_live_without_global_and_agree_with_it_again() -> anyhow::Result<()> {
    let mut mesh = Multizone::start("multizone-global-killed").await?;
    mesh.open().await?;
    mesh.global.process()?.kill()?;
    // Traffic goes on, a new workload is admitted, and a zone's control plane starts alone.
    mesh.each_reaches(&ZONES).await?;
    let application = SocketAddr::new(mesh.world.addresses.host(1, 6), 16379);
    let _banner = Banner::start(application, "aws-new").await?;
    let workload = Workload::new("server-new", application.ip()).serves("server", 6379, application, &[]);
    let _agent = mesh.world.agent(&mesh.zones[0].plane, &workload).await?;
    eventually("the new workload serves its zone", SOON, async || {
        let seen = shares(mesh.zones[0].outbound, 16).await?;
        anyhow::ensure!(seen.contains_key("aws-new"), "{seen:?}");
        Ok(())
    })
    .await?;
    mesh.zones[1].plane.process()?.kill()?;
    mesh.zones[1].plane.start().await?;
    mesh.each_reaches(&["aws", "aws-new", "east", "west"]).await.err(); // informative: others learn of it later
    mesh.global.start().await?;
    mesh.each_reaches(&["aws", "aws-new", "east", "west"]).await?;
    for zone in &mesh.zones {
        let names = zone.plane.api()?.names("default", "trafficpermissions").await?;
        assert_eq!(names, ["allow-all"], "{}", zone.name);
        assert_eq!(zone.plane.api()?.names("default", "meshzones").await?, ZONES, "{}", zone.name);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_control_plane_that_was_away_catches_up() -> anyhow::Result<()> {
    let mut mesh = Multizone::start("multizone-zone-killed").await?;
    mesh.open().await?;
    let api = mesh.global.api()?;
    api.apply(&route(&part(1, "ursamesh.io/zone: aws"))).await?;
    programmed(&api, "True", "all proxies that it touches enforce it: 1 in aws, 1 in east, 1 in west")
        .await?;
    mesh.each_reaches(&["aws"]).await?;
    mesh.zones[0].plane.process()?.kill()?;
    mesh.each_reaches(&["aws"]).await?;
    api.apply(&route(&part(1, "ursamesh.io/zone: east"))).await?;
    programmed(&api, "Unknown", "zone aws is away since ").await?;
    mesh.zones[0].plane.start().await?;
    programmed(&api, "True", "all proxies that it touches enforce it: 1 in aws, 1 in east, 1 in west")
        .await?;
    for zone in &mesh.zones {
        let seen = shares(zone.outbound, 24).await?;
        anyhow::ensure!(seen.keys().eq(["east"]), "what is programmed is enforced at once: {seen:?}");
    }
    Ok(())
}

/// What the REST API says of whether the route is in force.
async fn programmed(api: &Api, status: &str, words: &str) -> anyhow::Result<()> {
    eventually(&format!("Programmed is {status}"), SOON * 2, async || {
        let path = "/meshes/default/trafficroutes/server";
        let (_, route) = api.send(reqwest::Method::GET, path, None).await?;
        let conditions = route["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let told = conditions.iter().find(|condition| condition["type"] == "Programmed");
        let told = told.with_context(|| route.to_string())?;
        anyhow::ensure!(told["observedGeneration"] == route["metadata"]["generation"], "{route}");
        let message = told["message"].as_str().unwrap_or_default();
        anyhow::ensure!(told["status"] == status && message.starts_with(words), "{}", route["status"]);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_without_its_ingress_is_passed_over() -> anyhow::Result<()> {
    let mut mesh = Multizone::start("multizone-ingress-gone").await?;
    mesh.open().await?;
    mesh.zones[2].ingress.process()?.stop()?;
    let (last, others) = mesh.zones.split_last().expect("there are zones");
    for zone in others {
        eventually(&format!("{} does without west", zone.name), SOON, async || {
            let seen = shares(zone.outbound, 24).await?;
            anyhow::ensure!(seen.keys().eq(["aws", "east"]), "{seen:?}");
            Ok(())
        })
        .await?;
    }
    eventually("west goes on", SOON, async || answer(last.outbound).await).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_agent_costs_its_own_share_only_until_it_is_back() -> anyhow::Result<()> {
    let mut mesh = Multizone::start("multizone-agent-killed").await?;
    mesh.open().await?;
    mesh.zones[0].server.process()?.kill()?;
    let connected = async |connected: bool| {
        eventually(&format!("global knows: connected {connected}"), SOON, async || {
            let path = "/meshes/default/dataplanes+insights";
            let (_, list) = mesh.global.api()?.send(reqwest::Method::GET, path, None).await?;
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let of = items.iter().find(|item| item["dataplane"]["metadata"]["name"] == "server-aws");
            anyhow::ensure!(items.len() == 6 && of.is_some_and(|of| of["insight"]["connected"] == connected));
            Ok(())
        })
        .await
    };
    connected(false).await?;
    // Connections to the dead instance are tried elsewhere.
    eventually("the other zones answer aws", SOON, async || {
        let seen = shares(mesh.zones[0].outbound, 24).await?;
        anyhow::ensure!(seen.keys().eq(["east", "west"]), "{seen:?}");
        Ok(())
    })
    .await?;
    mesh.zones[0].server.start()?;
    connected(true).await?;
    mesh.zones[0].client.process()?.kill()?;
    mesh.zones[0].client.start()?;
    mesh.each_reaches(&ZONES).await
}

#[tokio::test(flavor = "multi_thread")]
async fn locality_prefers_the_own_zone_and_fails_over() -> anyhow::Result<()> {
    let mut mesh = Multizone::start("multizone-locality").await?;
    mesh.open().await?;
    let locality = format!("{MTLS}  routing: {{localityAwareLoadBalancing: true}}\n");
    mesh.global.api()?.apply(&locality).await?;
    for zone in &mesh.zones {
        eventually(&format!("{} stays at home", zone.name), SOON, async || {
            let seen = shares(zone.outbound, 24).await?;
            anyhow::ensure!(seen.keys().eq([zone.name]), "{seen:?}");
            Ok(())
        })
        .await?;
    }
    mesh.zones[0].server.process()?.stop()?;
    eventually("aws fails over", SOON, async || {
        let seen = shares(mesh.zones[0].outbound, 24).await?;
        anyhow::ensure!(seen.keys().eq(["east", "west"]), "{seen:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_global_deletes_nothing_until_it_is_adopted() -> anyhow::Result<()> {
    let mut mesh = Multizone::start("multizone-adoption").await?;
    mesh.open().await?;
    mesh.global.process()?.stop()?;
    std::fs::remove_file(mesh.global.data.join("store.redb"))?;
    mesh.global.start().await?;
    for (zone, number) in mesh.zones.iter().zip(1..) {
        let token = mesh.global.api()?.zone_token(zone.name).await?;
        std::fs::write(mesh.world.path(&format!("zone-token-{}", ZONES[number - 1])), token)?;
    }
    mesh.each_reaches(&ZONES).await?;
    let connected = async || {
        let (_, zones) = mesh.global.api()?.send(reqwest::Method::GET, "/zones+state", None).await?;
        let items = zones["items"].as_array().cloned().unwrap_or_default();
        // They listen, and do not follow.
        let count = items
            .iter()
            .filter(|zone| zone["state"] == "Online" && zone["secondsBehind"].as_u64() > Some(0))
            .count();
        anyhow::ensure!(count == 3, "{zones}");
        Ok(())
    };
    eventually("all zones are connected to the empty global", SOON, connected).await?;
    for zone in &mesh.zones {
        assert_eq!(
            zone.plane.api()?.names("default", "trafficpermissions").await?,
            ["allow-all"],
            "{}",
            zone.name
        );
    }
    let said = mesh.global.ursactl(&["adopt"])?;
    assert!(said.starts_with("adopted: "), "{said}");
    for zone in &mesh.zones {
        eventually(&format!("{} follows the adopted global", zone.name), SOON, async || {
            let names = zone.plane.api()?.names("default", "trafficpermissions").await?;
            anyhow::ensure!(names.is_empty(), "{names:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_meshes_behind_one_ingress_never_meet() -> anyhow::Result<()> {
    let mesh = Multizone::start("multizone-two-meshes").await?;
    mesh.open().await?;
    let api = mesh.global.api()?;
    api.apply(&MTLS.replace("name: default", "name: other")).await?;
    let allow = permission("allow-all", "Allow", ANYBODY).replace("spec:", "spec:\n  mesh: other");
    api.apply(&allow).await?;
    // In the other mesh the same service name runs in east only, and is called from aws.
    let known = async |zone: &Zone| {
        eventually("the other mesh is known", SOON, async || {
            zone.plane.api()?.names("other", "trafficpermissions").await
        })
        .await
    };
    known(&mesh.zones[0]).await?;
    known(&mesh.zones[1]).await?;
    let application = SocketAddr::new(mesh.world.addresses.host(2, 7), 16379);
    let _banner = Banner::start(application, "other-mesh").await?;
    let server = Workload::new("server-other", application.ip()).in_mesh("other").serves(
        "server",
        6379,
        application,
        &[],
    );
    let _server = mesh.world.agent(&mesh.zones[1].plane, &server).await?;
    let outbound = SocketAddr::new(mesh.world.addresses.host(1, 7), 26379);
    let own = SocketAddr::new(outbound.ip(), 5000);
    let client =
        Workload::new("client-other", outbound.ip()).in_mesh("other").serves("client", 5001, own, &[]);
    let _client = mesh.world.agent(&mesh.zones[0].plane, &client.calls("server", 26379)).await?;
    eventually("the other mesh reaches its own", SOON, async || {
        let seen = shares(outbound, 12).await?;
        anyhow::ensure!(seen.keys().eq(["other-mesh"]), "{seen:?}");
        Ok(())
    })
    .await?;
    mesh.each_reaches(&ZONES).await
}
