//! Tells pods that should have a sidecar and have none, by an event and a condition: created while no webhook served, or
//! before their namespace asked for sidecars.

mod judge;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ObjectReference, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::events::{Event as Note, EventType};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};
use ursa_crds::{ControlPlane, ControlPlaneMode};

use crate::cluster::is_gone;
use crate::control_plane::Context;
use crate::metrics::Outcome;
use crate::names::OPERATOR;
use judge::{CONDITION, Key, SeenPod, Sight};

/// Pods are told this long after they are seen, at most; what fails is tried again as often.
const TURN: Duration = Duration::from_secs(1);
/// At most this many pods are told in a turn: who labels a large namespace does not flood the API server.
const AT_ONCE: usize = 50;
const REASON: &str = "InjectionMissing";
const MISSING: &str = "the pod is to have a sidecar and has none, so it is outside the mesh: it was created while no webhook \
     served or before its label; delete it, and its successor gets one";
const NOT_MISSING: &str = "the pod is to have no sidecar any more";

/// Follows all pods for as long as it is polled.
pub(crate) async fn run(context: Arc<Context>, own: &str) {
    let client = &context.client;
    let mut pods = follow(Api::<Pod>::all(client.clone()));
    let mut namespaces = follow(Api::<Namespace>::all(client.clone()));
    let mut planes = follow(Api::<ControlPlane>::namespaced(client.clone(), own));
    let mut sight = Sight::new(own);
    let mut listed: Option<BTreeSet<Key>> = None;
    // Kinds that are not known whole yet: until then nobody is told.
    let mut unknown = [true; 3];
    let mut turn = interval(TURN);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(event) = pods.next() => {
                note_pod(&mut sight, &mut listed, &event);
                unknown[0] &= !matches!(event, Event::InitDone);
            }
            Some(event) = namespaces.next() => {
                match &event {
                    Event::Apply(found) | Event::InitApply(found) => sight.namespace(&found.metadata, true),
                    Event::Delete(found) => sight.namespace(&found.metadata, false),
                    Event::Init | Event::InitDone => {}
                }
                unknown[1] &= !matches!(event, Event::InitDone);
            }
            Some(event) = planes.next() => {
                match &event {
                    Event::Apply(found) | Event::InitApply(found) if found.spec.mode != ControlPlaneMode::Global => {
                        sight.injecting.insert(found.name_any());
                    }
                    Event::Delete(found) => { sight.injecting.remove(&found.name_any()); }
                    Event::Apply(_) | Event::InitApply(_) | Event::InitDone => {}
                    Event::Init => sight.injecting.clear(),
                }
                unknown[2] = match event { Event::Init => true, Event::InitDone => false, _ => unknown[2] };
            }
            _ = turn.tick(), if unknown == [false; 3] => tell(&context, &mut sight).await,
        }
    }
}

/// A watch that starts again after it failed.
fn follow<K>(api: Api<K>) -> impl Stream<Item = Event<K>> + Unpin + Send
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let stream = watcher(api, watcher::Config::default()).default_backoff();
    stream
        .filter_map(async |event| {
            event.inspect_err(|error| warn!(%error, "a watch failed and starts again")).ok()
        })
        .boxed()
}

fn note_pod(sight: &mut Sight, listed: &mut Option<BTreeSet<Key>>, event: &Event<Pod>) {
    match event {
        Event::Init => *listed = Some(BTreeSet::new()),
        Event::InitApply(pod) => {
            if let Some(listed) = listed {
                listed.insert((pod.namespace().unwrap_or_default(), pod.name_any()));
            }
            sight.pod(pod, true);
        }
        Event::InitDone => {
            if let Some(listed) = listed.take() {
                sight.only(&listed);
            }
        }
        Event::Apply(pod) => sight.pod(pod, true),
        Event::Delete(pod) => sight.pod(pod, false),
    }
}

async fn tell(context: &Context, sight: &mut Sight) {
    context.metrics.missing(sight.missing());
    for (key, pod, missing) in sight.untold().into_iter().take(AT_ONCE) {
        let outcome = match tell_one(context, &key, &pod, missing).await {
            // Another one of the name is seen in a moment.
            Err(error) if is_gone(&error) || is_conflict(&error) => {
                debug!(namespace = key.0, pod = key.1, "a pod went before it was told");
                Outcome::Done
            }
            Err(error) => {
                warn!(namespace = key.0, pod = key.1, %error, "a pod cannot be told that its sidecar is missing");
                context.metrics.reconciled("injection", Outcome::Failed);
                continue;
            }
            Ok(()) => Outcome::Done,
        };
        context.metrics.reconciled("injection", outcome);
        sight.is_told(&key, missing);
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

async fn tell_one(context: &Context, key: &Key, pod: &SeenPod, missing: bool) -> Result<(), kube::Error> {
    let (namespace, name) = key;
    let message = if missing { MISSING } else { NOT_MISSING };
    let condition = json!({
        "type": CONDITION,
        "status": if missing { "True" } else { "False" },
        "reason": if missing { REASON } else { "NotAsked" },
        "message": message,
        "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    let patch = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": pod.uid},
        "status": {"conditions": [condition]},
    });
    let params = PatchParams::apply(OPERATOR).force();
    Api::<Pod>::namespaced(context.client.clone(), namespace)
        .patch_status(name, &params, &Patch::Apply(patch))
        .await?;
    if !missing {
        return Ok(());
    }
    let regarding = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name.clone()),
        namespace: Some(namespace.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectReference::default()
    };
    let note = Note {
        type_: EventType::Warning,
        reason: REASON.to_owned(),
        note: Some(message.to_owned()),
        action: "Injection".to_owned(),
        secondary: None,
    };
    // The condition is there: an event that fails is no reason to say it all again.
    if let Err(error) = context.recorder.publish(&note, &regarding).await {
        warn!(%error, "an event could not be published");
    }
    Ok(())
}
