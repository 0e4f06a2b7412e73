//! What the webhook counts. Names and labels are bounded.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// From what an answer takes without waiting, to where the API server gives up.
const SECONDS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 5.0];

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path {
    MutatePods,
    Validate,
}

/// What is read again when it changes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum File {
    Certificate,
    Settings,
}

/// All counts of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels<3>, Counter>,
    seconds: Family<Labels<1>, Histogram>,
    certificate_expires: Gauge,
    loaded: Family<Labels<1>, Gauge>,
    load_failures: Family<Labels<1>, Counter>,
}

impl Path {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MutatePods => "mutate-pods",
            Self::Validate => "validate",
        }
    }
}

impl File {
    fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Settings => "settings",
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("ursa_webhook");
        let requests = Family::default();
        registry.register("requests", "Requests by what came of them, and why", requests.clone());
        let seconds = Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        registry.register("request_seconds", "How long requests took", seconds.clone());
        let certificate_expires = Gauge::default();
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the certificate in force expires, in seconds since 1970; 0 if there is none",
            certificate_expires.clone(),
        );
        let loaded = Family::default();
        registry.register("file_in_force", "1 if what is in the file now is in force", loaded.clone());
        let load_failures = Family::default();
        registry.register(
            "file_failures",
            "Contents of the file that could not be used",
            load_failures.clone(),
        );
        Self { registry, requests, seconds, certificate_expires, loaded, load_failures }
    }

    /// One request is answered.
    pub(crate) fn answered(&self, path: Path, result: &'static str, why: &'static str, took: Duration) {
        let path = ("path", path.name());
        self.requests.get_or_create(&[path, ("result", result), ("reason", why)]).inc();
        self.seconds.get_or_create(&[path]).observe(took.as_secs_f64());
    }

    pub(crate) fn certificate_expires(&self, at: i64) {
        self.certificate_expires.set(at);
    }

    /// A file was read, and could be used or not.
    pub(crate) fn loaded(&self, file: File, good: bool) {
        let labels = [("file", file.name())];
        self.loaded.get_or_create(&labels).set(good.into());
        let failures = self.load_failures.get_or_create(&labels);
        if !good {
            failures.inc();
        }
    }

    /// As Prometheus reads it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
