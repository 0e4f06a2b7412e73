//! Make before break, when routes change: proxies follow a route once the other zones' ingresses pass on what it names,
//! and an ingress goes on passing on what routes named until a while ago.
//!
//! Without it a shift of traffic to a subset of another zone would reach that zone's ingress before the route does, and
//! be refused there. Pure: the time is passed in. Invariant: a zone that is away delays a route, and never stops it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use ursa_crds::Object;
use ursa_model::DestinationId;

/// How long a route waits for other zones at most.
pub(crate) const HOLD: Duration = Duration::from_secs(2);
/// How long an ingress knows what no route names any more: longer than other zones hold a route.
pub(crate) const KEEP: Duration = Duration::from_mins(1);

/// The routes of a mesh on their way into force.
#[derive(Debug, Default)]
pub(crate) struct Shift {
    in_force: Option<Vec<Arc<Object>>>,
    hold_until: Option<Instant>,
    /// What this zone's ingress passes on, and until when; `None`: as long as a route names it.
    passed_on: BTreeMap<DestinationId, Option<Instant>>,
}

impl Shift {
    /// The routes that proxies follow while these are wanted, if they are others. `ready` says whether all other zones know
    /// them.
    pub(crate) fn follow(
        &mut self,
        wanted: &[Arc<Object>],
        ready: bool,
        now: Instant,
    ) -> Option<Vec<Arc<Object>>> {
        let in_force = self.in_force.as_ref().filter(|in_force| !ready && *in_force != wanted);
        if let Some(in_force) = in_force
            && now < *self.hold_until.get_or_insert(now + HOLD)
        {
            return Some(in_force.clone());
        }
        self.hold_until = None;
        self.in_force = Some(wanted.to_vec());
        None
    }

    /// What the ingress passes on, when routes name these destinations.
    pub(crate) fn pass_on(
        &mut self,
        named: BTreeSet<DestinationId>,
        now: Instant,
    ) -> BTreeSet<DestinationId> {
        for (destination, until) in &mut self.passed_on {
            if named.contains(destination) {
                *until = None;
            } else {
                until.get_or_insert(now + KEEP);
            }
        }
        for destination in named {
            self.passed_on.entry(destination).or_default();
        }
        self.passed_on.retain(|_, until| until.is_none_or(|until| until > now));
        self.passed_on.keys().cloned().collect()
    }

    /// When something will change by itself.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.passed_on.values().flatten().copied().chain(self.hold_until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(service: &str) -> Vec<Arc<Object>> {
        let yaml = format!(
            "apiVersion: ursamesh.io/v1alpha1\nkind: TrafficRoute\nmetadata: {{name: r}}\nspec:\n  sources: [{{match: {{ursamesh.io/service: '*'}}}}]\n  \
             destinations: [{{match: {{ursamesh.io/service: web}}}}]\n  conf: {{split: [{{weight: 1, destination: {{ursamesh.io/service: {service}}}}}]}}\n"
        );
        vec![Arc::new(ursa_crds::decode(yaml.as_bytes()).unwrap())]
    }

    fn named(names: &[&str]) -> BTreeSet<DestinationId> {
        names.iter().map(|name| DestinationId::whole("default", name)).collect()
    }

    #[test]
    fn a_route_waits_for_the_other_zones_but_not_for_ever() {
        let (mut shift, start) = (Shift::default(), Instant::now());
        let (old, new) = (route("old"), route("new"));
        let follow = |shift: &mut Shift, wanted: &[Arc<Object>], ready, now| {
            shift.follow(wanted, ready, now).unwrap_or_else(|| wanted.to_vec())
        };
        assert_eq!(follow(&mut shift, &old, false, start), old, "at the start there is nothing to stay with");
        assert_eq!(follow(&mut shift, &new, false, start), old);
        assert_eq!(shift.deadline(), Some(start + HOLD));
        assert_eq!(follow(&mut shift, &new, false, start + HOLD / 2), old);
        assert_eq!(follow(&mut shift, &new, true, start + HOLD / 2), new);
        assert_eq!(shift.deadline(), None);
        assert_eq!(follow(&mut shift, &old, false, start + HOLD), new, "the bound starts anew");
        assert_eq!(follow(&mut shift, &old, false, start + HOLD * 2), old);
    }

    #[test]
    fn an_ingress_forgets_late() {
        let (mut shift, start) = (Shift::default(), Instant::now());
        assert_eq!(shift.pass_on(named(&["a", "b"]), start), named(&["a", "b"]));
        assert_eq!(shift.pass_on(named(&["b"]), start), named(&["a", "b"]));
        assert_eq!(shift.deadline(), Some(start + KEEP));
        assert_eq!(shift.pass_on(named(&["b"]), start + KEEP / 2), named(&["a", "b"]));
        assert_eq!(shift.pass_on(named(&["b"]), start + KEEP), named(&["b"]));
        assert_eq!(shift.deadline(), None);
    }
}
