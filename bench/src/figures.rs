//! What is measured.

use std::time::Duration;

use serde::Serialize;

/// How long something took over several proxies or changes, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half were faster.
    pub p50: f64,
    /// 99 of 100 were faster.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

impl Latency {
    /// Of these; all zero if there are none.
    pub fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |part: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a position among at most millions"
            )]
            let position = ((all.len() as f64 * part).ceil() as usize).max(1) - 1;
            all.get(position).map_or(0.0, |latency| milliseconds(*latency))
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// As a figure.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The figures of a run.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Dataplanes in the zone that is measured.
    pub dataplanes: usize,
    /// Services that they serve and call.
    pub services: usize,
    /// From the first connection to the last dataplane's having acknowledged its first configuration, in seconds.
    pub connect_all_seconds: f64,
    /// The zone's control plane while they connected, in CPU seconds.
    pub connect_all_cpu_seconds: f64,
    /// From the request at global, of a `TrafficPermission` that changes every proxy, to each one's last acknowledgement.
    pub policy_change: Latency,
    /// The zone's control plane for one such change, in CPU seconds.
    pub policy_change_cpu_seconds: f64,
    /// The same for a `TrafficRoute` that changes those that call one service.
    pub route_change: Latency,
    /// From an agent's saying that its instance became ready or unready to the last acknowledgement of those that call it.
    pub endpoint_change: Latency,
    /// The zone's control plane for one such change, in CPU seconds.
    pub endpoint_change_cpu_seconds: f64,
    /// Proxies that one such change concerns.
    pub endpoint_change_proxies: f64,
    /// Bytes of all responses to one such change.
    pub endpoint_change_bytes: f64,
    /// From the request at global to the acknowledgement of a client in the other zone.
    pub far_zone: Latency,
    /// Responses sent although nothing changed.
    pub no_op_responses: u64,
    /// What a proxy adds to the memory of the zone's control plane, in KiB.
    pub memory_per_proxy_kib: f64,
}
