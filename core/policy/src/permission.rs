//! `TrafficPermission`: who may call an inbound. The union of all that allow, less what any denies.
//!
//! Without a `Deny`, sources that name services and zones become prefixes of identities, which also stand for workloads that
//! come later; others become the known identities that they select. While a `Deny` reaches the inbound, only identities that
//! are known are admitted: a prefix cannot have a hole.

use std::collections::BTreeSet;
use std::sync::Arc;

use ursa_crds::{Action, MeshSpec, Object, ObjectKey, Spec, Tags, TrafficPermissionSpec, tag};
use ursa_model::{IdentityPattern, TrustDomain};

use crate::policies::Policies;
use crate::selector::{governs, matches};
use crate::source::{Depth, Known, Source};

#[derive(Debug, Default)]
pub(crate) struct Permissions(Policies);

impl Permissions {
    pub(crate) fn new(permissions: &[Arc<Object>]) -> Self {
        Self(Policies::new(permissions))
    }

    /// Sets one (`None`: there is none); what was there before.
    pub(crate) fn set(&mut self, key: &ObjectKey, permission: Option<Arc<Object>>) -> Option<Arc<Object>> {
        self.0.set(key, permission)
    }

    /// All, ordered by key.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.0.all()
    }

    /// The permissions whose destinations an inbound with one of these tag sets is, ordered by key.
    pub(crate) fn reaching(
        &self,
        inbound: &[&Tags],
    ) -> impl Iterator<Item = (&Arc<Object>, &TrafficPermissionSpec)> {
        let candidates = self.0.candidates_of_any(inbound).into_iter();
        let all = candidates.filter_map(|object| match &object.spec {
            Spec::TrafficPermission(spec) => Some((object, spec)),
            _ => None,
        });
        all.filter(|(object, spec)| {
            let is_meant = |tags: &&Tags| spec.destinations.iter().any(|to| matches(&to.match_tags, tags));
            inbound.iter().any(|tags| governs(object, tags) && is_meant(tags))
        })
    }

    /// The permissions that may let a caller in at a service, ordered by key: without any, all of its instances refuse it.
    /// `here`: tag sets of those in this zone. `elsewhere`: whether there may be others, of which not all tags are known.
    pub(crate) fn perhaps_admitting(
        &self,
        caller: &Known,
        service: &str,
        here: &BTreeSet<&Tags>,
        elsewhere: bool,
        mesh: &MeshSpec,
    ) -> Vec<&Arc<Object>> {
        let called = Tags::from([(tag::SERVICE.to_owned(), service.to_owned())]);
        let may_be_meant = |wanted: &Tags| {
            let named = wanted.get(tag::SERVICE).is_none_or(|named| named == service || named == tag::ANY);
            !wanted.is_empty() && named
        };
        let mut candidates = self.0.candidates_of_any(&[&called]);
        candidates.retain(|object| {
            let Spec::TrafficPermission(spec) = &object.spec else { return false };
            let is_meant = |wanted: &Tags| {
                elsewhere && may_be_meant(wanted)
                    || here.iter().any(|tags| governs(object, tags) && matches(wanted, tags))
            };
            spec.action == Action::Allow
                && spec.destinations.iter().any(|to| is_meant(&to.match_tags))
                && spec.sources.iter().any(|from| Source::new(&from.match_tags, mesh).admits(caller))
        });
        candidates
    }

    /// Who may call an inbound with these tag sets, ordered, none covered by another.
    pub(crate) fn callers<'k>(
        &self,
        inbound: &[&Tags],
        mesh: &MeshSpec,
        zones: &[TrustDomain],
        known: impl FnOnce() -> &'k BTreeSet<Known>,
    ) -> Vec<IdentityPattern> {
        let reaching: Vec<&TrafficPermissionSpec> = self.reaching(inbound).map(|(_, spec)| spec).collect();
        let sources = |action| -> Vec<Source<'_>> {
            let of = reaching.iter().filter(move |spec| spec.action == action);
            of.flat_map(|spec| &spec.sources).map(|source| Source::new(&source.match_tags, mesh)).collect()
        };
        let (allow, deny) = (sources(Action::Allow), sources(Action::Deny));
        let known = || known().iter().filter(|known| zones.contains(&known.domain));
        if deny.is_empty() {
            return outermost(&allowed(&allow, zones, known));
        }
        let depth = allow.iter().chain(&deny).map(|source| source.depth()).max().unwrap_or(Depth::Service);
        let admitted = known().filter(|known| {
            allow.iter().any(|source| source.admits(known))
                && !deny.iter().any(|source| source.refuses(known))
        });
        let patterns: BTreeSet<_> = admitted.map(|known| known.pattern(depth)).collect();
        patterns.into_iter().collect()
    }
}

/// Whom sources select, each as widely as it can be said.
fn allowed<'k, K: Iterator<Item = &'k Known>>(
    sources: &[Source<'_>],
    zones: &[TrustDomain],
    known: impl FnOnce() -> K,
) -> BTreeSet<IdentityPattern> {
    let mut patterns = BTreeSet::new();
    let mut of_known = Vec::new();
    for source in sources {
        match source.prefixes(zones) {
            Some(prefixes) => patterns.extend(prefixes),
            None => of_known.push(*source),
        }
    }
    if !of_known.is_empty() {
        patterns.extend(known().flat_map(|known| {
            let selecting = of_known.iter().filter(|source| source.admits(known));
            selecting.map(|source| known.pattern(source.depth()))
        }));
    }
    patterns
}

/// Leaves out what another covers.
fn outermost(patterns: &BTreeSet<IdentityPattern>) -> Vec<IdentityPattern> {
    let is_covered =
        |pattern: &&IdentityPattern| pattern.wider().iter().any(|wider| patterns.contains(wider));
    patterns.iter().filter(|pattern| !is_covered(pattern)).cloned().collect()
}

#[cfg(test)]
mod tests;
