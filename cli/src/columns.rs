//! What tables show of each kind, besides name and age. From the JSON form, so that a field that this version does not
//! know takes nothing away.

use jiff::Timestamp;
use serde_json::Value;
use ursa_crds::{GROUP, Kind, tag};

use crate::table;

/// A title, and what stands below it for a resource's `spec`.
struct Column(&'static str, fn(&Value) -> String);

/// The titles and rows of these resources; `prefix` goes before each name.
pub(crate) fn rows(
    kind: Kind,
    prefix: &str,
    resources: &[Value],
    now: Timestamp,
) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let columns = columns(kind);
    let mut titles = vec!["NAME"];
    titles.extend(columns.iter().map(|Column(title, _)| *title));
    // Of what proxies enforce.
    let has_status = resources.iter().any(|resource| !resource["status"].is_null());
    titles.extend(has_status.then_some("PROGRAMMED"));
    titles.push("AGE");
    let row = |resource: &Value| {
        let meta = &resource["metadata"];
        let created = meta["creationTimestamp"].as_str().and_then(|text| text.parse().ok());
        let mut row = vec![format!("{prefix}{}", text(&meta["name"]))];
        row.extend(columns.iter().map(|Column(_, cell)| cell(&resource["spec"])));
        row.extend(has_status.then(|| programmed(&resource["status"])));
        row.push(table::age(created, now));
        row
    };
    (titles, resources.iter().map(row).collect())
}

/// Whether all proxies enforce it; if not, the reason.
fn programmed(status: &Value) -> String {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let told = conditions.into_iter().find(|condition| condition["type"] == "Programmed");
    told.map_or_else(String::new, |told| match (text(&told["status"]), text(&told["reason"])) {
        (status, _) if status == "True" => status,
        (status, reason) => format!("{status} ({reason})"),
    })
}

/// Exhaustive, so that no kind is forgotten.
fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Mesh => &[
            Column("MTLS", |spec| text(&spec["mtls"]["enabledBackend"])),
            Column("LOCALITY-AWARE", |spec| text(&spec["routing"]["localityAwareLoadBalancing"])),
        ],
        Kind::Secret => &[],
        Kind::Zone => &[Column("ENABLED", |spec| text(&spec["enabled"]))],
        Kind::ZoneIngress => &[
            Column("ZONE", |spec| text(&spec["zone"])),
            Column("ADDRESS", |spec| {
                socket(if spec["advertised"].is_null() { &spec["networking"] } else { &spec["advertised"] })
            }),
        ],
        Kind::MeshZone => &[
            Column("SERVICES", |spec| list(&spec["services"], |service| tags(&service["tags"]))),
            Column("INSTANCES", |spec| {
                let services = spec["services"].as_array().map(Vec::as_slice).unwrap_or_default();
                services.iter().filter_map(|service| service["instances"].as_u64()).sum::<u64>().to_string()
            }),
        ],
        Kind::MeshZoneInsight => &[
            Column("RESOURCES", |spec| count(&spec["resources"], |_| true)),
            Column("ENFORCED", |spec| count(&spec["resources"], |resource| resource["enforced"] == true)),
        ],
        Kind::Dataplane => &[
            Column("ADDRESS", |spec| text(&spec["networking"]["address"])),
            Column("INBOUND", |spec| list(&spec["networking"]["inbound"], port_and_tags)),
            Column("OUTBOUND", |spec| list(&spec["networking"]["outbound"], port_and_tags)),
        ],
        Kind::DataplaneInsight => &[
            Column("ZONE", |spec| text(&spec["zone"])),
            Column("CONNECTED", |spec| text(&spec["connected"])),
            Column("INBOUND", |spec| list(&spec["inbounds"], port_and_tags)),
        ],
        Kind::ZoneInsight => &[
            Column("CONNECTED", |spec| text(&spec["connected"])),
            Column("VERSION", |spec| text(&spec["version"])),
        ],
        Kind::TrafficPermission => &[
            Column("ACTION", |spec| text(&spec["action"])),
            Column("SOURCES", |spec| list(&spec["sources"], |selector| tags(&selector["match"]))),
            Column("DESTINATIONS", |spec| list(&spec["destinations"], |selector| tags(&selector["match"]))),
        ],
        Kind::TrafficRoute => &[
            Column("SOURCES", |spec| list(&spec["sources"], |selector| tags(&selector["match"]))),
            Column("DESTINATIONS", |spec| list(&spec["destinations"], |selector| tags(&selector["match"]))),
            Column("SPLIT", |spec| {
                list(&spec["conf"]["split"], |part| {
                    format!("{}:{}", text(&part["weight"]), tags(&part["destination"]))
                })
            }),
        ],
    }
}

fn count(items: &Value, counts: fn(&Value) -> bool) -> String {
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter(|item| counts(item)).count().to_string()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn list(items: &Value, item: fn(&Value) -> String) -> String {
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(item).collect::<Vec<_>>().join(" ")
}

/// `redis,zone=aws,version=v1`: the service first, and Ursa's own keys without their prefix.
fn tags(tags: &Value) -> String {
    let Value::Object(tags) = tags else { return String::new() };
    let service = tags.get(tag::SERVICE).map(text);
    let others = tags.iter().filter(|(key, _)| *key != tag::SERVICE);
    let others = others.map(|(key, value)| format!("{}={}", short(key), text(value)));
    service.into_iter().chain(others).collect::<Vec<_>>().join(",")
}

fn short(key: &str) -> &str {
    key.split_once('/').filter(|(prefix, _)| *prefix == GROUP).map_or(key, |(_, name)| name)
}

fn port_and_tags(port: &Value) -> String {
    format!("{}:{}", text(&port["port"]), tags(&port["tags"]))
}

fn socket(socket: &Value) -> String {
    let (address, port) = (text(&socket["address"]), text(&socket["port"]));
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use ursa_crds::KINDS;

    fn row(kind: Kind, spec: Value) -> String {
        let resource =
            json!({"metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec});
        let (titles, rows) = rows(kind, "p/", &[resource], "2026-01-01T00:00:30Z".parse().unwrap());
        assert_eq!(titles.len(), rows[0].len());
        rows[0].join("|")
    }

    #[test]
    fn each_kind_shows_what_it_is_about() {
        let mesh =
            json!({"mtls": {"enabledBackend": "ca-1"}, "routing": {"localityAwareLoadBalancing": true}});
        assert_eq!(row(Kind::Mesh, mesh), "p/n|ca-1|true|30s");
        assert_eq!(row(Kind::Zone, json!({"enabled": false})), "p/n|false|30s");
        let mut ingress = json!({"zone": "east", "networking": {"address": "10.0.0.9", "port": 10001}});
        assert_eq!(row(Kind::ZoneIngress, ingress.clone()), "p/n|east|10.0.0.9:10001|30s");
        ingress["advertised"] = json!({"address": "2001:db8::7", "port": 1});
        assert_eq!(row(Kind::ZoneIngress, ingress), "p/n|east|[2001:db8::7]:1|30s");
        let offered = json!({"services": [{"tags": {"ursamesh.io/service": "a"}, "instances": 2},
            {"tags": {"ursamesh.io/service": "b", "v": "1"}, "instances": 3}]});
        assert_eq!(row(Kind::MeshZone, offered), "p/n|a b,v=1|5|30s");
        let dataplane = json!({"networking": {"address": "10.0.0.5",
            "inbound": [{"port": 6379, "tags": {"ursamesh.io/service": "redis", "version": "v1"}}],
            "outbound": [{"port": 80, "tags": {"ursamesh.io/service": "web"}}]}});
        assert_eq!(row(Kind::Dataplane, dataplane), "p/n|10.0.0.5|6379:redis,version=v1|80:web|30s");
        let select = json!([{"match": {"ursamesh.io/service": "*", "ursamesh.io/zone": "east"}}]);
        let permission = json!({"action": "Deny", "sources": select, "destinations": select});
        assert_eq!(row(Kind::TrafficPermission, permission), "p/n|Deny|*,zone=east|*,zone=east|30s");
        let split = json!([{"weight": 1, "destination": {"ursamesh.io/service": "a"}}, {"weight": 9, "destination": {"x": "b"}}]);
        let route = json!({"sources": select, "destinations": select, "conf": {"split": split}});
        assert_eq!(row(Kind::TrafficRoute, route), "p/n|*,zone=east|*,zone=east|1:a 9:x=b|30s");
    }

    #[test]
    fn what_proxies_enforce_is_shown_with_whether_they_do() {
        let resource = |status: &str| {
            let condition = json!({"type": "Programmed", "status": status, "reason": "Pending"});
            json!({"metadata": {"name": "n"}, "spec": {}, "status": {"conditions": [condition]}})
        };
        let now = "2026-01-01T00:00:30Z".parse().unwrap();
        let (titles, rows) = rows(Kind::Mesh, "", &[resource("True"), resource("False")], now);
        assert_eq!(titles, ["NAME", "MTLS", "LOCALITY-AWARE", "PROGRAMMED", "AGE"]);
        assert_eq!((rows[0][3].as_str(), rows[1][3].as_str()), ("True", "False (Pending)"));
    }

    #[test]
    fn what_is_missing_is_left_empty() {
        for info in KINDS {
            assert!(row(info.kind, json!(null)).starts_with("p/n|"), "{}", info.name);
        }
    }
}
