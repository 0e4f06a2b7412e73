//! What a zone knows of a mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use ursa_crds::{DataplaneSpec, MtlsMode, Pod, Tags, WorkloadIdentity, tag};
use ursa_model::TrustDomain;

use crate::facts::Memory;
use crate::grants::{Place, is_member, zone_may_carry_name};
use crate::inbound::automatic;
use crate::input::{MeshInput, RemoteZone, ServiceAddress};
use crate::local::Local;
use crate::members::Members;
use crate::named::{Named, NamedServices};
use crate::names::name;
use crate::permission::Permissions;
use crate::route::Routes;
use crate::services::Offered;
use crate::source::Known;
use crate::workload::{Workload, address_in_force};

/// What a zone knows of a mesh, prepared for looking things up, and for changes ([`Self::set_instance`] and others).
#[derive(Debug)]
pub struct MeshView {
    /// Without what changes one by one: instances and policies.
    pub(crate) input: MeshInput,
    pub(crate) mtls: bool,
    /// Each dataplane of the own zone as the mesh takes it.
    pub(crate) members: Members,
    /// Inbounds of the own zone.
    pub(crate) local: Local,
    /// Who the own zone's workloads are, and how many of them each.
    pub(crate) identities: BTreeMap<WorkloadIdentity, usize>,
    /// Where services are called, by the names that are in force.
    pub(crate) addresses: Arc<[ServiceAddress]>,
    /// Each service that somebody serves, as it is called by its name.
    pub(crate) named: NamedServices,
    pub(crate) permissions: Permissions,
    pub(crate) routes: Routes,
    /// The routes that proxies still follow, while those that are wanted are on their way.
    pub(crate) held: Option<Routes>,
    /// Worked out when a permission asks for it.
    pub(crate) known: OnceLock<BTreeSet<Known>>,
    pub(crate) memory: Memory,
    pub(crate) offered: Offered,
}

impl MeshView {
    /// Prepares what is known.
    pub fn new(mut input: MeshInput) -> Self {
        input.remotes.sort_by(|a, b| a.zone.cmp(&b.zone));
        leave_out_what_is_not_granted(&mut input);
        let wished = input.addresses.iter().any(|address| address.wished.is_some());
        let addresses = if wished {
            input.addresses.iter().map(|address| address_in_force(&input, address)).collect()
        } else {
            input.addresses.clone()
        };
        let instances = std::mem::take(&mut input.instances);
        let mut view = Self {
            mtls: input.spec.enabled_backend().is_some(),
            permissions: Permissions::new(&std::mem::take(&mut input.permissions)),
            routes: Routes::new(&std::mem::take(&mut input.routes)),
            held: None,
            members: Members::default(),
            local: Local::default(),
            identities: BTreeMap::new(),
            addresses,
            named: NamedServices::default(),
            known: OnceLock::new(),
            memory: Memory::default(),
            offered: Offered::default(),
            input,
        };
        for instance in instances {
            let name = instance.dataplane.meta.name.clone();
            view.replace(&name, Some(instance));
        }
        view.named = view.name_services();
        view
    }

    /// The names of services, for a workload whose own address is like this one: fully qualified (`redis.demo.mesh`),
    /// ordered.
    pub fn names(&self, own: IpAddr) -> BTreeMap<String, IpAddr> {
        let one = |(service, named): (&String, &Named)| Some((name(service)?, named.address.like(own)));
        self.named.iter().filter_map(one).collect()
    }

    /// The address of a dataplane whose traffic is captured.
    pub fn captured(&self, name: &str) -> Option<IpAddr> {
        let networking = &self.workload(name)?.spec().networking;
        networking.capture.map(|_| networking.address)
    }

    /// The mesh.
    pub fn name(&self) -> &str {
        &self.input.name
    }

    /// The pod behind a dataplane, if there is one.
    pub fn pod(&self, name: &str) -> Option<&Pod> {
        self.workload(name)?.spec().pod.as_ref()
    }

    /// The roots of every zone known in the mesh; empty while mutual TLS is off.
    pub fn trust(&self) -> &ursa_model::TrustBundle {
        &self.input.trust
    }

    /// Why a dataplane of this zone is not in the mesh, for people; `None` if it is, or is not known.
    pub fn exclusion(&self, name: &str) -> Option<&str> {
        self.workload(name)?.exclusion.as_deref()
    }

    pub(crate) fn workload(&self, name: &str) -> Option<&Workload> {
        self.members.get(name)
    }

    /// The routes that proxies follow.
    pub(crate) fn followed(&self) -> &Routes {
        self.held.as_ref().unwrap_or(&self.routes)
    }

    /// A dataplane of this zone that is in the mesh, as policies see it.
    pub(crate) fn dataplane(&self, name: &str) -> Option<Seen<'_>> {
        let workload = self.workload(name).filter(|workload| workload.exclusion.is_none())?;
        let spec = workload.spec();
        let tags = |inbound| automatic(inbound, name, &self.input.zone);
        let inbounds: Vec<Tags> = spec.networking.inbound.iter().map(tags).collect();
        let pod = spec.pod.as_ref().map(|pod| {
            let mut tags = pod.tags.clone();
            tags.insert(tag::ZONE.into(), self.input.zone.clone());
            tags
        });
        let caller = inbounds.iter().cloned().chain(pod).collect();
        Some(Seen { spec, inbounds, caller })
    }

    pub(crate) fn is_permissive(&self) -> bool {
        self.input.spec.mtls.as_ref().is_some_and(|mtls| mtls.mode == MtlsMode::Permissive)
    }

    /// Names of the zones whose roots are known.
    pub(crate) fn zones(&self) -> Vec<TrustDomain> {
        let domain =
            |name: &String| Some(TrustDomain::new(zone_of(name, &self.input.name)?, &self.input.name));
        self.input.trust.keys().filter_map(domain).collect()
    }

    /// The other zones, as far as traffic may go there: without mutual TLS it stays at home, and without a zone's roots
    /// every handshake with it would fail.
    pub(crate) fn reachable_remotes(&self) -> impl Iterator<Item = &RemoteZone> {
        let trusted =
            |zone: &str| self.input.trust.contains_key(&TrustDomain::new(zone, &self.input.name).to_string());
        self.input.remotes.iter().filter(move |remote| self.mtls && trusted(&remote.zone))
    }

    /// Whether traffic may go to another zone.
    pub fn is_reachable(&self, zone: &str) -> bool {
        self.reachable_remotes().any(|remote| remote.zone == zone)
    }
}

/// Of the other zones only that counts which the mesh grants them, whatever they say.
fn leave_out_what_is_not_granted(input: &mut MeshInput) {
    let MeshInput { name, spec, trust, remotes, .. } = input;
    let is_member = |zone: &str| is_member(spec, Place::zone(zone));
    trust.retain(|domain, _| zone_of(domain, name).is_some_and(is_member));
    remotes.retain(|remote| is_member(&remote.zone));
    for remote in remotes {
        let zone = &remote.zone;
        remote.services.retain(|service| {
            service.tags.get(tag::SERVICE).is_some_and(|name| zone_may_carry_name(spec, zone, name))
        });
    }
}

/// The zone of a trust domain's name.
pub(crate) fn zone_of<'a>(domain: &'a str, mesh: &str) -> Option<&'a str> {
    let (zone, of) = domain.strip_suffix(".ursa")?.split_once('.')?;
    (of == mesh).then_some(zone)
}

/// A dataplane as policies see it.
pub(crate) struct Seen<'a> {
    pub(crate) spec: &'a DataplaneSpec,
    /// The tags of each inbound, in their order.
    pub(crate) inbounds: Vec<Tags>,
    /// What it may be taken for when it calls.
    pub(crate) caller: Vec<Tags>,
}
