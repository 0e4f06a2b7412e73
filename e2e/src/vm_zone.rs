//! A zone of virtual machines, set up as the README says.

use serde_json::{Value, json};

use crate::hosts::Family;
use crate::vm::Vm;
use crate::zones::Global;

/// Where on a machine its administrator has put what was brought.
const BROUGHT: &str = "/run/brought";

/// What a machine with a workload is in the mesh.
#[derive(Debug)]
pub struct Workload<'a> {
    /// The mesh.
    pub mesh: &'a str,
    /// The Dataplane's name.
    pub name: &'a str,
    /// The services that it serves.
    pub services: &'a [&'a str],
    /// Of its Dataplane, besides the address.
    pub networking: Value,
    /// Of the machine's addresses, that of its Dataplane.
    pub family: Family,
    /// Ports at which it is reached without the proxy, if not all but SSH's is captured.
    pub exclude_inbound_ports: &'a str,
}

/// The zone: the machines of its control plane and its ingress.
#[derive(Debug)]
pub struct VmZone {
    /// The zone.
    pub zone: &'static str,
    /// Its control plane's machine.
    pub plane: Vm,
    /// Its ingress's machine.
    pub ingress: Vm,
}

impl VmZone {
    /// Starts both machines; nothing of Ursa runs yet.
    pub async fn start(zone: &'static str) -> anyhow::Result<Self> {
        let (plane, ingress) = (format!("ursa-{zone}-cp"), format!("ursa-{zone}-ingress"));
        let (plane, ingress) = tokio::try_join!(Vm::start(&plane), Vm::start(&ingress))?;
        Ok(Self { zone, plane, ingress })
    }

    /// The control plane joins global.
    pub async fn join_global(&self, global: &Global) -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().display().to_string();
        let Self { zone, plane, .. } = self;
        global.ursactl(&["zone", "create", zone, "--folder", &path]).await?;
        for name in ["zone-token", "global-ca.pem"] {
            let content = std::fs::read_to_string(folder.path().join(name))?;
            plane.write(&format!("{BROUGHT}/{name}"), &content).await?;
        }
        let (global, own) = (global.sync_address()?, &plane.address);
        plane
            .shell(&format!(
                "cd {BROUGHT}; mkdir -p config; ln -sfn /usr/local/share/ursa config/vm
install -D -m 644 config/vm/ursa.sysusers.conf /etc/sysusers.d/ursa.conf && systemd-sysusers
install -D -o ursa-cp -m 600 zone-token /etc/ursa/zone-token
install -D -o ursa-cp -m 600 global-ca.pem /etc/ursa/global-ca.pem
cat > /etc/ursa/ursa-cp.env <<ENV
URSA_CP_MODE=zone
URSA_CP_ZONE={zone}
URSA_CP_TLS_NAMES={own}
URSA_CP_GLOBAL_ADDRESS={global}
URSA_CP_GLOBAL_CA_FILE=/etc/ursa/global-ca.pem
URSA_CP_ZONE_TOKEN_FILE=/etc/ursa/zone-token
ENV
install -m 644 config/vm/ursa-cp.service /etc/systemd/system/ && systemctl enable --now ursa-cp"
            ))
            .await
            .map(drop)
    }

    /// What `ursactl` prints about the zone's control plane.
    pub async fn ursactl(&self, arguments: &str) -> anyhow::Result<String> {
        let api = "URSA_API=http://127.0.0.1:5681 URSA_TOKEN_FILE=/var/lib/ursa-cp/admin-token";
        self.plane.shell(&format!("{api} ursactl {arguments}")).await
    }

    /// One command on a machine whose administrator has brought a resource, a token and the control plane's authorities.
    async fn join(&self, vm: &Vm, resource: &Value, token: &str, excluded: &str) -> anyhow::Result<()> {
        let ca = self.plane.shell("cat /var/lib/ursa-cp/tls/ca.pem").await?;
        let files = [("dataplane.yaml", resource.to_string()), ("token", token.to_owned()), ("ca.pem", ca)];
        for (name, content) in files {
            vm.write(&format!("{BROUGHT}/{name}"), &content).await?;
        }
        let address = &self.plane.address;
        let join = "ursa-dp join --dataplane-file dataplane.yaml --token-file token --ca-file ca.pem";
        let further = format!("--cp-address https://{address}:5678 --exclude-inbound-ports '{excluded}'");
        let said = vm.shell(&format!("cd {BROUGHT}; {join} {further}")).await?;
        anyhow::ensure!(said.contains("serves, by ursa-dp.service"), "{said}");
        Ok(())
    }

    /// The zone's ingress joins.
    pub async fn join_ingress(&self) -> anyhow::Result<()> {
        let place = json!({"address": self.ingress.address, "port": 10001});
        let resource = json!({
            "apiVersion": "ursamesh.io/v1alpha1", "kind": "ZoneIngress", "metadata": {"name": "ingress"},
            "spec": {"zone": self.zone, "networking": place, "advertised": place},
        });
        let token = self.ursactl("generate ingress-token --name ingress --valid-for 1h").await?;
        self.join(&self.ingress, &resource, &token, "").await
    }

    /// A workload's machine joins, or joins again as another.
    pub async fn join_workload(&self, vm: &Vm, workload: &Workload<'_>) -> anyhow::Result<()> {
        let Workload { mesh, name, services, networking, family, exclude_inbound_ports } = workload;
        let mut networking = networking.clone();
        networking["address"] = json!(vm.address_of(*family));
        let resource = json!({
            "apiVersion": "ursamesh.io/v1alpha1", "kind": "Dataplane", "metadata": {"name": name},
            "spec": {"mesh": mesh, "networking": networking},
        });
        let services = services.join(" --service ");
        let generate = format!(
            "generate dataplane-token --mesh {mesh} --name {name} --service {services} --valid-for 1h"
        );
        let token = self.ursactl(&generate).await?;
        self.join(vm, &resource, &token, exclude_inbound_ports).await
    }
}
