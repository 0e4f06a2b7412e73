//! Zone ingresses in pods: a `ZoneIngress` that the operator sets up becomes one of the zone's own, in memory, and its status
//! says how many services it passes on.
//!
//! Where it is reached is in the status, by the operator. As long as that is not known the ingress is known to its agents
//! and announced to nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use ursa_crds::{
    INGRESS_PORT, Kind, Meta, Object, ObjectKey, SocketSpec, Spec, ZoneIngress, ZoneIngressSpec, tag,
};
use ursa_store::Store;

/// The field manager of control planes.
const MANAGER: &str = "ursa-cp";
/// A status that could not be written is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);

/// Which zone it is, and where its ingresses are looked for.
#[derive(Clone, Debug)]
pub struct IngressesOf {
    /// The zone.
    pub zone: String,
    /// The system's namespace.
    pub namespace: String,
}

/// Follows the zone's ingresses until the process ends; returns once all that there are have been told to the store, so that
/// nobody takes one that is not seen yet for one that is gone. The replica that leads writes the statuses.
pub async fn follow_ingresses(client: &Client, of: IngressesOf, store: Store, leads: watch::Receiver<bool>) {
    let (listed, is_listed) = oneshot::channel();
    let api = Api::<ZoneIngress>::namespaced(client.clone(), &of.namespace);
    let events = watcher(api.clone(), watcher::Config::default()).default_backoff().boxed();
    let follower = Follower { api, ingresses: Ingresses::new(of.zone), store, listed: Some(listed) };
    tokio::spawn(follower.run(events, leads));
    // The sender goes only with the process.
    let _ = is_listed.await;
}

struct Follower {
    api: Api<ZoneIngress>,
    ingresses: Ingresses,
    store: Store,
    /// To be told once, after the first list.
    listed: Option<oneshot::Sender<()>>,
}

impl Follower {
    async fn run(
        mut self,
        mut events: impl Stream<Item = watcher::Result<Event<ZoneIngress>>> + Unpin,
        mut leads: watch::Receiver<bool>,
    ) {
        let (_, mut changes) = self.store.watch();
        let mut retry_at = None;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.event(event),
                    Some(Err(error)) => tracing::warn!(%error, "cannot follow zone ingresses; trying again"),
                    None => return,
                },
                changed = changes.next() => {
                    let Some(changed) = changed else { return };
                    if !changed.iter().any(|change| change.key.kind == Kind::MeshZone) {
                        continue;
                    }
                }
                Ok(()) = leads.changed() => {}
                () = sleep_until(retry_at), if retry_at.is_some() => {}
            }
            retry_at = None;
            if self.listed.is_none() && *leads.borrow_and_update() && self.tell().await.is_err() {
                retry_at = Some(Instant::now() + RETRY);
            }
        }
    }

    fn event(&mut self, event: Event<ZoneIngress>) {
        let changes = match event {
            Event::Init => {
                self.ingresses.list();
                Vec::new()
            }
            Event::InitApply(ingress) | Event::Apply(ingress) => self.ingresses.apply(&ingress),
            Event::Delete(ingress) => self.ingresses.gone(&ingress.name_any()),
            Event::InitDone => self.ingresses.end_of_list(),
        };
        if !changes.is_empty() {
            self.store.discovered(changes);
        }
        if self.ingresses.is_listed
            && let Some(listed) = self.listed.take()
        {
            let _ = listed.send(());
        }
    }

    /// Writes statuses that do not say how many services are passed on.
    async fn tell(&mut self) -> Result<(), ()> {
        let count = services(&self.store.list(Kind::MeshZone), &self.ingresses.zone);
        let mut result = Ok(());
        for name in self.ingresses.untold(count) {
            let status = json!({
                "apiVersion": ursa_crds::API_VERSION, "kind": "ZoneIngress", "metadata": {"name": name},
                "status": {"services": count},
            });
            let params = PatchParams::apply(MANAGER).force();
            match self.api.patch_status(&name, &params, &Patch::Apply(status)).await {
                Ok(_) => self.ingresses.told(&name, count),
                // It is gone, which is seen in a moment.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    tracing::warn!(name, %error, "cannot write the status of a zone ingress; trying again");
                    result = Err(());
                }
            }
        }
        result
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What is to be told to the store.
type Changes = Vec<(ObjectKey, Option<Object>)>;

/// The operator's ingresses as they were told to the store. Pure.
#[derive(Debug, Default)]
struct Ingresses {
    zone: String,
    said: BTreeMap<String, Said>,
    /// Names that a list has not shown yet.
    unlisted: BTreeSet<String>,
    is_listed: bool,
}

#[derive(Debug)]
struct Said {
    object: Object,
    /// As the status has it.
    services: Option<i32>,
}

impl Ingresses {
    fn new(zone: String) -> Self {
        Self { zone, ..Self::default() }
    }

    /// A list begins.
    fn list(&mut self) {
        self.unlisted = self.said.keys().cloned().collect();
    }

    /// A list has ended: what it did not show is gone.
    fn end_of_list(&mut self) -> Changes {
        self.is_listed = true;
        let gone = std::mem::take(&mut self.unlisted);
        gone.iter().flat_map(|name| self.gone(name)).collect()
    }

    fn apply(&mut self, ingress: &ZoneIngress) -> Changes {
        let name = ingress.name_any();
        self.unlisted.remove(&name);
        let Some(object) = object(&self.zone, ingress) else { return self.gone(&name) };
        let services = ingress.status.as_ref().and_then(|status| status.services);
        let former = self.said.insert(name, Said { object: object.clone(), services });
        if former.is_some_and(|former| former.object == object) {
            return Vec::new();
        }
        vec![(object.key(), Some(object))]
    }

    fn gone(&mut self, name: &str) -> Changes {
        self.said.remove(name).into_iter().map(|said| (said.object.key(), None)).collect()
    }

    /// Names of those whose status does not say this number.
    fn untold(&self, services: i32) -> Vec<String> {
        let untold = self.said.iter().filter(|(_, said)| said.services != Some(services));
        untold.map(|(name, _)| name.clone()).collect()
    }

    fn told(&mut self, name: &str, services: i32) {
        if let Some(said) = self.said.get_mut(name) {
            said.services = Some(services);
        }
    }
}

/// The zone's ingress that follows; `None`: it is not the operator's, or about to go.
fn object(zone: &str, ingress: &ZoneIngress) -> Option<Object> {
    ingress.spec.control_plane_ref.as_ref()?;
    let meta = &ingress.metadata;
    if meta.deletion_timestamp.is_some() {
        return None;
    }
    let advertised = ingress.status.as_ref().and_then(|status| {
        let address = status.address.as_deref()?.parse().ok()?;
        Some(SocketSpec { address, port: status.port? })
    });
    let spec = ZoneIngressSpec {
        zone: zone.to_owned(),
        // Each pod listens at its own address.
        networking: Some(SocketSpec { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: INGRESS_PORT }),
        advertised,
        ..ZoneIngressSpec::default()
    };
    let meta = Meta {
        name: format!("{zone}.{}", meta.name.as_deref()?),
        uid: meta.uid.clone()?,
        generation: meta.generation.and_then(|generation| u64::try_from(generation).ok()).unwrap_or_default(),
        created: meta.creation_timestamp.as_ref().map(|time| time.0),
        ..Meta::default()
    };
    Some(Object { meta, spec: Spec::ZoneIngress(spec) })
}

/// How many services the zone's ingresses pass on: those that it offers in meshes with mutual TLS.
fn services<O: AsRef<Object>>(offers: &[O], zone: &str) -> i32 {
    let own = offers.iter().map(AsRef::as_ref).filter(|offer| offer.meta.name == zone);
    let offered = own.filter_map(|offer| match &offer.spec {
        Spec::MeshZone(spec) if !spec.roots.is_empty() => Some(spec),
        _ => None,
    });
    let services: BTreeSet<_> = offered
        .flat_map(|offer| offer.services.iter().map(|service| (&offer.mesh, service.tags.get(tag::SERVICE))))
        .collect();
    services.len().try_into().unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use ursa_crds::{AvailableService, MeshZoneSpec, Tags};

    use super::*;

    fn ingress(name: &str, spec: Value, status: Value) -> ZoneIngress {
        serde_json::from_value(json!({
            "apiVersion": "ursamesh.io/v1alpha1", "kind": "ZoneIngress",
            "metadata": {"name": name, "namespace": "ursa-system", "uid": "u-1", "generation": 1},
            "spec": spec, "status": status,
        }))
        .unwrap()
    }

    fn by_operator() -> Value {
        json!({"controlPlaneRef": {"name": "ursa"}})
    }

    fn found() -> Value {
        json!({"address": "203.0.113.7", "port": 443})
    }

    fn only(changes: Changes) -> (String, Option<ZoneIngressSpec>) {
        let [(key, object)] = changes.try_into().unwrap();
        assert!(key.mesh.is_empty() && key.namespace.is_empty() && key.kind == Kind::ZoneIngress);
        let spec = object.map(|object| match object.spec {
            Spec::ZoneIngress(spec) => spec,
            other => panic!("{other:?}"),
        });
        (key.name, spec)
    }

    #[test]
    fn it_is_the_zones_ingress_and_announced_once_it_is_known_where_it_is_reached() {
        let mut seen = Ingresses::new("east".into());
        let (name, spec) = only(seen.apply(&ingress("in", by_operator(), Value::Null)));
        let spec = spec.unwrap();
        assert_eq!((name.as_str(), spec.zone.as_str(), spec.reached_at()), ("east.in", "east", None));
        assert_eq!(spec.networking.unwrap().port, INGRESS_PORT);

        let with_address = ingress("in", by_operator(), found());
        let (_, spec) = only(seen.apply(&with_address));
        let reached = spec.as_ref().and_then(ZoneIngressSpec::reached_at).unwrap();
        assert_eq!((reached.address.to_string().as_str(), reached.port), ("203.0.113.7", 443));
        let meta = Meta { name: "east.in".into(), ..Meta::default() };
        let object = Object { meta, spec: Spec::ZoneIngress(spec.unwrap()) };
        assert_eq!(ursa_policy::validate(&object), [], "other zones take it");
        assert!(seen.apply(&with_address).is_empty(), "what is known causes nothing");
    }

    #[test]
    fn what_is_registered_or_about_to_go_is_none() {
        let mut seen = Ingresses::new("east".into());
        let registered = json!({"zone": "west", "networking": {"address": "10.0.0.9"}});
        assert!(seen.apply(&ingress("west.in", registered, Value::Null)).is_empty());
        seen.apply(&ingress("in", by_operator(), found()));
        let mut going = ingress("in", by_operator(), found());
        going.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert_eq!(only(seen.apply(&going)), ("east.in".into(), None));
        assert!(seen.gone("in").is_empty(), "it is said once");
    }

    #[test]
    fn what_a_new_list_does_not_show_is_gone() {
        let mut seen = Ingresses::new("east".into());
        seen.list();
        seen.apply(&ingress("in", by_operator(), found()));
        assert!(!seen.is_listed, "unknown is not empty");
        assert!(seen.end_of_list().is_empty() && seen.is_listed);
        seen.apply(&ingress("other", by_operator(), found()));
        seen.list();
        seen.apply(&ingress("other", by_operator(), found()));
        assert_eq!(only(seen.end_of_list()), ("east.in".into(), None));
    }

    #[test]
    fn a_status_is_written_where_it_says_something_else() {
        let mut seen = Ingresses::new("east".into());
        seen.apply(&ingress("new", by_operator(), found()));
        seen.apply(&ingress("told", by_operator(), json!({"services": 2})));
        assert_eq!(seen.untold(2), ["new"]);
        seen.told("new", 2);
        assert!(seen.untold(2).is_empty());
        assert_eq!(seen.untold(3), ["new", "told"]);
    }

    #[test]
    fn services_count_once_and_only_where_traffic_crosses_zones() {
        let offer = |zone: &str, mesh: &str, roots: &str, services: &[&str]| {
            let service = |name: &&str| AvailableService {
                tags: Tags::from([(tag::SERVICE.to_owned(), (*name).to_owned())]),
                instances: 1,
                protocol: "tcp".into(),
                identity_services: BTreeSet::new(),
            };
            let spec = MeshZoneSpec {
                mesh: mesh.into(),
                roots: roots.into(),
                backends: Vec::new(),
                subsets: BTreeSet::new(),
                services: services.iter().map(service).collect(),
                identities: None,
            };
            let meta = Meta { name: zone.into(), ..Meta::default() };
            std::sync::Arc::new(Object { meta, spec: Spec::MeshZone(spec) })
        };
        let offers = [
            offer("east", "default", "PEM", &["web", "web", "db"]),
            offer("east", "other", "PEM", &["web"]),
            offer("east", "plain", "", &["web"]),
            offer("west", "default", "PEM", &["api"]),
        ];
        assert_eq!(services(&offers, "east"), 3);
    }
}
