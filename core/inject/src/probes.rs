//! The kubelet's probes come from outside the mesh, without a certificate: the agent takes them in the application's
//! place, on a port that is not captured, and asks the application itself.
//!
//! A probe that runs a command stays as it is, and so does one of another host, which does not come in through the
//! proxy. Hooks of a container's life cycle (`postStart`, `preStop` with `httpGet`) are not rewritten: an application
//! that needs one uses `exec`.
//! Invariant: each rewritten probe has an entry in the agent's variable, and entries stay.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{GRPCAction, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Cause;
use crate::names::{HEALTH_PORT, SIDECAR_CONTAINER, is_own};
use crate::place::{self, LISTS};

/// What the agent is to ask, by `CONTAINER/PROBE`.
type Targets = BTreeMap<String, Value>;

const VARIABLE: &str = "URSA_DP_PROBES";
const PROBES: [&str; 3] = ["startup", "liveness", "readiness"];
const HANDLERS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// Sends every probe of the containers of others to the agent.
pub(crate) fn rewrite(pod: &mut Value) -> Result<(), Cause> {
    let known = read(pod)?;
    let mut targets = known.clone();
    for list in LISTS {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            rewrite_container(container, &mut targets)?;
        }
    }
    if targets != known {
        write(pod, &targets);
    }
    Ok(())
}

fn rewrite_container(container: &mut Value, targets: &mut Targets) -> Result<(), Cause> {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    if is_own(&name) {
        return Ok(());
    }
    let ports = container["ports"].clone();
    for probe in PROBES {
        let Some(value) = container.get_mut(format!("{probe}Probe")).filter(|value| value.is_object()) else {
            continue;
        };
        let path = format!("/probes/{name}/{probe}");
        let key = format!("{name}/{probe}");
        let rewritten = || targets.contains_key(&key) && value["httpGet"]["path"] == json!(path);
        let target = match target(value, &ports) {
            Ok(Asked::AsItIs) => continue,
            Ok(Asked::Agent) if rewritten() => continue,
            Ok(Asked::Agent) => Err(format!(
                "it asks at port {HEALTH_PORT}, which is the sidecar's: let it ask at the application's own port"
            )),
            Ok(Asked::Application(target)) => Ok(target),
            Err(why) => Err(why),
        };
        let target = target.map_err(|why| Cause::Probe { container: name.clone(), probe, why })?;
        targets.insert(key, target);
        let fields = value.as_object_mut().expect("it was just seen to be a map");
        HANDLERS.iter().for_each(|handler| drop(fields.remove(*handler)));
        fields.insert("httpGet".into(), json!({"path": path, "port": HEALTH_PORT, "scheme": "HTTP"}));
    }
    Ok(())
}

/// Whom a probe asks.
enum Asked {
    /// Nobody through the proxy.
    AsItIs,
    /// The agent, already.
    Agent,
    /// The application: the agent is to ask this.
    Application(Value),
}

fn target(probe: &Value, ports: &Value) -> Result<Asked, String> {
    let mut target = if let Some(http) = handler::<HTTPGetAction>(probe, "httpGet")? {
        let port = number(&http.port, ports)?;
        if port == HEALTH_PORT {
            return Ok(Asked::Agent);
        }
        let path = http.path.filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
        let scheme = http.scheme.filter(|scheme| !scheme.is_empty()).unwrap_or_else(|| "HTTP".to_owned());
        let mut target = json!({"port": port, "path": path, "scheme": scheme});
        if let Some(host) = http.host.filter(|host| !host.is_empty()) {
            target["host"] = json!(host);
        }
        if let Some(headers) = http.http_headers.filter(|headers| !headers.is_empty()) {
            target["headers"] = json!(headers);
        }
        json!({ "http": target })
    } else if let Some(tcp) = handler::<TCPSocketAction>(probe, "tcpSocket")? {
        if tcp.host.is_some_and(|host| !host.is_empty()) {
            return Ok(Asked::AsItIs);
        }
        json!({"tcp": {"port": number(&tcp.port, ports)?}})
    } else if let Some(grpc) = handler::<GRPCAction>(probe, "grpc")? {
        let mut target = json!({"port": number(&IntOrString::Int(grpc.port), ports)?});
        if let Some(service) = grpc.service.filter(|service| !service.is_empty()) {
            target["service"] = json!(service);
        }
        json!({ "grpc": target })
    } else if probe["exec"].is_object() {
        return Ok(Asked::AsItIs);
    } else {
        return Err("it has none of httpGet, tcpSocket, grpc and exec: write one of them".to_owned());
    };
    if target.pointer("/tcp/port").or(target.pointer("/grpc/port")) == Some(&json!(HEALTH_PORT)) {
        return Ok(Asked::Agent);
    }
    target["timeoutSeconds"] = json!(probe["timeoutSeconds"].as_i64().unwrap_or(1).max(1));
    Ok(Asked::Application(target))
}

fn handler<T: DeserializeOwned>(probe: &Value, name: &str) -> Result<Option<T>, String> {
    Option::deserialize(&probe[name]).map_err(|error| format!("{name} cannot be read: {error}"))
}

/// The number of a port that may be given by its name in the container.
/// Source: `ResolveContainerPort` in Kubernetes' `pkg/probe/util.go`.
fn number(port: &IntOrString, ports: &Value) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(name) => {
            let mut ports = ports.as_array().into_iter().flatten();
            let found = ports.find(|port| port["name"].as_str() == Some(name));
            let number = found.and_then(|port| port["containerPort"].as_i64()).or_else(|| name.parse().ok());
            number.ok_or_else(|| {
                format!("the container has no port named {name:?}: add it to the container's ports, or write its number")
            })?
        }
    };
    u16::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("{number} is no port: ports are 1 to 65535"))
}

/// What the agent is told already.
fn read(pod: &mut Value) -> Result<Targets, Cause> {
    let Some(variable) = variable(pod) else { return Ok(Targets::new()) };
    serde_json::from_value(variable["value"].clone())
        .and_then(|text: String| serde_json::from_str(&text))
        .map_err(|error| {
            let why = format!(
                "the variable {VARIABLE} of container {SIDECAR_CONTAINER} is not as it was made: {error}"
            );
            Cause::Unreadable(why)
        })
}

fn write(pod: &mut Value, targets: &Targets) {
    // The kubelet would put other variables in place of $(NAME).
    let text = json!(place::value(targets).to_string().replace('$', "\\u0024"));
    if let Some(variable) = variable(pod) {
        variable["value"] = text;
    } else if let Some(sidecar) = sidecar(pod) {
        place::list(sidecar, "env").push(json!({"name": VARIABLE, "value": text}));
    }
}

fn variable(pod: &mut Value) -> Option<&mut Value> {
    let env = sidecar(pod)?.get_mut("env")?.as_array_mut()?;
    env.iter_mut().find(|variable| variable["name"] == VARIABLE)
}

fn sidecar(pod: &mut Value) -> Option<&mut Value> {
    let spec = pod.get_mut("spec")?.as_object_mut()?;
    let lists = spec.iter_mut().filter(|(name, _)| LISTS.contains(&name.as_str()));
    let mut containers = lists.filter_map(|(_, list)| list.as_array_mut()).flatten();
    containers.find(|container| container["name"] == SIDECAR_CONTAINER)
}
