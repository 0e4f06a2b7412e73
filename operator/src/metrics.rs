//! What the operator counts. Labels are bounded: never a name of an object.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How a reconciliation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    /// As it was to.
    Done,
    /// It is tried again.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    controller: &'static str,
    outcome: Outcome,
}

/// All metrics; copies count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    reconciliations: Family<Reconciled, Counter>,
    leader: Gauge,
    missing: Gauge,
}

impl Metrics {
    /// A reconciliation ended.
    pub(crate) fn reconciled(&self, controller: &'static str, outcome: Outcome) {
        self.reconciliations.get_or_create(&Reconciled { controller, outcome }).inc();
    }

    /// Whether this operator leads.
    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// How many pods should have a sidecar and have none.
    pub(crate) fn missing(&self, count: usize) {
        self.missing.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// For Prometheus.
    pub(crate) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("ursa_operator");
        registry.register(
            "reconciliations",
            "Reconciliations by controller and outcome",
            self.reconciliations.clone(),
        );
        registry.register("leader", "1 while this operator leads", self.leader.clone());
        registry.register(
            "injection_missing_pods",
            "Pods that should have a sidecar and have none",
            self.missing.clone(),
        );
        registry
    }
}
