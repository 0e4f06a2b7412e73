//! How big a proxy's configuration is, and why, for people.

use serde_json::Value;

use crate::table;

const TITLES: [&str; 7] =
    ["SERVICE", "BYTES", "RESOURCES", "ENDPOINTS", "REASON", "TRAFFICROUTES", "LET IN BY"];

/// What the control plane tells of it as a table, with the sums above.
pub(crate) fn render(size: &Value) -> String {
    let mut rows: Vec<Vec<String>> = items(&size["services"]).iter().map(service_row).collect();
    rows.push(row("(inbounds, capture)", &size["others"]));
    let types: Vec<String> = items(&size["types"]).iter().map(of_type).collect();
    let table = table::render(&TITLES, &rows);
    let (resources, bytes) = (number(&size["resources"]), number(&size["bytes"]));
    format!("{resources} resources, {bytes} bytes: {}\n{table}", types.join(", "))
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn row(service: &str, weight: &Value) -> Vec<String> {
    vec![service.to_owned(), number(&weight["bytes"]), number(&weight["resources"])]
}

fn number(value: &Value) -> String {
    value.as_u64().unwrap_or_default().to_string()
}

/// Such as `Cluster 12 (3400 bytes)`.
fn of_type(weight: &Value) -> String {
    let url = weight["type"].as_str().unwrap_or_default();
    let name = url.rsplit('.').next().unwrap_or(url);
    format!("{name} {} ({} bytes)", number(&weight["resources"]), number(&weight["bytes"]))
}

/// Why it is there, which routes apply, and whether it is of use.
fn service_row(service: &Value) -> Vec<String> {
    let name = service["service"].as_str().unwrap_or_default();
    let permissions = named(&service["permissions"]);
    let is_refused = service["permissions"].is_array() && permissions.is_empty();
    let let_in_by = if is_refused { "nobody: it is refused".to_owned() } else { few(&permissions) };
    let reason = service["reason"].as_str().unwrap_or_default().to_lowercase();
    let mut cells = row(name, service);
    cells.extend([number(&service["endpoints"]), reason, few(&named(&service["routes"])), let_in_by]);
    cells
}

fn named(value: &Value) -> Vec<&str> {
    items(value).iter().filter_map(Value::as_str).collect()
}

/// The first of them, and how many more there are.
fn few(names: &[&str]) -> String {
    match names {
        [first, second, more @ ..] if !more.is_empty() => {
            format!("{first}, {second} and {} more", more.len())
        }
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_service_says_what_it_takes_and_why_it_is_there() {
        let size = json!({
            "resources": 9, "bytes": 3210,
            "types": [{"type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "resources": 4, "bytes": 1200}],
            "services": [
                {
                    "service": "redis", "resources": 4, "bytes": 2000, "endpoints": 3, "reason": "Declared",
                    "routes": ["canary"], "permissions": ["a", "b", "c", "d"],
                },
                {
                    "service": "web", "resources": 3, "bytes": 1000, "endpoints": 1, "reason": "Captured",
                    "routes": [], "permissions": [],
                },
            ],
            "others": {"resources": 2, "bytes": 210},
        });
        let expected = [
            "9 resources, 3210 bytes: Cluster 4 (1200 bytes)",
            "SERVICE               BYTES   RESOURCES   ENDPOINTS   REASON     TRAFFICROUTES   LET IN BY",
            "redis                 2000    4           3           declared   canary          a, b and 2 more",
            "web                   1000    3           1           captured   -               nobody: it is refused",
            "(inbounds, capture)   210     2",
            "",
        ];
        assert_eq!(render(&size), expected.join("\n"));
    }

    #[test]
    fn without_mutual_tls_nobody_is_refused() {
        let service = json!({"service": "web", "reason": "Captured", "routes": [], "permissions": null});
        assert_eq!(service_row(&service).last().map(String::as_str), Some(""));
    }
}
