//! A zone of virtual machines in one mesh with the clusters, set up as the README says.

use anyhow::Context as _;
use serde_json::{Value, json};
use ursa_e2e::eventually;
use ursa_e2e::kind::{SOON, kubectl};
use ursa_e2e::vm::Vm;
use ursa_e2e::vm_zone::{VmZone, Workload};

use super::truth::programmed_means_enforced;
use super::world::{EAST, WEST, World};

const ZONE: &str = "vms";
/// Where its server answers by HTTP.
const TILL: &str = "http://till.mesh:8080/";

/// The zone, a server `till` and a client `walker`.
struct Machines {
    zone: VmZone,
    till: Vm,
    walker: Vm,
}

fn inbound(service: &str, port: u16, protocol: &str) -> Value {
    json!({"port": port, "tags": {"ursamesh.io/service": service, "ursamesh.io/protocol": protocol}})
}

impl Machines {
    async fn start() -> anyhow::Result<Self> {
        let (zone, till, walker) =
            tokio::try_join!(VmZone::start(ZONE), Vm::start("ursa-vms-till"), Vm::start("ursa-vms-walker"))?;
        Ok(Self { zone, till, walker })
    }

    fn all(&self) -> [&Vm; 4] {
        [&self.zone.plane, &self.zone.ingress, &self.till, &self.walker]
    }

    async fn join_all(&self, world: &World) -> anyhow::Result<()> {
        self.zone.join_global(&world.global).await?;
        world.until_state(ZONE, "Online").await?;
        self.till.service("ursa-e2e-app serve --name till --http 8080 --banner 9000").await?;
        let inbounds = json!([inbound("till", 8080, "http"), inbound("till", 9000, "tcp")]);
        let till = Workload {
            mesh: &world.kind.name,
            name: "till",
            services: &["till"],
            networking: json!({"capture": {}, "inbound": inbounds}),
            exclude_inbound_ports: "22",
        };
        // It calls by a port of its own at first, as programs without capture do.
        let web = json!({"ursamesh.io/service": world.kind.service("web")});
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
            exclude_inbound_ports: "22",
        };
        self.zone.join_workload(&self.walker, &walker).await
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

/// A server: its service, and where HTTP and the one that speaks first are.
struct Server {
    service: String,
    http: String,
    banner: String,
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
    world.until_state(ZONE, "Online").await?;
    world.at_global(kind.delete_policy("trafficpermission", "all")).await?;
    walker.refused(world, &till.http).await
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_and_pods_are_one_mesh() -> anyhow::Result<()> {
    let world = World::start("machines").await?;
    let machines = Machines::start().await?;
    let result = async {
        machines.join_all(&world).await?;
        let kind = &world.kind;
        let web = Server {
            service: kind.service("web"),
            http: format!("http://{}.mesh/", kind.service("web")),
            banner: format!("{}.mesh:9000", kind.service("web")),
        };
        let till =
            Server { service: "till".to_owned(), http: TILL.to_owned(), banner: "till.mesh:9000".to_owned() };
        let walker = Caller::Machine(&machines.walker);
        // Without capture: by the port that the Dataplane names.
        world.at_global(kind.judge("call", "Allow", "walker", &web.service)).await?;
        walker.answered(&world, "http://127.0.0.1:18080/").await?;
        world.at_global(kind.delete_policy("trafficpermission", "call")).await?;
        walker.refused(&world, "http://127.0.0.1:18080/").await?;
        // Joining again changes it.
        machines.join_walker(&world, json!({"capture": {}})).await?;

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
    world.at_global(kubectl(&["delete", "zone", ZONE, "--ignore-not-found"])).await?;
    world.end(result).await
}
