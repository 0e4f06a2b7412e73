//! Makes what is on the API server the same as a snapshot, one after the other.
//!
//! Invariant: the key of tokens comes last. Until then no zone is let in, so that none takes what is half there for all of it,
//! and the administrator's token counts, so that it can be done again.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Error;
use kube::api::{Api, DynamicObject, PostParams};
use tokio::time::{Instant, sleep};
use ursa_crds::{Object, Owner};

use super::former::{self, Former};
use super::write::{delete, failure, private, put};
use super::{Cluster, is_there, wire};
use crate::error::StoreError;
use crate::names::TOKEN_SIGNING_KEY;
use crate::writer::{Request, Restore, in_memory};

/// The operator has this long to make certificates of a restored authority.
const SIGNED_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(300);
const CERTIFICATE: &str = "tls.crt";
const BUNDLE: &str = "ca.crt";

pub(super) async fn run(cluster: &Cluster, restore: Restore) -> Result<(), StoreError> {
    let Restore { snapshot, removals, private: further } = restore;
    rehearse(cluster, &snapshot.objects).await?;
    for key in removals {
        match delete(cluster, &key, None).await {
            Ok(_) | Err(StoreError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let mut known = cluster.read_state().former.clone();
    for object in snapshot.objects {
        let is_copy = is_copy(&object);
        if !is_there(object.kind()) {
            let (reply, _) = tokio::sync::oneshot::channel();
            in_memory(&cluster.state, Request::PutCopy { object: Box::new(object), reply });
            continue;
        }
        let written = put(cluster, &object, None, is_copy).await?;
        if !is_copy {
            known.insert(cluster.read_state().stored_uid(&written.object), Former::of(&object));
        }
    }
    for (name, value) in former::to_private(&known) {
        private(cluster, &name, value, true).await?;
    }
    take_authority(cluster, &snapshot.authority).await?;
    let mut values = snapshot.private;
    let key = values.remove_entry(TOKEN_SIGNING_KEY);
    for (name, value) in values.into_iter().chain(further).chain(key) {
        private(cluster, &name, value.into_bytes(), true).await?;
    }
    Ok(())
}

/// What zones say of themselves, global has as copies.
fn is_copy(object: &Object) -> bool {
    object.kind().info().owner == Owner::Zone
}

/// Asks the API server whether it would take each, before anything is written.
async fn rehearse(cluster: &Cluster, objects: &[Object]) -> Result<(), StoreError> {
    let params = PostParams { dry_run: true, ..PostParams::default() };
    for object in objects.iter().filter(|object| is_there(object.kind())) {
        let key = object.key();
        if cluster.views.place(&key).is_some() {
            continue;
        }
        let refused = |reason: String| StoreError::Refused(format!("{key} cannot be restored: {reason}"));
        let document = wire::encode(object, is_copy(object), &cluster.namespace);
        let wanted: DynamicObject =
            serde_json::from_value(document).map_err(|error| refused(error.to_string()))?;
        let namespace = wanted.metadata.namespace.clone().unwrap_or_default();
        match cluster.api(key.kind, &namespace).create(&params, &wanted).await {
            Ok(_) => {}
            // Of a name in a namespace: that one is not there.
            Err(Error::Api(status)) if status.code == 404 => {
                return Err(refused(format!("{}; make the namespace first", status.message)));
            }
            // One that is not taken is there; it is replaced.
            Err(Error::Api(status)) if status.code == 409 => {}
            Err(error) => match failure(&error) {
                StoreError::Refused(reason) => return Err(refused(reason)),
                other => return Err(other),
            },
        }
    }
    Ok(())
}

/// The data of the Secret with the authority that the operator made; empty if there is none.
pub(super) async fn authority(cluster: &Cluster) -> Result<BTreeMap<String, String>, StoreError> {
    let Some(name) = cluster.control_plane.as_deref().map(ursa_crds::authority_secret) else {
        return Ok(BTreeMap::new());
    };
    let found = secrets(cluster).get_opt(&name).await.map_err(|error| failure(&error))?;
    let data = found.and_then(|secret| secret.data).unwrap_or_default();
    let text = |(key, value): (String, ByteString)| match String::from_utf8(value.0) {
        Ok(value) => Ok((key, value)),
        Err(_) => Err(StoreError::Refused(format!("the Secret {name} holds {key}, which is no text"))),
    };
    data.into_iter().map(text).collect()
}

/// Puts the authority in the place of the one that the operator has made since, and waits until the operator has made the
/// control plane's certificate of it. The other's certificate stays trusted: for a while pods show what it has signed.
async fn take_authority(cluster: &Cluster, wanted: &BTreeMap<String, String>) -> Result<(), StoreError> {
    let Some(control_plane) = cluster.control_plane.as_deref().filter(|_| wanted.contains_key(CERTIFICATE))
    else {
        return Ok(());
    };
    let (own, tls) = (ursa_crds::authority_secret(control_plane), ursa_crds::tls_secret(control_plane));
    let api = secrets(cluster);
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let certificate = wanted.get(CERTIFICATE).map(|text| bytes(text));
    let until = Instant::now() + SIGNED_WITHIN;
    loop {
        let Some(mut secret) = api.get_opt(&own).await.map_err(|error| failure(&error))? else {
            // Certificates come from elsewhere.
            return Ok(());
        };
        let mut data = secret.data.take().unwrap_or_default();
        if data.get(CERTIFICATE) == certificate.as_ref() {
            let shown = api.get_opt(&tls).await.map_err(|error| failure(&error))?;
            let bundle = shown.and_then(|mut shown| shown.data.take()?.remove(BUNDLE)).unwrap_or_default();
            let first = certificate.as_ref().map(|certificate| certificate.0.as_slice()).unwrap_or_default();
            if bundle.0.starts_with(first) {
                return Ok(());
            }
        } else {
            // The operator may have written what it saw before: then once more.
            let former = data.remove(BUNDLE).unwrap_or_default();
            let mut restored: BTreeMap<String, ByteString> =
                wanted.iter().map(|(key, text)| (key.clone(), bytes(text))).collect();
            restored.entry(BUNDLE.into()).or_default().0.extend(former.0);
            secret.data = Some(restored);
            match api.replace(&own, &PostParams::default(), &secret).await {
                Ok(_) => {}
                Err(Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(failure(&error)),
            }
        }
        if Instant::now() > until {
            return Err(StoreError::Unreachable(format!(
                "the operator has made no certificate of the restored authority (Secret {own}) within {} s: look at it, then restore again",
                SIGNED_WITHIN.as_secs()
            )));
        }
        sleep(LOOK_EVERY).await;
    }
}

fn secrets(cluster: &Cluster) -> Api<Secret> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}
