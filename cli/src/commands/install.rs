//! `install`: what `kubectl apply -f -` takes to install Ursa in a cluster. Nothing is sent from here.

use anyhow::Context as _;
use serde_json::{Value, json};
use ursa_crds::{ControlPlaneMode, DEFAULT_ZONE, OPERATOR_KINDS, ServiceType};

use crate::args::{ControlPlaneArgs, Images, Install, InstallMode, InstallServiceType, ZoneIngressArgs};
use crate::failure::usage;
use crate::output;

/// The operator's manifest, as kustomize has it.
const BASE: [&str; 4] = [
    include_str!("../../../config/base/namespace.yaml"),
    include_str!("../../../config/base/rbac.yaml"),
    include_str!("../../../config/base/roles.yaml"),
    include_str!("../../../config/base/operator.yaml"),
];

/// The namespace that it is in there: nothing else there is called so.
const RELEASED: &str = "ursa-system";

pub(crate) fn run(install: &Install) -> anyhow::Result<()> {
    let objects = match install {
        Install::Operator { namespace, images } => operator(namespace, images)?,
        Install::ControlPlane(args) => vec![control_plane(args)?],
        Install::ZoneIngress(args) => vec![zone_ingress(args)],
        Install::Crds => definitions(|_| true)?,
    };
    let texts: Vec<String> = objects.iter().map(output::yaml).collect::<anyhow::Result<_>>()?;
    output::print(&texts.join("---\n"))
}

/// The definitions of kinds by their singular.
fn definitions(wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Value>> {
    let found = ursa_crds::definitions().context("a definition is not structural")?;
    Ok(found.into_iter().filter(|found| wanted(found.singular)).map(|found| found.value).collect())
}

/// The operator, and the kind that it acts on, so that a ControlPlane can be created at once; it installs the others.
fn operator(namespace: &str, images: &Images) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    let is_letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    if namespace.is_empty() || !namespace.as_bytes().iter().all(is_letter) {
        return Err(usage(format!("--namespace {namespace:?} is not the name of a namespace")));
    }
    for text in BASE {
        for mut object in ursa_crds::parse_documents(text.replace(RELEASED, namespace).as_bytes())? {
            place(&mut object, images);
            objects.push(object);
        }
    }
    objects.extend(definitions(|singular| OPERATOR_KINDS.iter().any(|kind| kind.singular == singular))?);
    Ok(objects)
}

/// Puts these images into an object of the manifest.
fn place(object: &mut Value, images: &Images) {
    let Some(container) = object.pointer_mut("/spec/template/spec/containers/0") else { return };
    if let Some(image) = &images.image {
        container["image"] = json!(image);
    }
    for variable in container["env"].as_array_mut().into_iter().flatten() {
        let image = match variable["name"].as_str() {
            Some("URSA_OPERATOR_IMAGE") => &images.image,
            Some("URSA_OPERATOR_DATAPLANE_IMAGE") => &images.dataplane_image,
            _ => continue,
        };
        if let Some(image) = image {
            variable["value"] = json!(image);
        }
    }
}

fn control_plane(args: &ControlPlaneArgs) -> anyhow::Result<Value> {
    let mode = match args.mode {
        InstallMode::Standalone => ControlPlaneMode::Standalone,
        InstallMode::Global => ControlPlaneMode::Global,
        InstallMode::Zone => ControlPlaneMode::Zone,
    };
    let mut spec = json!({"mode": mode});
    let fields = [
        ("replicas", args.replicas.map(|replicas| json!(replicas))),
        ("image", args.images.image.as_ref().map(|image| json!(image))),
        ("dataplaneImage", args.images.dataplane_image.as_ref().map(|image| json!(image))),
        ("zone", zone(args)?),
        ("service", args.service_type.map(|service_type| json!({"type": kind_of(service_type)}))),
        ("tls", (!args.tls_names.is_empty()).then(|| json!({"names": args.tls_names}))),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            spec[field] = value;
        }
    }
    Ok(json!({
        "apiVersion": ursa_crds::API_VERSION, "kind": "ControlPlane",
        "metadata": {"name": args.name, "namespace": args.namespace}, "spec": spec,
    }))
}

fn zone(args: &ControlPlaneArgs) -> anyhow::Result<Option<Value>> {
    let given = |value: &Option<String>, flag: &str| {
        value.clone().ok_or_else(|| usage(format!("--mode zone needs {flag}")))
    };
    match args.mode {
        InstallMode::Zone => Ok(Some(json!({
            "name": given(&args.zone, "--zone")?,
            "globalAddress": given(&args.global_address, "--global-address")?,
            "credentialSecretRef": {"name": given(&args.credential_secret, "--credential-secret")?},
        }))),
        _ if args.global_address.is_some() || args.credential_secret.is_some() => {
            Err(usage("--global-address and --credential-secret are for --mode zone"))
        }
        InstallMode::Global if args.zone.is_some() => {
            Err(usage("a global control plane is in no zone: leave --zone out"))
        }
        _ => Ok(args.zone.as_ref().filter(|zone| *zone != DEFAULT_ZONE).map(|zone| json!({"name": zone}))),
    }
}

fn kind_of(service_type: InstallServiceType) -> ServiceType {
    match service_type {
        InstallServiceType::LoadBalancer => ServiceType::LoadBalancer,
        InstallServiceType::NodePort => ServiceType::NodePort,
        InstallServiceType::ClusterIp => ServiceType::ClusterIP,
    }
}

fn zone_ingress(args: &ZoneIngressArgs) -> Value {
    let mut service = json!({"type": kind_of(args.service_type)});
    if let Some(port) = args.port {
        service["port"] = json!(port);
    }
    let mut spec = json!({"controlPlaneRef": {"name": args.control_plane}, "service": service});
    if let Some(replicas) = args.replicas {
        spec["replicas"] = json!(replicas);
    }
    if let Some(at) = args.advertised {
        spec["advertised"] = json!({"address": at.ip(), "port": at.port()});
    }
    json!({
        "apiVersion": ursa_crds::API_VERSION, "kind": "ZoneIngress",
        "metadata": {"name": args.name, "namespace": args.namespace}, "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use ursa_crds::{ControlPlane, ZoneIngress};

    use super::*;
    use crate::args::{Cli, Command};

    fn install(line: &str) -> Install {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Install(install) => install,
            command => panic!("{command:?}"),
        }
    }

    #[test]
    fn everything_of_the_operator_goes_into_the_namespace_with_the_images() {
        let Install::Operator { namespace, images } = install(
            "ursactl install operator --namespace mesh --image r/ursa:2 --dataplane-image r/ursa-dp:2",
        ) else {
            panic!("another command")
        };
        let objects = operator(&namespace, &images).unwrap();
        let text = serde_json::to_string(&objects).unwrap();
        assert!(!text.contains("ursa-system"), "{text}");
        assert_eq!(text.matches("\"r/ursa:2\"").count(), 2);
        assert_eq!(text.matches("\"r/ursa-dp:2\"").count(), 1);
        assert_eq!(objects[0]["metadata"]["name"], "mesh");
        assert_eq!(objects.last().unwrap()["metadata"]["name"], "controlplanes.ursamesh.io");
    }

    #[test]
    fn a_control_plane_says_what_was_asked_for_and_reads_back() {
        let Install::ControlPlane(args) = install(
            "ursactl install control-plane --mode zone --zone east --replicas 3 --global-address https://g:5685 --credential-secret zone-east",
        ) else {
            panic!("another command")
        };
        let value = control_plane(&args).unwrap();
        let read: ControlPlane = serde_json::from_value(value).unwrap();
        assert_eq!(
            (read.spec.mode, read.spec.replicas, read.spec.zone_name()),
            (ControlPlaneMode::Zone, 3, Some("east"))
        );
    }

    #[test]
    fn a_zone_ingress_says_what_was_asked_for_and_reads_back() {
        let read = |line: &str| -> ZoneIngress {
            let Install::ZoneIngress(args) = install(line) else { panic!("another command") };
            serde_json::from_value(zone_ingress(&args)).unwrap()
        };
        let plain = read("ursactl install zone-ingress");
        assert_eq!(plain.metadata.name.as_deref(), Some("ingress"));
        assert_eq!(plain.spec.control_plane_ref.map(|of| of.name).as_deref(), Some("ursa"));
        assert_eq!(plain.spec.service, Some(ursa_crds::IngressServiceSpec::default()));
        assert_eq!((plain.spec.replicas, plain.spec.advertised), (None, None));
        let full = read(
            "ursactl install zone-ingress --control-plane east --replicas 3 --type node-port --port 443 --advertised [2001:db8::7]:8443",
        );
        let service = full.spec.service.unwrap();
        assert_eq!((service.service_type, service.port), (ServiceType::NodePort, 443));
        let at = full.spec.advertised.unwrap();
        assert_eq!(
            (full.spec.replicas, at.address.to_string().as_str(), at.port),
            (Some(3), "2001:db8::7", 8443)
        );
    }

    #[test]
    fn a_zone_without_its_global_is_wrong_usage() {
        let Install::ControlPlane(args) = install("ursactl install control-plane --mode zone --zone east")
        else {
            panic!("another command")
        };
        assert!(control_plane(&args).unwrap_err().to_string().contains("--global-address"));
    }
}
