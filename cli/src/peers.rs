//! Whom a proxy let in without an identity of the mesh, for people.

use jiff::Timestamp;
use serde_json::Value;

use crate::table;

const HEADING: &str = "Let in without an identity of the mesh, newest first; mode Strict would refuse them:";
const TITLES: [&str; 6] = ["ADDRESS", "DATAPLANE", "PORT", "TRANSPORT", "COUNT", "LAST SEEN"];

/// A heading and a table, after an empty line; nothing if there is nobody. The API orders them.
pub(crate) fn section(peers: &Value, now: Timestamp) -> String {
    let rows: Vec<_> = peers.as_array().into_iter().flatten().map(|peer| row(peer, now)).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("\n{HEADING}\n{}", table::render(&TITLES, &rows))
}

fn row(peer: &Value, now: Timestamp) -> Vec<String> {
    let text = |field: &str| match &peer[field] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let address = if peer["address"].is_null() { "others".to_owned() } else { text("address") };
    let last_seen = table::age(peer["lastSeen"].as_str().and_then(|text| text.parse().ok()), now);
    vec![address, text("dataplane"), text("port"), text("transport"), text("count"), last_seen]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn peers_stand_below_a_heading() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let peers = json!([
            {"address": "10.0.0.7", "dataplane": "default/web-1", "port": 80, "transport": "Plaintext", "count": 3,
             "lastSeen": "2026-01-01T00:09:58Z"},
            {"port": 6379, "transport": "Tls", "count": 12, "lastSeen": "2026-01-01T00:00:00Z"},
        ]);
        let text = section(&peers, now);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!((lines[0].len(), text.lines().nth(1)), (0, Some(HEADING)));
        assert_eq!(lines[2][..2], ["ADDRESS", "DATAPLANE"]);
        assert_eq!(lines[3], ["10.0.0.7", "default/web-1", "80", "Plaintext", "3", "2s"]);
        assert_eq!(lines[4], ["others", "-", "6379", "Tls", "12", "10m"]);
        assert_eq!(lines.len(), 5);
        // An older control plane says nothing of them.
        for nobody in [json!([]), Value::Null] {
            assert_eq!(section(&nobody, now), "");
        }
    }
}
