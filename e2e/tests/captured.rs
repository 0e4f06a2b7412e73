//! Virtual machines whose traffic the kernel sends to their Envoys: the real `ursa-init`, agents and Envoys in network
//! namespaces, by IPv4 and IPv6.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use ursa_e2e::hosts::{Family, Host};
use ursa_e2e::{MTLS, Process, World, eventually, permission};

const SOON: Duration = Duration::from_secs(10);
/// The kernels notice silence after four seconds; pings would take longer than this.
const NOTICED: Duration = Duration::from_secs(10);

/// The control plane, on a host of its own.
struct Plane {
    /// Joins all hosts.
    hub: Host,
    host: Host,
    data: String,
    _process: Process,
}

impl Plane {
    async fn start(world: &World, family: Family) -> anyhow::Result<Self> {
        let hub = Host::first(&world.logs())?;
        let host = Host::beside(&hub, 9, family)?;
        let data = world.path("cp").display().to_string();
        let name = host.address(family);
        let run = ["run", "--mode", "standalone", "--zone", "east", "--data-dir", &data, "--tls-name", &name];
        let everywhere = ["--agent-address", "[::]:5678", "--api-https", "[::]:5682"];
        let process = host.start("ursa-cp", &[&run[..], &everywhere].concat())?;
        let plane = Self { hub, host, data, _process: process };
        eventually("the control plane answers", SOON * 3, async || plane.ursactl(&["get", "meshes"])).await?;
        Ok(plane)
    }

    fn ursactl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let token = format!("{}/admin-token", self.data);
        let where_to = ["--api", "http://127.0.0.1:5681", "--token-file", &token];
        self.host.run("ursactl", &[arguments, &where_to].concat())
    }

    /// Whether it has the connection of this dataplane's agent.
    fn hears(&self, dataplane: &str) -> anyhow::Result<bool> {
        let insight =
            self.ursactl(&["inspect", "dataplane", dataplane, "--type", "insight", "-o", "json"])?;
        let insight: Value = serde_json::from_str(&insight)?;
        insight["connected"].as_bool().with_context(|| insight.to_string())
    }

    fn apply(&self, world: &World, yaml: &str) -> anyhow::Result<()> {
        let file = world.path("applied.yaml");
        std::fs::write(&file, yaml)?;
        self.ursactl(&["apply", "-f", &file.display().to_string()]).map(drop)
    }
}

/// A virtual machine with a sidecar; all that its workload sends and is sent is captured.
struct Machine {
    host: Host,
    agent: Process,
}

impl Machine {
    fn join(plane: &Plane, number: u8, name: &str, ports: &Value, family: Family) -> anyhow::Result<Self> {
        let host = Host::beside(&plane.hub, number, family)?;
        let inbound = |(port, protocol): (&String, &Value)| {
            let tags = json!({"ursamesh.io/service": name, "ursamesh.io/protocol": protocol});
            json!({"port": port.parse::<u16>().unwrap_or_default(), "tags": tags})
        };
        let inbound: Vec<Value> = ports.as_object().into_iter().flatten().map(inbound).collect();
        let dataplane = json!({
            "apiVersion": "ursamesh.io/v1alpha1", "kind": "Dataplane", "metadata": {"name": name},
            "spec": {"networking": {"address": host.address(family), "capture": {}, "inbound": inbound}},
        });
        let generate =
            ["generate", "dataplane-token", "--name", name, "--service", name, "--valid-for", "1h"];
        let token = plane.ursactl(&generate)?;
        let ca = std::fs::read_to_string(format!("{}/tls/ca.pem", plane.data))?;
        host.write("/mnt/dp/dataplane.yaml", &dataplane.to_string())?;
        host.write("/mnt/dp/token", token.trim())?;
        host.write("/mnt/dp/ca.pem", &ca)?;
        host.run("ursa-init", &["up"])?;
        let at = match family {
            Family::V4 => format!("https://{}:5678", plane.host.address(family)),
            Family::V6 => format!("https://[{}]:5678", plane.host.address(family)),
        };
        let files = ["--dataplane-file", "/mnt/dp/dataplane.yaml", "--token-file", "/mnt/dp/token"];
        let agent =
            host.start_agent(&[&files[..], &["--ca-file", "/mnt/dp/ca.pem", "--cp-address", &at]].concat())?;
        Ok(Self { host, agent })
    }
}

/// The call is answered soon.
async fn answered(host: &Host, url: &str) -> anyhow::Result<Value> {
    eventually(&format!("{url} answers"), SOON, async || host.workload(&["call", url])).await
}

/// The call is refused soon.
async fn refused(host: &Host, url: &str) -> anyhow::Result<()> {
    eventually(&format!("{url} refuses"), SOON, async || match host.workload(&["call", url]) {
        Ok(answer) => Err(format!("answered: {answer}")),
        Err(_) => Ok(()),
    })
    .await
}

async fn machines_in_the_mesh(test: &str, family: Family, virtual_prefix: &str) -> anyhow::Result<()> {
    let world = World::new(test)?;
    let plane = Plane::start(&world, family).await?;
    let server = Machine::join(&plane, 2, "server", &json!({"8080": "http", "9000": "tcp"}), family)?;
    let served = ["serve", "--name", "server", "--http", "8080", "--banner", "9000"];
    let _application = server.host.start_workload(&served)?;
    let client = Machine::join(&plane, 3, "client", &json!({"8081": "http"}), family)?;
    let stranger = Host::beside(&plane.hub, 4, family)?;
    let own = match family {
        Family::V4 => format!("http://{}:8080/", server.host.address(family)),
        Family::V6 => format!("http://[{}]:8080/", server.host.address(family)),
    };

    // By the mesh's DNS, which nobody but the agent serves.
    eventually("the name is known", SOON * 2, async || {
        let found = client.host.workload(&["resolve", "server.mesh"])?;
        let addresses = found["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
        let right = |address: &Value| address.as_str().is_some_and(|text| text.starts_with(virtual_prefix));
        anyhow::ensure!(!addresses.is_empty() && addresses.iter().all(right), "{found}");
        Ok(())
    })
    .await?;
    let nobody = client.host.workload(&["resolve", "nobody.mesh"])?;
    anyhow::ensure!(nobody["addresses"] == json!([]), "{nobody}");
    let url = "http://server.mesh:8080/";
    answered(&client.host, url).await?;
    answered(&stranger, &own).await?;

    plane.apply(&world, MTLS)?;
    refused(&client.host, url).await?;
    refused(&stranger, &own).await?;
    plane.apply(&world, &permission("client", "Allow", "ursamesh.io/service: client"))?;
    let answer = answered(&client.host, url).await?;
    anyhow::ensure!(
        answer["caller"].as_str().is_some_and(|caller| caller.contains("/service/client/")),
        "{answer}"
    );
    let heard = client.host.workload(&["listen", "server.mesh:9000"])?;
    anyhow::ensure!(heard["heard"] == "server speaks first\n", "{heard}");
    refused(&stranger, &own).await?;
    // Not even one byte of a server that speaks first.
    let at_banner = own.replace("http://", "").replace("8080/", "9000");
    let heard = stranger.workload(&["listen", &at_banner])?;
    anyhow::ensure!(heard["heard"] == "", "{heard}");

    // Without capture a workload is a stranger, and the mesh's names are nobody's.
    client.host.run("ursa-init", &["down"])?;
    refused(&client.host, &own).await?;
    let nobody = client.host.workload(&["resolve", "server.mesh"])?;
    anyhow::ensure!(nobody["addresses"] == json!([]), "{nobody}");
    client.host.run("ursa-init", &["up"])?;
    answered(&client.host, url).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_machines_by_ipv4() -> anyhow::Result<()> {
    machines_in_the_mesh("captured-ipv4", Family::V4, "24").await
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_machines_by_ipv6() -> anyhow::Result<()> {
    machines_in_the_mesh("captured-ipv6", Family::V6, "fd75:7273:61").await
}

/// The control plane's cable is pulled. Both ends of agents' connections notice, and traffic between workloads goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_link_is_noticed_at_both_ends() -> anyhow::Result<()> {
    let world = World::new("captured-cut")?;
    let plane = Plane::start(&world, Family::V4).await?;
    plane.apply(&world, MTLS)?;
    plane.apply(&world, &permission("client", "Allow", "ursamesh.io/service: client"))?;
    let server = Machine::join(&plane, 2, "server", &json!({"8080": "http"}), Family::V4)?;
    let _application = server.host.start_workload(&["serve", "--name", "server", "--http", "8080"])?;
    let client = Machine::join(&plane, 3, "client", &json!({"8081": "http"}), Family::V4)?;
    let url = "http://server.mesh:8080/";
    eventually("the workloads talk", SOON * 3, async || client.host.workload(&["call", url])).await?;

    let logged = [&server, &client].map(|machine| machine.agent.log().len());
    let notice = |machine: &Machine, logged: usize| {
        let log = machine.agent.log();
        anyhow::ensure!(log[logged..].contains("not connected to the control plane"), "its agent: {log}");
        Ok(())
    };
    for name in ["server", "client"] {
        anyhow::ensure!(plane.hears(name)?, "{name} is not connected");
    }
    let mut failed = Vec::new();
    plane.host.unplug(&plane.hub)?;
    eventually("both ends notice", NOTICED, async || {
        failed.extend(client.host.workload(&["call", url]).err());
        notice(&server, logged[0])?;
        notice(&client, logged[1])?;
        anyhow::ensure!(!plane.hears("server")? && !plane.hears("client")?, "the control plane has not");
        Ok(())
    })
    .await?;
    anyhow::ensure!(failed.is_empty(), "calls failed meanwhile: {failed:?}");
    answered(&client.host, url).await?;

    plane.host.plug(&plane.hub)?;
    eventually("the agents are back", SOON * 3, async || {
        anyhow::ensure!(plane.hears("server")? && plane.hears("client")?, "not both are connected");
        Ok(())
    })
    .await
}
