//! Insights on the wire.

use std::sync::Arc;

use jiff::Timestamp;
use ursa_crds::schema::REPLICAS_TELL_PROGRESS;
use ursa_crds::{PeerTransport, Refusal, UnauthenticatedPeer};
use ursa_envoy::{ResourceKey, ResourceType};
use ursa_index::{Behind, Certificate, ProxyInsight, Rejection};
use ursa_model::{ProxyId, fingerprint};
use ursa_proto::replicas;
use ursa_proto::replicas::{Delta, Insight, Proxy, Summary};

use crate::engine;

pub(super) fn proxy(proxy: &ProxyId) -> Proxy {
    Proxy { mesh: proxy.mesh.clone(), name: proxy.name.clone() }
}

pub(super) fn read_proxy(proxy: Proxy) -> ProxyId {
    ProxyId { mesh: proxy.mesh, name: proxy.name }
}

/// An insight with its version, without what means nothing in another process, or is not of the schema.
pub(super) fn insight(insight: &ProxyInsight, schema: u32) -> (String, Insight) {
    let older = (schema < REPLICAS_TELL_PROGRESS).then(|| ProxyInsight {
        unauthenticated_peers: Arc::default(),
        behind: Arc::default(),
        ..insight.clone()
    });
    let ProxyInsight {
        connected,
        connected_at,
        disconnected_at,
        unheard_since,
        agent_version,
        envoy_version,
        acknowledged: _,
        responses: _,
        rejections,
        certificate,
        server_names,
        unready,
        unauthenticated_peers,
        behind,
    } = older.as_ref().unwrap_or(insight);
    let behind: Vec<replicas::Behind> = behind.iter().map(|(uid, behind)| wire_behind(uid, behind)).collect();
    let rejected: Vec<_> = rejections
        .iter()
        .map(|(key, Rejection { version, message })| {
            (key.resource_type.type_url(), &key.name, version, message)
        })
        .collect();
    let held = certificate.as_ref().map(|held| (&held.backend, held.expires, held.signed_at));
    let times = (connected_at, disconnected_at, unheard_since);
    let lags: Vec<_> = insight
        .behind
        .iter()
        .map(|(uid, of)| (uid, of.generation, of.proxies, &of.laggards, &of.refusals))
        .collect();
    let does = (server_names.as_ref(), unready, unauthenticated_peers.as_ref(), lags);
    let version = fingerprint(&(connected, times, (agent_version, envoy_version), &rejected, &held, does));
    let rejections = rejected.into_iter().map(|(type_url, name, version, message)| replicas::Rejection {
        type_url: type_url.to_owned(),
        name: name.clone(),
        version: version.clone(),
        message: message.clone(),
    });
    let wire = Insight {
        connected: *connected,
        connected_at: time(*connected_at),
        disconnected_at: time(*disconnected_at),
        unheard_since: time(*unheard_since),
        agent_version: agent_version.clone(),
        envoy_version: envoy_version.clone(),
        rejections: rejections.collect(),
        readiness: unready.as_ref().map(|ports| replicas::Readiness {
            unready: ports.iter().map(|port| u32::from(*port)).collect(),
        }),
        server_names: server_names.iter().cloned().collect(),
        unauthenticated_peers: unauthenticated_peers.iter().map(peer).collect(),
        behind,
        certificate: held.map(|(backend, expires, signed_at)| replicas::Certificate {
            backend: backend.clone(),
            expires: time(Some(expires)),
            signed_at: time(signed_at),
        }),
    };
    (version.to_string(), wire)
}

fn wire_behind(uid: &str, Behind { generation, proxies, laggards, refusals }: &Behind) -> replicas::Behind {
    let refusal = |Refusal { dataplane, message }: &Refusal| replicas::Refusal {
        dataplane: dataplane.clone(),
        message: message.clone(),
    };
    replicas::Behind {
        uid: uid.to_owned(),
        generation: *generation,
        proxies: *proxies,
        laggards: laggards.iter().cloned().collect(),
        refusals: refusals.iter().map(refusal).collect(),
    }
}

fn read_behind(behind: replicas::Behind) -> (String, Behind) {
    let replicas::Behind { uid, generation, proxies, laggards, refusals } = behind;
    let refusal = |replicas::Refusal { dataplane, message }| Refusal { dataplane, message };
    let refusals = refusals.into_iter().map(refusal).collect();
    (uid, Behind { generation, proxies, laggards: laggards.into_iter().collect(), refusals })
}

fn peer(peer: &UnauthenticatedPeer) -> replicas::UnauthenticatedPeer {
    // Each replica looks up by itself which dataplane has the address.
    let UnauthenticatedPeer { port, transport, address, dataplane: _, count, last_seen } = peer;
    replicas::UnauthenticatedPeer {
        port: u32::from(*port),
        tls: *transport == PeerTransport::Tls,
        address: address.map(|address| address.to_string()).unwrap_or_default(),
        count: *count,
        last_seen: time(Some(*last_seen)),
    }
}

fn read_peer(peer: replicas::UnauthenticatedPeer) -> Result<UnauthenticatedPeer, String> {
    let replicas::UnauthenticatedPeer { port, tls, address, count, last_seen } = peer;
    let read_address = |text: String| text.parse().map_err(|error| format!("address of a peer: {error}"));
    Ok(UnauthenticatedPeer {
        port: port.try_into().map_err(|_| format!("port of a peer: {port} is no port"))?,
        transport: if tls { PeerTransport::Tls } else { PeerTransport::Plaintext },
        address: Some(address).filter(|text| !text.is_empty()).map(read_address).transpose()?,
        dataplane: None,
        count,
        last_seen: read_time("last_seen", &last_seen)?.ok_or("last_seen of a peer is missing")?,
    })
}

pub(super) fn delta(delta: engine::Delta<ProxyId, Insight>) -> Delta {
    let summary =
        |(id, version, insight)| Summary { proxy: Some(proxy(&id)), version, insight: Some(insight) };
    Delta {
        sequence: delta.sequence,
        upserts: delta.upserts.into_iter().map(summary).collect(),
        removals: delta.removals.iter().map(proxy).collect(),
    }
}

/// What is said of a proxy, with its version.
pub(super) fn read_summary(summary: Summary) -> Result<(ProxyId, String, ProxyInsight), String> {
    let Summary { proxy: Some(proxy), version, insight: Some(insight) } = summary else {
        return Err("a summary without a proxy or without an insight".into());
    };
    let proxy = read_proxy(proxy);
    let insight = read_insight(insight).map_err(|error| format!("{proxy}: {error}"))?;
    Ok((proxy, version, insight))
}

fn read_insight(insight: Insight) -> Result<ProxyInsight, String> {
    let rejection = |rejected: replicas::Rejection| {
        // Of a type that this version does not know there is nothing to show.
        let resource_type = ResourceType::from_type_url(&rejected.type_url)?;
        let key = ResourceKey { resource_type, name: rejected.name };
        Some((key, Rejection { version: rejected.version, message: rejected.message }))
    };
    let certificate = |held: replicas::Certificate| {
        let expires = read_time("certificate.expires", &held.expires)?;
        Ok::<_, String>(Certificate {
            backend: held.backend,
            expires: expires.ok_or("certificate.expires is missing")?,
            signed_at: read_time("certificate.signed_at", &held.signed_at)?,
        })
    };
    let readiness = |said: replicas::Readiness| {
        let port = |port: u32| u16::try_from(port).map_err(|_| format!("readiness: {port} is no port"));
        said.unready.into_iter().map(port).collect::<Result<_, String>>()
    };
    Ok(ProxyInsight {
        connected: insight.connected,
        connected_at: read_time("connected_at", &insight.connected_at)?,
        disconnected_at: read_time("disconnected_at", &insight.disconnected_at)?,
        unheard_since: read_time("unheard_since", &insight.unheard_since)?,
        agent_version: insight.agent_version,
        envoy_version: insight.envoy_version,
        acknowledged: 0,
        responses: 0,
        rejections: insight.rejections.into_iter().filter_map(rejection).collect(),
        certificate: insight.certificate.map(certificate).transpose()?,
        server_names: Arc::new(insight.server_names.into_iter().collect()),
        unready: insight.readiness.map(readiness).transpose()?,
        unauthenticated_peers: insight
            .unauthenticated_peers
            .into_iter()
            .map(read_peer)
            .collect::<Result<_, _>>()?,
        behind: Arc::new(insight.behind.into_iter().map(read_behind).collect()),
    })
}

fn time(time: Option<Timestamp>) -> String {
    time.map(|time| time.to_string()).unwrap_or_default()
}

fn read_time(field: &str, text: &str) -> Result<Option<Timestamp>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| format!("{field}: {error}"))
}

#[cfg(test)]
mod tests {
    use ursa_crds::schema::CURRENT;

    use super::*;

    #[test]
    fn what_is_said_is_what_is_heard() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let key = ResourceKey { resource_type: ResourceType::Cluster, name: "db".into() };
        let refusal = Refusal { dataplane: "web-2".into(), message: "no".into() };
        let lag = Behind {
            generation: 3,
            proxies: 2,
            laggards: ["web-1".to_owned()].into(),
            refusals: [refusal].into(),
        };
        let known = ProxyInsight {
            connected: true,
            connected_at: Some("2026-01-02T03:04:05.123456789Z".parse().unwrap()),
            disconnected_at: Some(at(2)),
            unheard_since: Some(at(3)),
            agent_version: "1".into(),
            envoy_version: "2".into(),
            acknowledged: 0,
            responses: 0,
            rejections: [(key, Rejection { version: "v".into(), message: "no".into() })].into(),
            certificate: Some(Certificate { backend: "ca".into(), expires: at(9), signed_at: Some(at(1)) }),
            server_names: Arc::new(["a.ursa".to_owned()].into()),
            unready: Some([80].into()),
            unauthenticated_peers: [
                (PeerTransport::Plaintext, Some("10.0.0.7".parse().unwrap())),
                (PeerTransport::Tls, None),
            ]
            .map(|(transport, address)| UnauthenticatedPeer {
                port: 80,
                transport,
                address,
                dataplane: None,
                count: 3,
                last_seen: at(5),
            })
            .into(),
            behind: Arc::new([("uid".to_owned(), lag)].into()),
        };
        for known in [known, ProxyInsight::default()] {
            let (version, said) = insight(&known, CURRENT);
            assert_eq!(read_insight(said), Ok(known.clone()));
            // What happens all the time is no news.
            let counted = ProxyInsight { acknowledged: 7, responses: 8, ..known.clone() };
            assert_eq!(insight(&counted, CURRENT).0, version);
            let other = ProxyInsight { connected: !known.connected, ..known.clone() };
            assert_ne!(insight(&other, CURRENT).0, version);
            let others = known.unauthenticated_peers.iter().skip(1).cloned().collect();
            let fewer = ProxyInsight { unauthenticated_peers: others, ..known.clone() };
            assert_eq!(insight(&fewer, CURRENT).0 == version, fewer == known);
            // To an older one they are the same.
            assert_eq!(insight(&fewer, 1), insight(&known, 1));
            let (_, said) = insight(&known, 1);
            assert!(said.unauthenticated_peers.is_empty() && said.behind.is_empty());
        }
    }
}
