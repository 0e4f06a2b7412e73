//! Tells users on the ControlPlane whether their zone is connected to global: its condition `ConnectedToGlobal`.
//!
//! Invariant: only the replica with the stream writes, and only when it turns. The condition has a field manager of its own,
//! so that what the operator applies neither changes nor removes it.

use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use ursa_crds::{CONNECTED_TO_GLOBAL, CONNECTION_MANAGER, ControlPlane};
use ursa_sync::zone::{Cause, Connected, Link};

/// A stream that is back within this time is no news.
const SETTLE: Duration = Duration::from_secs(2);
/// After the API server did not take it.
const RETRY: Duration = Duration::from_secs(5);
/// The API server bounds messages.
const MESSAGE: usize = 1000;

/// What is told: status, reason, message.
type Told = (&'static str, &'static str, String);

/// Tells how it stands with the stream to global on the ControlPlane of this name, from now on.
pub(crate) fn report(client: Client, namespace: &str, name: &str, global: &str, mut link: Connected) {
    let api = Api::<ControlPlane>::namespaced(client, namespace);
    let (name, global) = (name.to_owned(), global.to_owned());
    tokio::spawn(async move {
        // Since when it stands as it was told last.
        let mut told: Option<(Told, Timestamp)> = None;
        loop {
            let current = link.borrow_and_update().clone();
            let mut again = None;
            if let Some(news) = news(&current, &global, told.as_ref().map(|(told, _)| told)) {
                if news.0 == "False" && told.as_ref().is_some_and(|(told, _)| told.0 == "True") {
                    let back = link.wait_for(|link| matches!(link, Link::Connected { .. } | Link::Idle));
                    if timeout(SETTLE, back).await.is_ok() {
                        continue;
                    }
                }
                let since = told.as_ref().filter(|(told, _)| told.0 == news.0).map(|(_, since)| *since);
                let since = since.unwrap_or_else(Timestamp::now);
                let params = PatchParams::apply(CONNECTION_MANAGER).force();
                match api.patch_status(&name, &params, &Patch::Apply(document(&name, &news, since))).await {
                    Ok(_) => told = Some((news, since)),
                    Err(error) => {
                        tracing::warn!(control_plane = name, %error, "cannot tell whether global is connected; trying again");
                        again = Some(RETRY);
                    }
                }
            } else if current == Link::Idle {
                // Another replica tells.
                told = None;
            }
            tokio::select! {
                changed = link.changed() => if changed.is_err() { return },
                () = sleep(again.unwrap_or_default()), if again.is_some() => {}
            }
        }
    });
}

/// What to tell, if it is another thing than before; the words of an error alone are not.
fn news(link: &Link, global: &str, told: Option<&Told>) -> Option<Told> {
    let news = match link {
        Link::Idle => return None,
        Link::Connected { followed: true } => ("True", "Connected", format!("connected to {global}")),
        Link::Connected { followed: false } => (
            "True",
            "Connected",
            format!(
                "connected to {global}, which has another store than before: nothing changes on its word until an administrator adopts it there (ursactl adopt)"
            ),
        ),
        Link::Lost { cause, reason } => {
            let (word, what) = match cause {
                Cause::Unreachable => ("Unreachable", "out of reach"),
                Cause::Refused => ("Refused", "refused"),
                Cause::Incompatible => ("Incompatible", "not of a version that this zone can talk to"),
            };
            let since = Timestamp::now().strftime("%FT%TZ");
            ("False", word, format!("{global} is {what} since {since}: {reason}"))
        }
    };
    let is_known = told.is_some_and(|told| match news.0 {
        "True" => *told == news,
        _ => (told.0, told.1) == (news.0, news.1),
    });
    (!is_known).then_some(news)
}

fn document(name: &str, (status, reason, message): &Told, since: Timestamp) -> Value {
    let message: String = message.chars().take(MESSAGE).collect();
    json!({
        "apiVersion": ursa_crds::API_VERSION, "kind": "ControlPlane", "metadata": {"name": name},
        "status": {"conditions": [{
            "type": CONNECTED_TO_GLOBAL,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since.strftime("%FT%TZ").to_string(),
        }]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_is_told_once_and_in_the_words_of_the_first_error() {
        let global = "https://global.example:5685";
        assert_eq!(news(&Link::Idle, global, None), None);
        let connected = news(&Link::Connected { followed: true }, global, None).unwrap();
        assert_eq!((connected.0, connected.1), ("True", "Connected"));
        assert_eq!(news(&Link::Connected { followed: true }, global, Some(&connected)), None);
        assert_eq!(news(&Link::Idle, global, Some(&connected)), None);
        let foreign = news(&Link::Connected { followed: false }, global, Some(&connected)).unwrap();
        assert!(foreign.2.contains("adopts"), "{foreign:?}");

        let lost = |cause, reason: &str| Link::Lost { cause, reason: reason.into() };
        let unreachable = news(&lost(Cause::Unreachable, "no route"), global, Some(&connected)).unwrap();
        assert_eq!((unreachable.0, unreachable.1), ("False", "Unreachable"));
        assert!(unreachable.2.contains("no route") && unreachable.2.contains(global), "{unreachable:?}");
        assert_eq!(news(&lost(Cause::Unreachable, "timed out"), global, Some(&unreachable)), None);
        let refused = lost(Cause::Refused, "the token has expired");
        let refused = news(&refused, global, Some(&unreachable)).unwrap();
        assert_eq!((refused.0, refused.1), ("False", "Refused"));
        let incompatible = lost(Cause::Incompatible, "upgrade global first");
        let told = news(&incompatible, global, Some(&refused)).unwrap();
        assert_eq!((told.0, told.1), ("False", "Incompatible"));
        assert!(told.2.contains("upgrade global first"), "{told:?}");
        assert_eq!(news(&incompatible, global, Some(&told)), None, "it is told once");
    }

    #[test]
    fn a_condition_is_one_of_kubernetes_and_of_bounded_length() {
        let told = ("False", "Unreachable", "x".repeat(5000));
        let document = document("ursa", &told, Timestamp::from_second(1_800_000_000).unwrap());
        let plane: ControlPlane = serde_json::from_value(json!({
            "apiVersion": document["apiVersion"], "kind": document["kind"], "metadata": document["metadata"],
            "spec": {}, "status": document["status"],
        }))
        .unwrap();
        let condition = &plane.status.unwrap().conditions[0];
        assert_eq!(condition.type_, "ConnectedToGlobal");
        assert_eq!(condition.message.len(), MESSAGE);
        assert_eq!(condition.last_transition_time.0, Timestamp::from_second(1_800_000_000).unwrap());
    }
}
