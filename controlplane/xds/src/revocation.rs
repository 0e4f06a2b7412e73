//! Tokens that their mesh has revoked: who came with one, or with a certificate that was signed on one, is refused, and what is
//! open ends at once.
//!
//! Invariant: what the store says at a call decides the call; what it says later ends the stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;
use ursa_crds::{Kind, MeshSpec, Object, ObjectKey, Spec};
use ursa_store::{Change, Store};

use crate::access::Caller;

/// By name.
type Meshes = BTreeMap<String, Arc<Object>>;

/// The meshes that have revoked tokens, as they are at each time; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Revocations(watch::Receiver<Meshes>);

impl Revocations {
    /// Follows a store, as long as somebody looks: one task for all streams.
    pub(crate) fn follow(store: &Store) -> Self {
        let (objects, mut changes) = store.watch();
        let meshes = objects.into_iter().filter(|object| revokes(object));
        let sender = watch::Sender::new(meshes.map(|mesh| (mesh.meta.name.clone(), mesh)).collect());
        let known = sender.subscribe();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = sender.closed() => return,
                    changed = changes.next() => {
                        let Some(changed) = changed else { return };
                        let of_meshes = changed.into_iter().filter(|change| change.key.kind == Kind::Mesh);
                        for change in of_meshes {
                            sender.send_if_modified(|meshes| take(meshes, change));
                        }
                    }
                }
            }
        });
        Self(known)
    }

    /// Waits until the token that the caller came with, or whose certificate was signed on it, is revoked; for ever if it came
    /// without.
    pub(crate) async fn of(&self, caller: &Caller) -> Status {
        let (Some(mesh), Some(token_id)) = (caller.mesh(), caller.token_id()) else {
            return std::future::pending().await;
        };
        let said = |meshes: &Meshes| revoked(meshes.get(mesh)?, token_id);
        let mut known = self.0.clone();
        let revoked = known.wait_for(|meshes| said(meshes).is_some()).await.ok();
        let status = revoked.and_then(|meshes| said(&meshes));
        match status {
            Some(status) => status,
            // Nobody follows any more: the control plane is stopping.
            None => std::future::pending().await,
        }
    }
}

/// Refuses a caller whose token is revoked.
pub(crate) fn refuse(store: &Store, caller: &Caller) -> Result<(), Status> {
    let (Some(mesh), Some(token_id)) = (caller.mesh(), caller.token_id()) else { return Ok(()) };
    let mesh = store.get(&ObjectKey::mesh(mesh));
    mesh.and_then(|mesh| revoked(&mesh, token_id)).map_or(Ok(()), Err)
}

fn revoked(mesh: &Object, token_id: &str) -> Option<Status> {
    ursa_policy::revocation(mesh_spec(mesh)?, token_id).map(Status::unauthenticated)
}

fn mesh_spec(object: &Object) -> Option<&MeshSpec> {
    match &object.spec {
        Spec::Mesh(spec) => Some(spec),
        _ => None,
    }
}

fn revokes(object: &Object) -> bool {
    mesh_spec(object).is_some_and(|spec| spec.revoked_tokens.iter().flatten().next().is_some())
}

/// Whether anybody needs to look again.
fn take(meshes: &mut Meshes, Change { key, object, .. }: Change) -> bool {
    let Some(object) = object.filter(|object| revokes(object)) else {
        meshes.remove(&key.name);
        return false;
    };
    let before = meshes.insert(key.name, object.clone());
    let tokens = |object: &Object| mesh_spec(object).map(|spec| spec.revoked_tokens.clone());
    before.is_none_or(|before| tokens(&before) != tokens(&object))
}
