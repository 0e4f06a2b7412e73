//! `Dataplane`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use ursa_crds::{DataplaneSpec, Inbound, Probe, tag};

use super::{Problems, tags};

const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_INTERVAL: Duration = Duration::from_mins(10);

pub(super) fn check(spec: &DataplaneSpec, problems: &mut Problems) {
    let networking = &spec.networking;
    problems.require(spec.pod.is_none(), "spec.pod", "pods are discovered, not described");
    tags::check_proven(&spec.token_tags, "spec.tokenTags", problems);
    problems.require(
        spec.token_id.as_ref().is_none_or(|id| (1..=64).contains(&id.len())),
        "spec.tokenId",
        "is written by the control plane: leave it out",
    );
    let captured = networking.capture.is_some();
    address(networking.address, "spec.networking.address", problems);
    problems.require(
        !networking.inbound.is_empty(),
        "spec.networking.inbound",
        "at least one inbound is required: its service is what the workload is called by",
    );
    problems.at_most(64, networking.inbound.len(), "spec.networking.inbound");
    problems.at_most(1024, networking.outbound.len(), "spec.networking.outbound");
    let mut listeners = BTreeSet::new();
    for (position, inbound) in networking.inbound.iter().enumerate() {
        let field = format!("spec.networking.inbound[{position}]");
        port(inbound.port, &format!("{field}.port"), problems);
        problems.require(
            listeners.insert((networking.address, inbound.port)),
            format!("{field}.port"),
            format!("another inbound has port {}", inbound.port),
        );
        check_inbound(networking.address, captured, inbound, &field, problems);
    }
    for (position, outbound) in networking.outbound.iter().enumerate() {
        let field = format!("spec.networking.outbound[{position}]");
        let local = outbound.local_address();
        address(local, &format!("{field}.address"), problems);
        port(outbound.port, &format!("{field}.port"), problems);
        problems.require(
            listeners.insert((local, outbound.port)),
            format!("{field}.port"),
            format!("another inbound or outbound has {local} port {}", outbound.port),
        );
        let tags_field = format!("{field}.tags");
        tags::check(&outbound.tags, false, &tags_field, problems);
        tags::require_service(&outbound.tags, &tags_field, problems);
        if let Some(named) = outbound.tags.get(tag::PORT) {
            let is_port = named.parse::<NonZeroU16>().is_ok_and(|port| port.to_string() == *named);
            let problem = format!("{} must be a port of the service, 1 to 65535", tag::PORT);
            problems.require(is_port, &tags_field, problem);
        }
        if let Some(other) =
            outbound.tags.keys().find(|key| ![tag::SERVICE, tag::PORT].contains(&key.as_str()))
        {
            problems.add(
                tags_field,
                format!("{other} is not allowed here: a TrafficRoute says which instances are called"),
            );
        }
    }
}

fn check_inbound(proxy: IpAddr, captured: bool, inbound: &Inbound, field: &str, problems: &mut Problems) {
    let here = if captured { proxy } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let application = inbound.service_address.unwrap_or(here);
    address(application, &format!("{field}.serviceAddress"), problems);
    let application_port = inbound.service_port.unwrap_or(inbound.port);
    port(application_port, &format!("{field}.servicePort"), problems);
    problems.require(
        captured || (proxy, inbound.port) != (application, application_port),
        format!("{field}.servicePort"),
        "the proxy and the application cannot listen on the same address and port",
    );
    let tags_field = format!("{field}.tags");
    tags::check(&inbound.tags, false, &tags_field, problems);
    tags::require_service(&inbound.tags, &tags_field, problems);
    for key in [tag::ZONE, tag::PORT, tag::INSTANCE, tag::NAMESPACE, tag::WORKLOAD] {
        let free = !inbound.tags.contains_key(key);
        problems.require(free, &tags_field, format!("{key} is set by the control plane"));
    }
    if let Some(probe) = &inbound.readiness_probe {
        check_probe(probe, &format!("{field}.readinessProbe"), problems);
    }
}

fn check_probe(probe: &Probe, field: &str, problems: &mut Problems) {
    problems.require(probe.tcp.is_some() != probe.http.is_some(), field, "name exactly one of tcp and http");
    let interval = probe.interval.get();
    problems.require(
        (SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&interval),
        format!("{field}.interval"),
        "must be between 100ms and 10m",
    );
    let timeout = probe.timeout.get();
    problems.require(
        !timeout.is_zero() && timeout <= LONGEST_INTERVAL,
        format!("{field}.timeout"),
        "must be more than 0 and at most 10m",
    );
    for (name, threshold) in
        [("unhealthyThreshold", probe.unhealthy_threshold), ("healthyThreshold", probe.healthy_threshold)]
    {
        problems.require(
            (1..=100).contains(&threshold),
            format!("{field}.{name}"),
            "must be between 1 and 100",
        );
    }
    if let Some(http) = &probe.http {
        problems.require(
            http.path.starts_with('/') && http.path.bytes().all(|b| b.is_ascii_graphic()),
            format!("{field}.http.path"),
            "must begin with / and consist of printable ASCII characters without spaces",
        );
        problems.at_most(32, http.expected_statuses.len(), format!("{field}.http.expectedStatuses"));
        let valid = http.expected_statuses.iter().all(|status| (100..600).contains(status));
        problems.require(valid, format!("{field}.http.expectedStatuses"), "must be between 100 and 599");
    }
}

fn address(address: IpAddr, field: &str, problems: &mut Problems) {
    problems.require(
        !address.is_unspecified() && !address.is_multicast(),
        field,
        format!("{address} is not the address of one host"),
    );
}

fn port(port: u16, field: &str, problems: &mut Problems) {
    problems.require(port > 0, field, "must be between 1 and 65535");
}
