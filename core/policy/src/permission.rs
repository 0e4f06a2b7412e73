//! `TrafficPermission`: who may call an inbound. The union of all that allow, less what any denies.
//!
//! Without a `Deny`, selectors become prefixes of identities, which also stand for workloads that come later. While a
//! `Deny` reaches the inbound, only identities that are known are admitted: a prefix cannot have a hole.

use std::collections::BTreeSet;
use std::sync::Arc;

use ursa_crds::{Action, Object, Spec, Tags, TrafficPermissionSpec, tag};
use ursa_model::{IdentityPattern, TrustDomain};

use crate::selector::{governs, matches};

#[derive(Debug)]
pub(crate) struct Permissions(Vec<Arc<Object>>);

/// A workload as permissions see it: its zone and the service in its certificate.
type Identity = (TrustDomain, String);

impl Permissions {
    pub(crate) fn new(permissions: &[Arc<Object>]) -> Self {
        Self(permissions.to_vec())
    }

    /// The permissions whose destinations an inbound with one of these tag sets is, ordered by key.
    pub(crate) fn reaching(
        &self,
        inbound: &[&Tags],
    ) -> impl Iterator<Item = (&Arc<Object>, &TrafficPermissionSpec)> {
        let all = self.0.iter().filter_map(|object| match &object.spec {
            Spec::TrafficPermission(spec) => Some((object, spec)),
            _ => None,
        });
        all.filter(|(object, spec)| {
            let is_meant = |tags: &&Tags| spec.destinations.iter().any(|to| matches(&to.match_tags, tags));
            inbound.iter().any(|tags| governs(object, tags) && is_meant(tags))
        })
    }

    /// Who may call an inbound with these tag sets, ordered, none covered by another.
    pub(crate) fn callers(
        &self,
        inbound: &[&Tags],
        zones: &[TrustDomain],
        known: impl FnOnce() -> BTreeSet<Identity>,
    ) -> Vec<IdentityPattern> {
        let reaching: Vec<&TrafficPermissionSpec> = self.reaching(inbound).map(|(_, spec)| spec).collect();
        let sources = |action| {
            let of = reaching.iter().filter(move |spec| spec.action == action);
            of.flat_map(|spec| &spec.sources).map(|selector| &selector.match_tags)
        };
        if sources(Action::Deny).next().is_none() {
            return outermost(sources(Action::Allow).flat_map(|source| patterns(source, zones)).collect());
        }
        let admitted = known().into_iter().filter(|identity| {
            sources(Action::Allow).any(|source| selects(source, identity))
                && !sources(Action::Deny).any(|source| selects(source, identity))
        });
        let in_known_zone = admitted.filter(|(domain, _)| zones.contains(domain));
        in_known_zone.map(|(domain, service)| IdentityPattern::Service(domain, service)).collect()
    }
}

/// Whether a source selector selects a workload. Outside Kubernetes no workload has a namespace.
fn selects(source: &Tags, (domain, service): &Identity) -> bool {
    let tags =
        Tags::from([(tag::SERVICE.to_owned(), service.clone()), (tag::ZONE.to_owned(), domain.zone.clone())]);
    matches(source, &tags)
}

/// What a source selector stands for, workloads that come later included.
fn patterns(source: &Tags, zones: &[TrustDomain]) -> Vec<IdentityPattern> {
    if source.is_empty() || source.keys().any(|key| key != tag::SERVICE && key != tag::ZONE) {
        return Vec::new();
    }
    let exact = |key: &str| source.get(key).filter(|value| *value != tag::ANY);
    let zones = zones.iter().filter(|domain| exact(tag::ZONE).is_none_or(|zone| *zone == domain.zone));
    zones
        .map(|domain| match exact(tag::SERVICE) {
            Some(service) => IdentityPattern::Service(domain.clone(), service.clone()),
            None => IdentityPattern::Zone(domain.clone()),
        })
        .collect()
}

/// Leaves out what another covers.
fn outermost(patterns: BTreeSet<IdentityPattern>) -> Vec<IdentityPattern> {
    let covered = |pattern: &IdentityPattern| match pattern {
        IdentityPattern::Zone(_) => false,
        IdentityPattern::Service(domain, _) => patterns.contains(&IdentityPattern::Zone(domain.clone())),
    };
    patterns.iter().filter(|pattern| !covered(pattern)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ursa_crds::{Meta, Selector};
    use ursa_model::SpiffeId;

    use super::*;

    const ZONES: [&str; 2] = ["east", "west"];
    const SERVICES: [&str; 3] = ["a", "b", "c"];

    fn domain(zone: &str) -> TrustDomain {
        TrustDomain::new(zone, "default")
    }

    fn known() -> BTreeSet<Identity> {
        ZONES
            .iter()
            .flat_map(|zone| SERVICES.iter().map(|service| (domain(zone), (*service).to_owned())))
            .collect()
    }

    fn selector() -> impl Strategy<Value = Selector> {
        let service = prop_oneof![Just("*"), Just("a"), Just("b"), Just("c")];
        let zone = prop_oneof![Just("*"), Just("east"), Just("west")];
        (prop::option::of(service), prop::option::of(zone)).prop_map(|(service, zone)| {
            let tags = [(tag::SERVICE, service), (tag::ZONE, zone)];
            Selector::of(tags.into_iter().filter_map(|(key, value)| Some((key, value?))))
        })
    }

    fn permission(action: Action) -> impl Strategy<Value = Arc<Object>> {
        (prop::collection::vec(selector(), 1..3), selector()).prop_map(move |(sources, destination)| {
            let spec = TrafficPermissionSpec {
                mesh: "default".into(),
                action,
                sources,
                destinations: vec![destination],
            };
            Arc::new(Object { meta: Meta::default(), spec: Spec::TrafficPermission(spec) })
        })
    }

    fn permissions() -> impl Strategy<Value = Vec<Arc<Object>>> {
        prop::collection::vec(prop_oneof![permission(Action::Allow), permission(Action::Deny)], 0..5)
    }

    fn inbound() -> Tags {
        Tags::from([(tag::SERVICE.to_owned(), "c".to_owned()), (tag::ZONE.to_owned(), "east".to_owned())])
    }

    /// Which of the known workloads get in.
    fn admitted(permissions: &[Arc<Object>]) -> BTreeSet<Identity> {
        let patterns = Permissions::new(permissions).callers(&[&inbound()], &ZONES.map(domain), known);
        let gets_in = |(domain, service): &Identity| {
            let id = SpiffeId::universal(domain.clone(), service, "p");
            patterns.iter().any(|pattern| pattern.matches(&id))
        };
        known().into_iter().filter(gets_in).collect()
    }

    /// The rule as one would say it.
    fn specification(permissions: &[Arc<Object>]) -> BTreeSet<Identity> {
        let any = |action: Action, identity: &Identity| {
            permissions.iter().any(|object| {
                let Spec::TrafficPermission(spec) = &object.spec else { return false };
                spec.action == action
                    && spec.destinations.iter().any(|to| matches(&to.match_tags, &inbound()))
                    && spec.sources.iter().any(|from| selects(&from.match_tags, identity))
            })
        };
        known().into_iter().filter(|id| any(Action::Allow, id) && !any(Action::Deny, id)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
        #[test]
        fn who_gets_in_is_the_specifications_in_any_order(mut all in permissions(), turn in 0..5_usize) {
            let turns = turn.min(all.len());
            all.rotate_left(turns);
            prop_assert_eq!(admitted(&all), specification(&all));
        }

        #[test]
        fn a_deny_never_widens_and_an_allow_never_narrows(
            all in permissions(), deny in permission(Action::Deny), allow in permission(Action::Allow)
        ) {
            let before = admitted(&all);
            let with = |extra: Arc<Object>| admitted(&[all.clone(), vec![extra]].concat());
            prop_assert!(with(deny).is_subset(&before));
            prop_assert!(with(allow).is_superset(&before));
        }
    }

    #[test]
    fn without_a_permission_nobody_gets_in() {
        assert!(Permissions::new(&[]).callers(&[&inbound()], &ZONES.map(domain), known).is_empty());
    }

    #[test]
    fn a_permission_in_a_namespace_is_for_that_namespaces_workloads_only() {
        let spec = TrafficPermissionSpec {
            mesh: "default".into(),
            action: Action::Allow,
            sources: vec![Selector::of([(tag::SERVICE, "*")])],
            destinations: vec![Selector::of([(tag::SERVICE, "*")])],
        };
        let meta = Meta { namespace: "shop".into(), ..Meta::default() };
        let permission = Arc::new(Object { meta, spec: Spec::TrafficPermission(spec) });
        let permissions = Permissions::new(&[permission]);
        let callers = |namespace: Option<&str>| {
            let mut tags = inbound();
            tags.extend(namespace.map(|name| (tag::NAMESPACE.to_owned(), name.to_owned())));
            permissions.callers(&[&tags], &ZONES.map(domain), known).len()
        };
        assert_eq!((callers(Some("shop")), callers(Some("bank")), callers(None)), (ZONES.len(), 0, 0));
    }
}
