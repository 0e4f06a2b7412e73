//! `TrafficRoute`: where the traffic of an outbound goes. One route wins; without any, all instances get equal shares.

use std::collections::BTreeMap;
use std::sync::Arc;

use ursa_crds::{LoadBalancerType, Object, ObjectKey, RouteConf, Spec, Tags, TrafficRouteSpec, tag};
use ursa_model::{Balancer, DestinationId, Share};

use crate::order::standing;
use crate::policies::Policies;

#[derive(Debug, Default)]
pub(crate) struct Routes {
    policies: Policies,
    /// Every destination that a route sends traffic to, and how many of their parts name it.
    destinations: BTreeMap<DestinationId, usize>,
}

/// Where an outbound's traffic goes.
pub(crate) struct Chosen {
    pub(crate) shares: Vec<Share>,
    pub(crate) balancer: Balancer,
}

impl Routes {
    pub(crate) fn new(routes: &[Arc<Object>]) -> Self {
        let mut all = Self::default();
        for route in routes {
            all.set(&route.key(), Some(route.clone()));
        }
        all
    }

    /// Sets one (`None`: there is none); what was there before.
    pub(crate) fn set(&mut self, key: &ObjectKey, route: Option<Arc<Object>>) -> Option<Arc<Object>> {
        for destination in named_by(route.as_ref()) {
            *self.destinations.entry(destination).or_default() += 1;
        }
        let before = self.policies.set(key, route);
        for destination in named_by(before.as_ref()) {
            if let Some(count) = self.destinations.get_mut(&destination) {
                *count -= 1;
                if *count == 0 {
                    self.destinations.remove(&destination);
                }
            }
        }
        before
    }

    /// Whether any sends traffic to single instances.
    pub(crate) fn name_instances(&self) -> bool {
        self.destinations.keys().any(|id| id.subset.contains_key(tag::INSTANCE))
    }

    /// All, ordered by key.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.policies.all()
    }

    /// The route that wins for a workload with these tag sets that calls what these tags name.
    pub(crate) fn winner(
        &self,
        source: &[Tags],
        destination: &Tags,
    ) -> Option<(&Arc<Object>, &TrafficRouteSpec)> {
        self.policies
            .candidates(destination)
            .filter_map(|object| {
                let Spec::TrafficRoute(spec) = &object.spec else { return None };
                let policy = (&spec.sources[..], &spec.destinations[..]);
                Some((standing(object, policy, source, destination)?, (object, spec)))
            })
            .max_by(|(a, _), (b, _)| a.cmp(b))
            .map(|(_, winner)| winner)
    }

    /// Where the traffic of such a workload goes.
    pub(crate) fn choose(&self, mesh: &str, source: &[Tags], destination: &Tags) -> Chosen {
        match self.winner(source, destination) {
            // The address is that of one instance: there is nothing to choose.
            Some((_, spec)) if !destination.contains_key(tag::INSTANCE) => {
                split(mesh, &spec.conf, destination.get(tag::PORT))
            }
            _ => Chosen {
                shares: vec![Share { destination: destination_id(mesh, destination), weight: 1 }],
                balancer: Balancer::default(),
            },
        }
    }

    /// Every destination that a route of the mesh sends traffic to.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = &DestinationId> {
        self.destinations.keys()
    }
}

fn named_by(route: Option<&Arc<Object>>) -> impl Iterator<Item = DestinationId> {
    let spec = route.and_then(|route| match &route.spec {
        Spec::TrafficRoute(spec) => Some(spec),
        _ => None,
    });
    let parts = spec.into_iter().flat_map(|spec| spec.conf.split.iter().map(move |part| (&spec.mesh, part)));
    parts.map(|(mesh, part)| destination_id(mesh, &part.destination))
}

/// `port`: which port of the service is called; it stays the same unless a part of the split names another.
fn split(mesh: &str, conf: &RouteConf, port: Option<&String>) -> Chosen {
    let mut weights: BTreeMap<DestinationId, u32> = BTreeMap::new();
    for part in conf.split.iter().filter(|part| part.weight > 0) {
        let mut destination = destination_id(mesh, &part.destination);
        if let Some(port) = port {
            destination.subset.entry(tag::PORT.to_owned()).or_insert_with(|| port.clone());
        }
        *weights.entry(destination).or_default() += part.weight;
    }
    let balancer = match conf.load_balancer.as_ref().map(|balancer| balancer.algorithm).unwrap_or_default() {
        LoadBalancerType::RoundRobin => Balancer::RoundRobin,
        LoadBalancerType::LeastRequest => Balancer::LeastRequest,
        LoadBalancerType::Random => Balancer::Random,
    };
    Chosen {
        shares: weights.into_iter().map(|(destination, weight)| Share { destination, weight }).collect(),
        balancer,
    }
}

fn destination_id(mesh: &str, tags: &Tags) -> DestinationId {
    let mut subset = tags.clone();
    let service = subset.remove(tag::SERVICE).unwrap_or_default();
    DestinationId { mesh: mesh.to_owned(), service, subset }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ursa_crds::{Meta, Selector, WeightedDestination};

    use super::*;

    /// The order as one would say it: count the tags, compare, break ties. Slow and obvious.
    mod specification {
        use super::*;

        fn matches(selector: &Selector, tags: &Tags) -> bool {
            let wanted = &selector.match_tags;
            !wanted.is_empty()
                && wanted.iter().all(|(k, v)| tags.contains_key(k) && (v == "*" || tags[k] == *v))
        }

        fn exact(selector: &Selector) -> usize {
            selector.match_tags.values().filter(|value| *value != "*").count()
        }

        fn any(selector: &Selector) -> usize {
            selector.match_tags.len() - exact(selector)
        }

        pub(super) fn winner(routes: &[Arc<Object>], source: &[Tags], destination: &Tags) -> Option<String> {
            let mut candidates = Vec::new();
            for route in routes {
                let Spec::TrafficRoute(spec) = &route.spec else { continue };
                for to in spec.destinations.iter().filter(|to| matches(to, destination)) {
                    for from in
                        spec.sources.iter().filter(|from| source.iter().any(|tags| matches(from, tags)))
                    {
                        candidates.push((to, from, route));
                    }
                }
            }
            candidates.sort_by(|(a_to, a_from, a), (b_to, b_from, b)| {
                exact(b_to)
                    .cmp(&exact(a_to))
                    .then(any(b_to).cmp(&any(a_to)))
                    .then(exact(b_from).cmp(&exact(a_from)))
                    .then(any(b_from).cmp(&any(a_from)))
                    .then(a.meta.created.cmp(&b.meta.created))
                    .then(a.meta.name.cmp(&b.meta.name))
            });
            candidates.first().map(|(_, _, route)| route.meta.name.clone())
        }
    }

    fn tags() -> impl Strategy<Value = Tags> {
        let key = prop_oneof![Just(tag::SERVICE), Just("version"), Just("team")];
        let value = prop_oneof![Just("*"), Just("a"), Just("b")];
        prop::collection::btree_map(key.prop_map(String::from), value.prop_map(String::from), 0..3)
    }

    fn selectors() -> impl Strategy<Value = Vec<Selector>> {
        prop::collection::vec(tags().prop_map(|match_tags| Selector { match_tags }), 1..3)
    }

    fn routes() -> impl Strategy<Value = Vec<Arc<Object>>> {
        let one = (selectors(), selectors(), 0..2_i64);
        prop::collection::vec(one, 0..6).prop_map(|parts| {
            let route = |(position, (sources, destinations, created)): (
                usize,
                (Vec<Selector>, Vec<Selector>, i64),
            )| {
                let name = format!("r{position}");
                let target = Tags::from([(tag::SERVICE.to_owned(), name.clone())]);
                let split = vec![WeightedDestination { weight: 1, destination: target }];
                let conf = RouteConf { split, load_balancer: None };
                let spec = TrafficRouteSpec { mesh: "default".into(), sources, destinations, conf };
                let created = jiff::Timestamp::from_second(created).ok();
                Arc::new(Object {
                    meta: Meta { name, created, ..Meta::default() },
                    spec: Spec::TrafficRoute(spec),
                })
            };
            parts.into_iter().enumerate().map(route).collect()
        })
    }

    fn exact_tags() -> impl Strategy<Value = Tags> {
        tags().prop_map(|tags| tags.into_iter().filter(|(_, value)| value != "*").collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
        #[test]
        fn the_winner_is_the_specifications_in_any_order(
            mut all in routes(), source in prop::collection::vec(exact_tags(), 1..3), destination in exact_tags(), turn in 0..6_usize
        ) {
            let expected = specification::winner(&all, &source, &destination);
            let turns = turn.min(all.len());
            all.rotate_left(turns);
            let chosen = Routes::new(&all).choose("default", &source, &destination);
            let expected = expected.unwrap_or_else(|| destination.get(tag::SERVICE).cloned().unwrap_or_default());
            prop_assert_eq!(&chosen.shares[0].destination.service, &expected);
        }
    }

    #[test]
    fn a_route_in_a_namespace_is_for_calls_of_that_namespaces_workloads_only() {
        let tags = |service: &str| Tags::from([(tag::SERVICE.to_owned(), service.to_owned())]);
        let conf = RouteConf {
            split: vec![WeightedDestination { weight: 1, destination: tags("other") }],
            load_balancer: None,
        };
        let spec = TrafficRouteSpec {
            mesh: "default".into(),
            sources: vec![Selector::of([(tag::SERVICE, "*")])],
            destinations: vec![Selector::of([(tag::SERVICE, "web")])],
            conf,
        };
        let meta = Meta { namespace: "shop".into(), ..Meta::default() };
        let routes = Routes::new(&[Arc::new(Object { meta, spec: Spec::TrafficRoute(spec) })]);
        let called = |namespace: &str| {
            let mut caller = tags("app");
            caller.insert(tag::NAMESPACE.into(), namespace.into());
            routes.choose("default", &[caller], &tags("web")).shares[0].destination.service.clone()
        };
        assert_eq!((called("shop").as_str(), called("bank").as_str()), ("other", "web"));
    }
}
