//! The state of one mesh in this zone, and what follows from it for each proxy.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use ursa_crds::{Kind, MeshSpec, Object, ObjectKey, Spec};
use ursa_envoy::{Interner, Resource, ResourceSet, endpoint_resource, translate};
use ursa_model::{DestinationId, ProxyModel, TrustBundle, TrustDomain};
use ursa_policy::{Instance, MeshInput, MeshView};

use crate::SnapshotReceiver;
use crate::authority::{Authority, AuthorityError};
use crate::presence::Presence;
use crate::snapshot::{IdentityGrant, Snapshot};

#[derive(Debug, Default)]
pub(crate) struct MeshState {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    presence: BTreeMap<String, Presence>,
    subscribers: HashMap<String, Subscriber>,
    pub(crate) dirty: bool,
}

#[derive(Debug)]
struct Subscriber {
    sender: watch::Sender<Option<Arc<Snapshot>>>,
    model: Option<(ProxyModel, ResourceSet)>,
}

impl MeshState {
    /// Takes a change of an object of the mesh, or of the mesh itself.
    pub(crate) fn apply(&mut self, key: &ObjectKey, object: Option<Arc<Object>>, now: Instant) {
        self.dirty = true;
        if key.kind == Kind::Dataplane {
            if object.is_some() {
                self.presence.entry(key.name.clone()).or_insert_with(|| Presence::unseen(now));
            } else {
                self.presence.remove(&key.name);
            }
        }
        match object {
            Some(object) => self.objects.insert(key.clone(), object),
            None => self.objects.remove(key),
        };
    }

    /// An agent connected, maybe before its dataplane is known here.
    pub(crate) fn connected(&mut self, proxy: &str, now: Instant) {
        self.dirty = true;
        self.presence.entry(proxy.to_owned()).or_insert_with(|| Presence::unseen(now)).connected();
    }

    /// Changes the presence of a proxy, unless its dataplane is gone.
    pub(crate) fn change_presence(&mut self, proxy: &str, change: impl FnOnce(&mut Presence)) {
        if let Some(presence) = self.presence.get_mut(proxy) {
            self.dirty = true;
            change(presence);
        }
    }

    /// When [`Self::expire`] will next change something.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.presence.values().filter_map(Presence::deadline).min()
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        for presence in self.presence.values_mut() {
            self.dirty |= presence.expire(now);
        }
    }

    pub(crate) fn subscribe(&mut self, proxy: &str) -> SnapshotReceiver {
        self.dirty = true;
        self.subscribers
            .entry(proxy.to_owned())
            .or_insert_with(|| Subscriber { sender: watch::Sender::new(None), model: None })
            .sender
            .subscribe()
    }

    /// Works out every subscribed proxy's snapshot anew and publishes those that changed.
    pub(crate) async fn rebuild(
        &mut self,
        name: &str,
        authority: &Authority,
        interner: &mut Interner,
        sequence: u64,
    ) -> Result<(), AuthorityError> {
        let mesh = self.objects.get(&ObjectKey::mesh(name)).and_then(|object| match &object.spec {
            Spec::Mesh(spec) => Some(spec.clone()),
            _ => None,
        });
        self.subscribers.retain(|_, subscriber| subscriber.sender.receiver_count() > 0);
        let Some(spec) = mesh else {
            // Policies without their mesh say nothing; what proxies have stays until the mesh is known again.
            self.dirty = false;
            return Ok(());
        };
        let (trust, signer) = trust(name, &spec, authority).await?;
        let view = MeshView::new(self.input(name, spec, trust, authority.zone()));
        let mut endpoints: HashMap<DestinationId, Arc<Resource>> = HashMap::new();
        for (proxy, subscriber) in &mut self.subscribers {
            let Some(model) = view.proxy(proxy) else { continue };
            let identity = signer.as_ref().and_then(|signer| {
                let object = self.objects.get(&ObjectKey::in_mesh(Kind::Dataplane, name, proxy))?;
                Some(IdentityGrant { spiffe_id: view.identity(object), ..signer.clone() })
            });
            let resources = match &subscriber.model {
                Some((last, resources)) if *last == model => resources.clone(),
                _ => translate(&model, interner),
            };
            let mut all = resources.clone();
            for destination in &model.destinations {
                let resource = endpoints.entry(destination.id.clone()).or_insert_with(|| {
                    endpoint_resource(&destination.id.name(), &view.endpoints(&destination.id), interner)
                });
                all.insert(resource.key.clone(), resource.clone());
            }
            subscriber.model = Some((model, resources));
            subscriber.publish(all, identity, sequence);
        }
        self.dirty = false;
        Ok(())
    }

    fn input(&self, name: &str, spec: MeshSpec, trust: TrustBundle, zone: &str) -> MeshInput {
        let of = |kind| self.objects.values().filter(move |object| object.kind() == kind).cloned();
        let instances = of(Kind::Dataplane)
            .map(|dataplane| {
                let presence = self.presence.get(&dataplane.meta.name);
                Instance {
                    unready_ports: presence.map(|p| p.unready.clone()).unwrap_or_default(),
                    state: presence.map(Presence::state).unwrap_or_default(),
                    draining: presence.is_some_and(|p| p.draining),
                    dataplane,
                }
            })
            .collect();
        MeshInput {
            name: name.to_owned(),
            zone: zone.to_owned(),
            spec,
            trust,
            instances,
            remotes: Vec::new(),
            permissions: of(Kind::TrafficPermission).collect(),
            routes: of(Kind::TrafficRoute).collect(),
        }
    }
}

/// The roots of the mesh's zones and, as a grant without an identity yet, who signs. Both empty while mutual TLS is off.
async fn trust(
    mesh: &str,
    spec: &MeshSpec,
    authority: &Authority,
) -> Result<(TrustBundle, Option<IdentityGrant>), AuthorityError> {
    let (Some(enabled), Some(mtls)) = (spec.enabled_backend(), &spec.mtls) else {
        return Ok((TrustBundle::new(), None));
    };
    let domain = TrustDomain::new(authority.zone(), mesh);
    let mut roots = String::new();
    let mut grant = None;
    for backend in &mtls.backends {
        // A backend that does not sign yet is trusted already, so that changing over is seamless.
        let ca = authority.ensure(mesh, &backend.name).await?;
        roots.push_str(ca.root_pem());
        if backend.name == enabled.name {
            grant = Some(IdentityGrant {
                spiffe_id: ursa_model::SpiffeId::universal(domain.clone(), "", ""),
                backend: backend.name.clone(),
                signer: ca.signer().to_owned(),
                lifetime: backend.dp_cert.rotation.expiration.get(),
            });
        }
    }
    Ok((TrustBundle::from([(domain.to_string(), roots)]), grant))
}

impl Subscriber {
    fn publish(&self, resources: ResourceSet, identity: Option<IdentityGrant>, sequence: u64) {
        self.sender.send_if_modified(|current| {
            if let Some(current) = current
                && current.identity == identity
                && same(&current.resources, &resources)
            {
                return false;
            }
            *current = Some(Arc::new(Snapshot { sequence, resources: Arc::new(resources), identity }));
            true
        });
    }
}

fn same(a: &ResourceSet, b: &ResourceSet) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((a_key, a), (b_key, b))| a_key == b_key && a.version == b.version)
}
