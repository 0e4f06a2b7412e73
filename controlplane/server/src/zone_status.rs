//! Tells users on each `Zone` of a global control plane how it stands with its connection: the condition `Online`.
//!
//! Invariant: only the replica that leads writes, and only when it turns. The condition has a field manager of its own, so
//! that what the store says of the same object (`Accepted`) neither changes nor removes it.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use ursa_api::{ZoneState, zone_insight};
use ursa_crds::{Kind, Object, ObjectKey, Spec, Zone, ZoneInsightSpec};
use ursa_store::Store;

use crate::leader::while_leading;

/// A zone that is back within this time, from whichever replica of either side, was never away.
const SETTLE: Duration = Duration::from_secs(5);
/// After the API server did not take it.
const RETRY: Duration = Duration::from_secs(5);
const MANAGER: &str = "ursa-cp-zones";
const ONLINE: &str = "Online";

/// Tells it from now on, while this replica leads.
pub(crate) fn report(client: Client, store: Store, leads: watch::Receiver<bool>) {
    tokio::spawn(async move {
        let api = Api::<Zone>::all(client);
        while_leading(leads, || tell_all(&api, &store)).await;
    });
}

/// Until the store ends.
async fn tell_all(api: &Api<Zone>, store: &Store) {
    let (_, mut changes) = store.watch();
    // Zones to look at, and when.
    let mut due: HashMap<String, Instant> =
        store.list(Kind::Zone).iter().map(|zone| (zone.meta.name.clone(), Instant::now() + SETTLE)).collect();
    loop {
        let next = due.iter().min_by_key(|(_, at)| **at).map(|(zone, at)| (zone.clone(), *at));
        tokio::select! {
            changed = changes.next() => {
                let Some(changed) = changed else { return };
                for change in changed.iter().filter(|change| matches!(change.key.kind, Kind::Zone | Kind::ZoneInsight)) {
                    let zone = &change.key.name;
                    let is_stale = observed(store, zone).is_some_and(|(state, _)| state == ZoneState::Stale);
                    let wait = if is_stale { SETTLE } else { Duration::ZERO };
                    due.insert(zone.clone(), Instant::now() + wait);
                }
            }
            () = sleep_until(next.as_ref().map_or_else(Instant::now, |(_, at)| *at)), if next.is_some() => {
                let Some((zone, _)) = next else { continue };
                due.remove(&zone);
                if let Some((state, insight)) = observed(store, &zone)
                    && let Err(error) = tell(api, &zone, state, &insight).await
                {
                    tracing::warn!(zone, %error, "cannot tell how the zone stands; trying again");
                    due.insert(zone, Instant::now() + RETRY);
                }
            }
        }
    }
}

/// Unless that is what it says.
async fn tell(api: &Api<Zone>, zone: &str, state: ZoneState, insight: &ZoneInsightSpec) -> kube::Result<()> {
    let Some(stored) = api.get_opt(zone).await? else { return Ok(()) };
    let conditions = stored.status.map(|status| status.conditions).unwrap_or_default();
    let known = conditions.into_iter().find(|condition| condition.type_ == ONLINE);
    let (status, message) = words(zone, state, insight);
    if known.as_ref().is_some_and(|known| known.reason == state.as_str() && known.message == message) {
        return Ok(());
    }
    let since = known.filter(|known| known.status == status).map(|known| known.last_transition_time.0);
    let condition = json!({
        "type": ONLINE, "status": status, "reason": state.as_str(), "message": message,
        "lastTransitionTime": since.unwrap_or_else(Timestamp::now).strftime("%FT%TZ").to_string(),
    });
    let document = json!({
        "apiVersion": ursa_crds::API_VERSION, "kind": "Zone", "metadata": {"name": zone},
        "status": {"conditions": [condition]},
    });
    match api.patch_status(zone, &PatchParams::apply(MANAGER).force(), &Patch::Apply(document)).await {
        Ok(_) => Ok(()),
        // It went in the meantime.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// How it stands with a zone, if there is one.
fn observed(store: &Store, zone: &str) -> Option<(ZoneState, ZoneInsightSpec)> {
    let object = store.get(&ObjectKey::zone(zone))?;
    let Object { spec: Spec::Zone(spec), .. } = &*object else { return None };
    let insight = zone_insight(store, zone);
    Some((ZoneState::of(spec, insight.connected, &insight), insight))
}

/// The condition's status and message.
fn words(zone: &str, state: ZoneState, insight: &ZoneInsightSpec) -> (&'static str, String) {
    let at = |time: Option<Timestamp>| {
        time.map_or_else(|| "an unknown time".to_owned(), |at| at.strftime("%FT%TZ").to_string())
    };
    match state {
        ZoneState::Online => (
            "True",
            format!("its control plane {} is connected since {}", insight.version, at(insight.connected_at)),
        ),
        ZoneState::Stale => (
            "False",
            format!(
                "its control plane is not connected since {}; the zone goes on with what it has",
                at(insight.disconnected_at)
            ),
        ),
        ZoneState::Incompatible => ("False", insight.incompatible.clone()),
        ZoneState::Disabled => {
            ("False", "spec.enabled is false: other zones send no traffic to it".to_owned())
        }
        ZoneState::New => (
            "Unknown",
            format!("it was not connected yet: `ursactl zone create {zone}` prints its credential"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_is_away_says_since_when() {
        let insight = ZoneInsightSpec {
            disconnected_at: Some("2026-01-01T00:00:50Z".parse().unwrap()),
            version: "1.2".into(),
            ..ZoneInsightSpec::default()
        };
        let told = |state| words("east", state, &insight);
        let (status, message) = told(ZoneState::Stale);
        assert_eq!(status, "False");
        assert!(message.contains("since 2026-01-01T00:00:50Z"), "{message}");
        assert_eq!(told(ZoneState::Online).0, "True");
        assert_eq!(told(ZoneState::New).0, "Unknown");
        assert_eq!(told(ZoneState::Disabled).0, "False");
        let insight = ZoneInsightSpec { incompatible: "upgrade global first".into(), ..insight.clone() };
        let (status, message) = words("east", ZoneState::Incompatible, &insight);
        assert_eq!((status, message.as_str()), ("False", "upgrade global first"));
    }
}
