//! Resources that follow a change of the model are those of the new model, and what is the same is not built again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ursa_envoy::{Interner, ResourceKey, ResourceSet, is_of_inbound, translate, translate_after};
use ursa_model::{
    Balancer, Capture, Destination, DestinationId, IdentityPattern, Inbound, InboundTls, Outbound, Protocol,
    ProxyId, ProxyModel, Share, TrustBundle, TrustDomain, UpstreamTls,
};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

fn trust() -> TrustBundle {
    TrustBundle::from([("east.default.ursa".to_owned(), "roots".to_owned())])
}

fn service(name: &str) -> IdentityPattern {
    IdentityPattern::Service(TrustDomain::new("east", "default"), name.to_owned())
}

fn inbound(port: u16, protocol: Protocol, allowed: Option<&[&str]>, permissive: bool) -> Inbound {
    let tls = allowed.map(|allowed| InboundTls {
        trust: trust(),
        allowed: allowed.iter().map(|name| service(name)).collect(),
        permissive,
    });
    Inbound { address: HERE, port, app_address: HERE, app_port: 80, service: "web".into(), protocol, tls }
}

fn id(service: &str) -> DestinationId {
    DestinationId { mesh: "default".into(), service: service.into(), subset: BTreeMap::new() }
}

fn outbound(port: u16, service: &str, protocol: Protocol) -> Arc<Outbound> {
    let shares = vec![Share { destination: id(service), weight: 1 }];
    Arc::new(Outbound { address: HERE, port, service: service.into(), protocol, shares })
}

fn destination(service_name: &str, protocol: Protocol, balancer: Balancer, tls: bool) -> Arc<Destination> {
    let tls = tls.then(|| UpstreamTls { trust: trust(), peers: vec![service(service_name)] });
    Arc::new(Destination { id: id(service_name), protocol, balancer, tls })
}

/// Models of one proxy that share some parts, each in the order in which models are.
fn models() -> Vec<ProxyModel> {
    use Protocol::{Http, Tcp};
    let inbounds = [
        vec![],
        vec![inbound(80, Tcp, Some(&["a"]), false)],
        vec![inbound(80, Tcp, Some(&["a", "b"]), false), inbound(81, Http, Some(&[]), true)],
        vec![inbound(80, Http, Some(&["a"]), true), inbound(81, Http, Some(&[]), true)],
        vec![inbound(80, Tcp, None, false)],
    ];
    let calls = [
        (vec![], vec![]),
        (vec![outbound(90, "a", Tcp)], vec![destination("a", Tcp, Balancer::Random, true)]),
        (
            // Two at one place: the last counts.
            vec![outbound(90, "a", Http), outbound(90, "b", Tcp), outbound(91, "b", Tcp)],
            vec![
                destination("a", Http, Balancer::Random, false),
                destination("b", Tcp, Balancer::LeastRequest, true),
            ],
        ),
        (
            vec![outbound(90, "b", Tcp), outbound(91, "b", Http)],
            vec![destination("b", Http, Balancer::LeastRequest, true)],
        ),
    ];
    let capture = |unknown_inbound: bool| Capture {
        inbound_port: 15_006,
        outbound_port: 15_001,
        ipv6: !unknown_inbound,
        unknown_inbound,
        unknown_outbound: false,
    };
    let mut models = Vec::new();
    for inbounds in inbounds {
        for (outbounds, destinations) in &calls {
            for capture in [None, Some(capture(true)), Some(capture(false))] {
                let mut model = ProxyModel::nothing(ProxyId::new("default", "web-1"), "east");
                model.inbounds.clone_from(&inbounds);
                model.outbounds.clone_from(outbounds);
                model.destinations.clone_from(destinations);
                model.capture = capture;
                models.push(model);
            }
        }
    }
    models
}

fn said(set: &ResourceSet) -> Vec<(ResourceKey, String)> {
    set.values().map(|resource| (resource.key.clone(), resource.version.clone())).collect()
}

#[test]
fn what_follows_a_change_is_what_the_new_model_says_and_only_what_is_new_is_built() {
    let models = models();
    let all: Vec<_> = models.iter().map(|model| said(&translate(model, &mut Interner::default()))).collect();
    for (before, said_before) in models.iter().zip(&all) {
        let mut interner = Interner::default();
        let start = translate(before, &mut interner);
        for (after, said_after) in models.iter().zip(&all) {
            let mut resources = start.clone();
            let built = interner.built();
            translate_after(before, after, &mut resources, &mut interner);
            assert_eq!(said(&resources), *said_after, "{before:?}\n{after:?}");
            let new = said_after.iter().filter(|resource| !said_before.contains(resource)).count();
            let built = usize::try_from(interner.built() - built).expect("a small number");
            assert!(built <= new + overwritten(after), "{built} of {new}: {before:?}\n{after:?}");
            for resource in
                resources.values().filter(|r| said_before.contains(&(r.key.clone(), r.version.clone())))
            {
                let taken_over = start.get(&resource.key);
                assert!(taken_over.is_some_and(|known| Arc::ptr_eq(known, resource)));
            }
        }
    }
}

/// Resources that are built and then replaced by others at the same place.
fn overwritten(model: &ProxyModel) -> usize {
    let places = model.outbounds.windows(2).filter(|pair| pair[0].port == pair[1].port).count();
    places * 2
}

#[test]
fn a_change_of_who_may_call_builds_what_the_inbound_needs_and_nothing_else() {
    let model = models().into_iter().find(|model| {
        model.inbounds.len() == 1 && !model.outbounds.is_empty() && model.inbounds[0].tls.is_some()
    });
    let model = model.expect("there is one");
    let mut interner = Interner::default();
    let mut resources = translate(&model, &mut interner);
    let built = interner.built();
    let inbounds = vec![inbound(80, Protocol::Tcp, Some(&["a", "b"]), false)];
    let after = ProxyModel { inbounds, ..model.clone() };
    translate_after(&model, &after, &mut resources, &mut interner);
    assert_eq!(interner.built() - built, 1);
    assert_eq!(said(&resources), said(&translate(&after, &mut interner)));
}

#[test]
fn a_name_tells_whether_a_resource_is_of_an_inbound() {
    for model in models() {
        let all = said(&translate(&model, &mut Interner::default()));
        let others = ProxyModel { inbounds: Vec::new(), ..model };
        let others = said(&translate(&others, &mut Interner::default()));
        for resource in &all {
            assert_eq!(is_of_inbound(&resource.0.name), !others.contains(resource), "{resource:?}");
        }
    }
}
