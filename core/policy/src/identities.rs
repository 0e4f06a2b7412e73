//! Who workloads are: those of this zone, and what is known of those of others.

use std::collections::BTreeSet;

use ursa_crds::WorkloadIdentity;
use ursa_model::{SpiffeId, TrustDomain};

use crate::grants::{Place, is_member, may_carry_name, zone_may_carry_name};
use crate::input::RemoteZone;
use crate::source::{Detail, Known};
use crate::view::MeshView;

impl MeshView {
    /// The identity of a dataplane of this zone; `None` if there is no such dataplane, or it is not in the mesh.
    pub fn identity(&self, name: &str) -> Option<SpiffeId> {
        let workload = self.workload(name).filter(|workload| workload.exclusion.is_none())?;
        let domain = TrustDomain::new(&self.input.zone, &self.input.name);
        let id = SpiffeId::universal(domain, workload.primary_service(), name);
        let namespace = in_identity(workload.namespace());
        Some(SpiffeId { namespace, tags: SpiffeId::hash(&workload.tags), ..id })
    }

    /// Who this zone's workloads are, for the other zones; ordered.
    pub fn identities(&self) -> Vec<WorkloadIdentity> {
        self.identities.keys().cloned().collect()
    }

    /// Every workload that is known, as permissions see it.
    pub(crate) fn known_identities(&self) -> &BTreeSet<Known> {
        self.known.get_or_init(|| {
            let own = self.identities().into_iter().map(|identity| self.known_as(&self.input.zone, identity));
            let others = self.input.remotes.iter().flat_map(|remote| self.known_of(remote));
            own.chain(others).collect()
        })
    }

    pub(crate) fn known_as(
        &self,
        zone: &str,
        WorkloadIdentity { service, namespace, tags }: WorkloadIdentity,
    ) -> Known {
        let detail = Detail { hash: SpiffeId::hash(&tags), namespace, tags };
        Known { domain: TrustDomain::new(zone, &self.input.name), service, detail: Some(detail) }
    }

    /// Of another zone only that counts which the mesh grants it, whatever the zone says.
    fn known_of(&self, remote: &RemoteZone) -> Vec<Known> {
        let (mesh, zone) = (&self.input.spec, &remote.zone);
        if let Some(identities) = &remote.identities {
            let granted = identities.iter().filter(|identity| {
                let place = Place::new(zone, &identity.namespace);
                is_member(mesh, place) && may_carry_name(mesh, place, &identity.service)
            });
            return granted.map(|identity| self.known_as(zone, identity.clone())).collect();
        }
        // Its control plane is too old to say more.
        let services: BTreeSet<&String> =
            remote.services.iter().flat_map(|service| &service.identity_services).collect();
        let granted = services.into_iter().filter(|service| zone_may_carry_name(mesh, zone, service));
        let domain = TrustDomain::new(zone, &self.input.name);
        granted
            .map(|service| Known { domain: domain.clone(), service: service.clone(), detail: None })
            .collect()
    }
}

/// As it stands in an identity.
pub(crate) fn in_identity(namespace: &str) -> String {
    if namespace.is_empty() { SpiffeId::NONE.to_owned() } else { namespace.to_owned() }
}
