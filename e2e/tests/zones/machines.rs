//! A zone of virtual machines in one mesh with the clusters, set up as the README says.

use std::net::IpAddr;

use anyhow::Context as _;
use serde_json::{Value, json};
use ursa_e2e::eventually;
use ursa_e2e::hosts::Family;
use ursa_e2e::kind::{SOON, kubectl};
use ursa_e2e::vm::Vm;
use ursa_e2e::vm_zone::{VmZone, Workload};

use super::truth::programmed_means_enforced;
use super::world::{EAST, WEST, World};

/// Where its server answers by HTTP.
const TILL: &str = "http://till.mesh:8080/";

/// The zone, a server `till` and a client `walker`.
struct Machines {
    zone: VmZone,
    /// Of the addresses of both.
    family: Family,
    till: Vm,
    walker: Vm,
}

fn inbound(service: &str, port: u16, protocol: &str) -> Value {
    json!({"port": port, "tags": {"ursamesh.io/service": service, "ursamesh.io/protocol": protocol}})
}

impl Machines {
    async fn start(zone: &'static str, family: Family) -> anyhow::Result<Self> {
        let [till, walker] = ["till", "walker"].map(|name| format!("ursa-{zone}-{name}"));
        let (zone, till, walker) =
            tokio::try_join!(VmZone::start(zone), Vm::start(&till), Vm::start(&walker))?;
        Ok(Self { zone, family, till, walker })
    }

    fn all(&self) -> [&Vm; 4] {
        [&self.zone.plane, &self.zone.ingress, &self.till, &self.walker]
    }

    async fn join_all(&self, world: &World) -> anyhow::Result<()> {
        self.zone.join_global(&world.global).await?;
        world.until_state(self.zone.zone, "Online").await?;
        self.till.service("ursa-e2e-app serve --name till --http 8080 --banner 9000").await?;
        let inbounds = json!([inbound("till", 8080, "http"), inbound("till", 9000, "tcp")]);
        let till = Workload {
            mesh: &world.kind.name,
            name: "till",
            services: &["till"],
            networking: json!({"capture": {}, "inbound": inbounds}),
            family: self.family,
            exclude_inbound_ports: "22",
        };
        // It calls by a port of its own at first, as programs without capture do.
        let web = json!({"ursamesh.io/service": world.kind.service("web"), "ursamesh.io/port": "80"});
        let calls = json!({"outbound": [{"address": "127.0.0.1", "port": 18080, "tags": web}]});
        tokio::try_join!(
            self.zone.join_ingress(),
            self.zone.join_workload(&self.till, &till),
            self.join_walker(world, calls),
        )
        .map(drop)
    }

    async fn join_walker(&self, world: &World, networking: Value) -> anyhow::Result<()> {
        let mut networking = networking;
        networking["inbound"] = json!([inbound("walker", 8081, "http")]);
        let walker = Workload {
            mesh: &world.kind.name,
            name: "walker",
            services: &["walker"],
            networking,
            family: self.family,
            exclude_inbound_ports: "22",
        };
        self.zone.join_workload(&self.walker, &walker).await
    }

    /// A machine finds services of other zones at addresses like its own.
    async fn names_are_of_its_family(&self, service: &str) -> anyhow::Result<()> {
        eventually(&format!("{service}.mesh has an address"), SOON * 2, async || {
            let found = self.walker.workload(&["resolve", &format!("{service}.mesh")]).await?;
            let addresses: Vec<IpAddr> = serde_json::from_value(found["addresses"].clone())?;
            let own = |address: &IpAddr| address.is_ipv6() == (self.family == Family::V6);
            anyhow::ensure!(!addresses.is_empty() && addresses.iter().all(own), "{found}");
            Ok(())
        })
        .await
    }
}

/// Where a caller is.
#[derive(Clone, Copy)]
enum Caller<'a> {
    Pod,
    Machine(&'a Vm),
}

impl Caller<'_> {
    fn service(self, world: &World) -> String {
        match self {
            Self::Pod => world.kind.service("client"),
            Self::Machine(_) => "walker".to_owned(),
        }
    }

    async fn run(self, world: &World, arguments: &[&str]) -> anyhow::Result<Value> {
        match self {
            Self::Pod => world.in_east(world.kind.exec("client", arguments)).await,
            Self::Machine(vm) => vm.workload(arguments).await,
        }
    }

    async fn answered(self, world: &World, url: &str) -> anyhow::Result<Value> {
        eventually(&format!("{url} answers {}", self.service(world)), SOON * 2, async || {
            self.run(world, &["call", url]).await
        })
        .await
    }

    async fn refused(self, world: &World, url: &str) -> anyhow::Result<()> {
        eventually(&format!("{url} refuses {}", self.service(world)), SOON * 2, async || {
            match self.run(world, &["call", url]).await {
                Ok(answer) => Err(format!("answered: {answer}")),
                Err(_) => Ok(()),
            }
        })
        .await
    }
}

/// A server: its service, where HTTP and the one that speaks first are, and of which family its own address is.
struct Server {
    service: String,
    http: String,
    banner: String,
    family: Family,
}

/// In which version of IP a server got a call from its own proxy, by where from.
fn delivered_by(answer: &Value) -> Option<Family> {
    match answer["peer"].as_str()? {
        "127.0.0.6" => Some(Family::V4),
        "::6" => Some(Family::V6),
        _ => None,
    }
}

/// The same whoever calls whom: refused, allowed by one object, known by name, refused by another, and never heard by strangers.
async fn permissions_hold(world: &World, caller: Caller<'_>, server: &Server) -> anyhow::Result<()> {
    let kind = &world.kind;
    let own = caller.service(world);
    caller.refused(world, &server.http).await.context("nothing is permitted")?;
    let heard = caller.run(world, &["listen", &server.banner]).await?;
    anyhow::ensure!(heard["heard"] == "", "a stranger heard {heard}");
    world.at_global(kind.judge("call", "Allow", &own, &server.service)).await?;
    let answer = caller.answered(world, &server.http).await?;
    let known = answer["caller"].as_str().unwrap_or_default();
    anyhow::ensure!(known.contains(&format!("/service/{own}/")), "{answer}");
    anyhow::ensure!(delivered_by(&answer) == Some(server.family), "{answer}");
    let heard = caller.run(world, &["listen", &server.banner]).await?;
    anyhow::ensure!(heard["heard"].as_str().is_some_and(|heard| !heard.is_empty()), "{heard}");
    world.programmed("call", "30s").await?;
    world.at_global(kind.judge("stop", "Deny", &own, &server.service)).await?;
    caller.refused(world, &server.http).await.context("it is denied")?;
    for policy in ["stop", "call"] {
        world.at_global(kind.delete_policy("trafficpermission", policy)).await?;
    }
    Ok(())
}

/// In each of the three zones somebody calls all the time.
async fn programmed_is_enforced_in_all_zones(world: &World, machines: &Machines) -> anyhow::Result<()> {
    let kind = &world.kind;
    world.populate(WEST, "web").await?;
    world.at_global(kind.permit("all", "*", "*")).await?;
    world.programmed("all", "60s").await?;
    let mut callers = vec![machines.walker.start_workload(&["flips", TILL]).await?];
    for zone in [EAST, WEST] {
        let calls = kind.start("client", &["flips", "http://web/"]);
        callers.push(world.in_zone(zone, calls).await?);
    }
    programmed_means_enforced(world, callers).await?;
    world.at_global(kind.delete_policy("trafficpermission", "all")).await
}

/// A machine starts again while its control plane is away: its traffic is captured, and it is who it was.
async fn machines_start_alone(world: &World, machines: &Machines, till: &Server) -> anyhow::Result<()> {
    let kind = &world.kind;
    let walker = Caller::Machine(&machines.walker);
    world.at_global(kind.judge("all", "Allow", "'*'", "'*'")).await?;
    walker.answered(world, &till.http).await?;
    world.programmed("all", "30s").await?;
    machines.zone.plane.stop().await?;
    tokio::try_join!(machines.till.stop(), machines.walker.stop(), machines.zone.ingress.stop())?;
    tokio::try_join!(machines.till.boot(), machines.walker.boot(), machines.zone.ingress.boot())?;
    let answer = walker.answered(world, &till.http).await?;
    anyhow::ensure!(
        answer["caller"].as_str().is_some_and(|caller| caller.contains("/service/walker/")),
        "{answer}"
    );
    Caller::Pod.answered(world, &till.http).await?;
    machines.zone.plane.boot().await?;
    world.until_state(machines.zone.zone, "Online").await?;
    world.at_global(kind.delete_policy("trafficpermission", "all")).await?;
    walker.refused(world, &till.http).await
}

/// Machines of such addresses; what pods and zones have among themselves stays as it is.
async fn are_one_mesh_with_pods(test: &str, zone: &'static str, family: Family) -> anyhow::Result<()> {
    let world = World::start(test).await?;
    let machines = Machines::start(zone, family).await?;
    let result = async {
        machines.join_all(&world).await?;
        let kind = &world.kind;
        let web = Server {
            service: kind.service("web"),
            http: format!("http://{}.mesh/", kind.service("web")),
            banner: format!("{}.mesh:9000", kind.service("web")),
            family: Family::V4,
        };
        let till = Server {
            service: "till".to_owned(),
            http: TILL.to_owned(),
            banner: "till.mesh:9000".to_owned(),
            family,
        };
        let walker = Caller::Machine(&machines.walker);
        // Without capture: by the port that the Dataplane names.
        world.at_global(kind.judge("call", "Allow", "walker", &web.service)).await?;
        walker.answered(&world, "http://127.0.0.1:18080/").await?;
        world.at_global(kind.delete_policy("trafficpermission", "call")).await?;
        walker.refused(&world, "http://127.0.0.1:18080/").await?;
        // Joining again changes it.
        machines.join_walker(&world, json!({"capture": {}})).await?;
        machines.names_are_of_its_family(&web.service).await?;

        for (what, caller, server) in [
            ("pod to machine", Caller::Pod, &till),
            ("machine to pod", walker, &web),
            ("machine to machine", walker, &till),
            ("pod to pod", Caller::Pod, &web),
        ] {
            permissions_hold(&world, caller, server).await.context(what)?;
        }
        programmed_is_enforced_in_all_zones(&world, &machines).await?;
        machines_start_alone(&world, &machines, &till).await
    }
    .await;
    world.keep_machines(&result, &machines.all()).await;
    world.at_global(kubectl(&["delete", "zone", zone, "--ignore-not-found"])).await?;
    world.end(result).await
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_and_pods_are_one_mesh() -> anyhow::Result<()> {
    are_one_mesh_with_pods("machines", "vms", Family::V4).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make test-long"]
async fn machines_by_ipv6_and_pods_are_one_mesh() -> anyhow::Result<()> {
    are_one_mesh_with_pods("machines6", "vms6", Family::V6).await
}
