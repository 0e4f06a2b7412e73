//! Whom a permission's source selects.
//!
//! A source is judged by what certificates prove: zone, service, namespace and the tags that the mesh declares as identity. What
//! cannot be resolved never lets anybody in: a tag that is not declared makes an `Allow` select nobody, and is left out of
//! a `Deny`, which then refuses more.

use ursa_crds::{MeshSpec, Tags, tag};
use ursa_model::{IdentityPattern, TrustDomain};

use crate::grants::{Place, is_declared, is_member, may_carry_name, may_carry_tag, zone_may_carry_name};
use crate::identities::in_identity;

/// A workload as permissions see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Known {
    pub(crate) domain: TrustDomain,
    /// The service in its certificate.
    pub(crate) service: String,
    /// `None`: its zone does not say more.
    pub(crate) detail: Option<Detail>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Detail {
    /// Empty where there is none.
    pub(crate) namespace: String,
    pub(crate) tags: Tags,
    /// Of the tags.
    pub(crate) hash: String,
}

/// How much of an identity tells those that a source selects from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Depth {
    Service,
    Namespace,
    Tags,
}

impl Known {
    /// Of one of whom all that it stands for are selected alike, by sources of this depth.
    pub(crate) fn pattern(&self, depth: Depth) -> IdentityPattern {
        let Self { domain, service, detail } = self.clone();
        match (depth, detail) {
            (Depth::Namespace, Some(detail)) => {
                IdentityPattern::Namespace(domain, service, in_identity(&detail.namespace))
            }
            (Depth::Tags, Some(detail)) => {
                IdentityPattern::Tags(domain, service, in_identity(&detail.namespace), detail.hash)
            }
            // Of whom no more is known, nobody is admitted whom a source of more depth might refuse.
            (Depth::Service, _) | (_, None) => IdentityPattern::Service(domain, service),
        }
    }
}

/// A source selector, in a mesh that declares what identities consist of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    wanted: &'a Tags,
    mesh: &'a MeshSpec,
}

impl<'a> Source<'a> {
    pub(crate) fn new(wanted: &'a Tags, mesh: &'a MeshSpec) -> Self {
        Self { wanted, mesh }
    }

    /// Whether it selects a workload, as a source of an `Allow`.
    pub(crate) fn admits(self, known: &Known) -> bool {
        !self.wanted.is_empty()
            && self.wanted.iter().all(|(key, value)| {
                let Some(proved) = proved(known, key, value) else { return false };
                let detail = known.detail.as_ref();
                // What another zone says of its workloads counts as far as the mesh grants it.
                proved
                    && (is_always_proved(key)
                        || detail.is_some_and(|detail| {
                            may_carry_tag(self.mesh, Place::new(&known.domain.zone, &detail.namespace), key)
                        }))
            })
    }

    /// Whether it selects a workload, as a source of a `Deny`.
    pub(crate) fn refuses(self, known: &Known) -> bool {
        !self.wanted.is_empty()
            && self
                .wanted
                .iter()
                .filter(|(key, _)| is_provable(self.mesh, key))
                .all(|(key, value)| proved(known, key, value) != Some(false))
    }

    pub(crate) fn depth(self) -> Depth {
        let depth = |key: &String| match key.as_str() {
            tag::SERVICE | tag::ZONE => Depth::Service,
            tag::NAMESPACE => Depth::Namespace,
            key if is_declared(self.mesh, key) => Depth::Tags,
            _ => Depth::Service,
        };
        self.wanted.keys().map(depth).max().unwrap_or(Depth::Service)
    }

    /// What it stands for in these zones whoever is known, workloads that come later included; `None` if only those who are
    /// known can be named.
    pub(crate) fn prefixes(self, zones: &[TrustDomain]) -> Option<Vec<IdentityPattern>> {
        if self.wanted.is_empty() || !self.wanted.keys().all(|key| is_always_proved(key)) {
            return None;
        }
        let exact = |key: &str| self.wanted.get(key).filter(|value| *value != tag::ANY);
        let zones = zones.iter().filter(|domain| exact(tag::ZONE).is_none_or(|zone| *zone == domain.zone));
        let pattern = |domain: &TrustDomain| match (exact(tag::SERVICE), exact(tag::NAMESPACE)) {
            (Some(service), Some(namespace)) => {
                let place = Place::new(&domain.zone, namespace);
                let granted = is_member(self.mesh, place) && may_carry_name(self.mesh, place, service);
                let pattern =
                    || IdentityPattern::Namespace(domain.clone(), service.clone(), namespace.clone());
                granted.then(pattern)
            }
            (Some(service), None) => zone_may_carry_name(self.mesh, &domain.zone, service)
                .then(|| IdentityPattern::Service(domain.clone(), service.clone())),
            (None, _) => Some(IdentityPattern::Zone(domain.clone())),
        };
        let by_namespace = self.wanted.contains_key(tag::NAMESPACE);
        let nameable = !by_namespace || (exact(tag::SERVICE).is_some() && exact(tag::NAMESPACE).is_some());
        nameable.then(|| zones.filter_map(pattern).collect())
    }
}

/// Whether identities of the mesh can have it.
pub(crate) fn is_provable(mesh: &MeshSpec, key: &str) -> bool {
    is_always_proved(key) || is_declared(mesh, key)
}

/// Whether all identities have it, whatever the mesh declares.
fn is_always_proved(key: &str) -> bool {
    matches!(key, tag::SERVICE | tag::ZONE | tag::NAMESPACE)
}

/// Whether a workload has a tag with this value in its identity; `None` if that is not known.
fn proved(known: &Known, key: &str, value: &str) -> Option<bool> {
    let fits = |actual: &str| value == tag::ANY || value == actual;
    match (key, &known.detail) {
        (tag::SERVICE, _) => Some(fits(&known.service)),
        (tag::ZONE, _) => Some(fits(&known.domain.zone)),
        (_, None) => None,
        (tag::NAMESPACE, Some(detail)) => Some(!detail.namespace.is_empty() && fits(&detail.namespace)),
        (_, Some(detail)) => Some(detail.tags.get(key).is_some_and(|actual| fits(actual))),
    }
}
