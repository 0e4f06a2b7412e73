//! A ControlPlane as a user writes it and what is seen of it; out come all objects and the status.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use ursa_crds::{CertIssuer, ControlPlane};
use ursa_operator::certificates::{Authority, Pair};
use ursa_operator::control_plane::observe::{Observed, Tls};
use ursa_operator::control_plane::plan::{Defaults, plan};

use crate::common::{Error, Seen, compare, conditions, text_of};

/// The first document: what is seen.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    kind: CaseKind,
    /// One sentence: why the case exists.
    why: String,
    control_plane: Option<Seen>,
    webhook: Option<Seen>,
    /// Whether the API server asks the webhook already.
    #[serde(default)]
    configured: bool,
    /// Whether cert-manager has issued the certificates, where it is to.
    #[serde(default)]
    issued: bool,
    /// Whether a replica of the control plane leads.
    #[serde(default)]
    led: bool,
}

#[derive(Deserialize)]
enum CaseKind {
    Case,
}

pub(crate) fn golden(path: &Path) -> Result<(), Error> {
    let documents = ursa_crds::parse_documents(&std::fs::read(path)?)?;
    let [case, control_plane] = documents.try_into().map_err(|_| "a Case and a ControlPlane are needed")?;
    let case: Case = serde_json::from_value(case)?;
    let CaseKind::Case = case.kind;
    if case.why.is_empty() {
        return Err("the first document says why the case exists".into());
    }
    let control_plane: ControlPlane = serde_json::from_value(control_plane)?;
    let observed = observed(&case, &control_plane);
    let defaults = Defaults {
        image: "ursa:1.2.3".into(),
        dataplane_image: "ursa-dp:1.2.3".into(),
        operator_account: "ursa-operator".into(),
    };
    let found = plan(&control_plane, &observed, &defaults);
    if plan(&control_plane, &observed, &defaults) != found {
        return Err("equal inputs give different plans".into());
    }
    let told: Vec<_> = found.status.conditions.iter().chain(&found.status.connection).cloned().collect();
    let status = json!({"status": {
        "conditions": conditions(&told), "generation": found.status.generation, "version": found.status.version,
    }});
    compare(path, &text_of(&found.objects, &status)?)
}

fn observed(case: &Case, control_plane: &ControlPlane) -> Observed {
    let pair = |name: &str| Pair { certificate: format!("{name} certificate"), key: format!("{name} key") };
    let tls = match control_plane.spec.tls.issuer {
        CertIssuer::CertManager => {
            Tls::CertManager { ca: case.issued.then(|| "the issuer's bundle\n".to_owned()) }
        }
        CertIssuer::SelfSigned => Tls::SelfMade {
            authority: Authority { current: pair("authority"), next: None, bundle: "bundle\n".to_owned() },
            control_plane: pair("control plane"),
            webhook: pair("webhook"),
        },
    };
    Observed {
        namespace_uid: "00000000-0000-0000-0000-000000000000".to_owned(),
        control_plane: Seen::rollout(case.control_plane.as_ref()),
        webhook: Seen::rollout(case.webhook.as_ref()),
        configured: case.configured,
        led: case.led,
        tls,
    }
}
