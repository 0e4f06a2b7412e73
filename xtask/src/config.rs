//! Writes `config/base` (kustomize) and `config/chart` (Helm): the operator's manifest in two forms, from one source.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use ursa_operator::install::{Installation, aggregated_roles};

use crate::generated;

const HEADER: &str = "# Generated from operator/src/install.rs by `make generate`; do not edit.\n";

/// The chart's values: name, what it is for, and its default.
fn values() -> Vec<(&'static str, &'static str, Value)> {
    let released = Installation::released();
    vec![
        ("image", "The image of operator, control plane and webhook.", json!(released.image)),
        ("dataplaneImage", "The image of sidecars.", json!(released.dataplane_image)),
        ("logLevel", "What the operator logs.", json!(released.log)),
        ("resources", "What the operator may use.", released.container["resources"].clone()),
        ("imagePullSecrets", "Secrets with credentials for the registry of `image`.", json!([])),
        ("nodeSelector", "Labels of the nodes that the operator may run on.", json!({})),
        ("tolerations", "Taints of nodes that the operator tolerates.", json!([])),
    ]
}

/// `cargo xtask config`.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    for (folder, files) in
        [("base", base()?), ("chart/ursa", chart()?), ("chart/ursa/templates", templates()?)]
    {
        let folder = config.join(folder);
        if !check {
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        generated::sync(&folder, "yaml", &files, check)?;
    }
    Ok(())
}

type Files = BTreeMap<String, String>;

fn base() -> anyhow::Result<Files> {
    let released = Installation::released();
    let mut files = Files::from([
        ("namespace.yaml".to_owned(), yaml(&[released.namespace()])?),
        ("rbac.yaml".to_owned(), yaml(&released.rbac())?),
        ("roles.yaml".to_owned(), yaml(&aggregated_roles())?),
        ("operator.yaml".to_owned(), yaml(&released.program())?),
    ]);
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": ["namespace.yaml", "rbac.yaml", "roles.yaml", "operator.yaml"],
    });
    files.insert("kustomization.yaml".to_owned(), yaml(&[kustomization])?);
    Ok(files)
}

fn chart() -> anyhow::Result<Files> {
    let version = env!("CARGO_PKG_VERSION");
    let about = json!({
        "apiVersion": "v2", "name": "ursa", "type": "application", "version": version, "appVersion": version,
        "description": "The operator of the service mesh Ursa. It sets up what a ControlPlane asks for.",
        "kubeVersion": ">=1.30.0-0",
    });
    let mut text = HEADER.to_owned();
    for (name, what, default) in values() {
        let default = serde_json::to_string(&generated::sorted(default))?;
        write!(text, "\n# {what}\n{name}: {default}\n")?;
    }
    Ok(Files::from([("Chart.yaml".to_owned(), yaml(&[about])?), ("values.yaml".to_owned(), text)]))
}

fn templates() -> anyhow::Result<Files> {
    let placed = |names: &[&str]| -> Map<String, Value> {
        names.iter().map(|name| ((*name).to_owned(), json!(placeholder(name)))).collect()
    };
    let installation = Installation {
        namespace: "{{ .Release.Namespace }}".to_owned(),
        image: placeholder("image"),
        dataplane_image: placeholder("dataplaneImage"),
        log: placeholder("logLevel"),
        pod: placed(&["imagePullSecrets", "nodeSelector", "tolerations"]),
        container: placed(&["resources"]),
    };
    let mut objects = installation.rbac();
    objects.extend(aggregated_roles());
    objects.extend(installation.program());
    // Each value is JSON, which is YAML: text, list or map alike.
    let mut text = yaml(&objects)?;
    for (name, ..) in values() {
        let filled = format!("{{{{ toJson .Values.{name} }}}}");
        for quoted in [format!("\"{}\"", placeholder(name)), placeholder(name)] {
            text = text.replace(&quoted, &filled);
        }
    }
    Ok(Files::from([("operator.yaml".to_owned(), text)]))
}

fn placeholder(name: &str) -> String {
    format!("VALUE-OF-{name}-HERE")
}

fn yaml(objects: &[Value]) -> anyhow::Result<String> {
    let texts = objects.iter().map(|object| serde_saphyr::to_string(&generated::sorted(object.clone())));
    let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
    let texts: Vec<&str> = texts.iter().map(|text| text.trim_end()).collect();
    Ok(format!("{HEADER}{}\n", texts.join("\n---\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Value> {
        text.split("\n---\n").map(|one| serde_saphyr::from_str(one).unwrap()).collect()
    }

    #[test]
    fn the_chart_with_its_own_values_gives_what_kustomize_gives() {
        let mut text = templates().unwrap().remove("operator.yaml").unwrap();
        text = text.replace("{{ .Release.Namespace }}", "ursa-system");
        let values: Value = serde_saphyr::from_str(&chart().unwrap()["values.yaml"]).unwrap();
        for (name, value) in values.as_object().unwrap() {
            let filled = format!("{{{{ toJson .Values.{name} }}}}");
            assert!(text.contains(&filled), "{name} is not used");
            text = text.replace(&filled, &value.to_string());
        }
        assert!(!text.contains("{{") && !text.contains("VALUE-OF"), "{text}");
        let mut found = read(&text);
        // Empty lists and maps say nothing.
        for object in &mut found {
            if let Some(pod) = object.pointer_mut("/spec/template/spec").and_then(Value::as_object_mut) {
                pod.retain(|_, value| *value != json!([]) && *value != json!({}));
            }
        }
        let base = base().unwrap();
        let expected = ["rbac.yaml", "roles.yaml", "operator.yaml"].map(|file| read(&base[file])).concat();
        assert_eq!(found, expected);
    }
}
