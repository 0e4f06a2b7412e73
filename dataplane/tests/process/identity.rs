//! The workload's certificate: obtained, used, renewed, replaced.

use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use ursa_identity::{ZoneCa, verify_leaf};
use ursa_model::{IdentityPattern, InboundTls, TrustDomain};

use crate::agent::Agent;
use crate::caller::{Caller, HOUR};
use crate::mesh::{Model, echo, free_port};
use crate::plane::{Plane, Resources, authority, spiffe_id};
use crate::wait::eventually;

fn model(port: u16, application: std::net::SocketAddr, authorities: &[&ZoneCa]) -> Resources {
    let domain = TrustDomain::new("east", "default");
    let roots: String = authorities.iter().map(|authority| authority.root_pem()).collect();
    let tls = InboundTls {
        trust: [(domain.to_string(), roots)].into(),
        allowed: vec![IdentityPattern::Service(domain, "caller".into())],
        permissive: false,
    };
    Model::new().inbound(port, application, Some(tls)).resources()
}

fn is_the_proxys(certificate: &CertificateDer<'_>, authority_pem: &str) -> bool {
    verify_leaf(&[certificate.as_ref()], authority_pem, Timestamp::now())
        .is_ok_and(|leaf| leaf.id == spiffe_id())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_at_once_when_the_signer_changes() {
    let application = echo("app").await;
    let port = free_port();
    let (old, new) = (authority(), authority());
    let caller = Caller::new(&old);
    let (old_root, new_root) = (old.root_pem().to_owned(), new.root_pem().to_owned());
    let plane = Plane::start(model(port, application, &[&old, &new])).await;
    plane.set(|state| state.authority = Some((old, HOUR)));
    let mut agent = Agent::start(&plane);
    let first = eventually("mutual TLS works", async || caller.meets(port).await).await;
    assert!(is_the_proxys(&first, &old_root));
    plane.set(|state| state.authority = Some((new, HOUR)));
    eventually("the new signer's certificate is in use", async || {
        let certificate = caller.meets(port).await?;
        is_the_proxys(&certificate, &new_root).then_some(())
    })
    .await;
    // Nothing but this user may read the key; it is in no message or log.
    let key = std::fs::read_to_string(agent.path("data/identity.json")).unwrap();
    let mode =
        |name| std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(agent.path(name)).unwrap()) & 0o777;
    assert!(key.contains("PRIVATE KEY") && !agent.log().contains("PRIVATE KEY"));
    assert_eq!((mode("data"), mode("run"), mode("data/identity.json")), (0o700, 0o700, 0o600));
    // The next agent uses the same one.
    plane.sees("both were signed", |state| (state.signed == 2).then_some(())).await;
    agent.kill();
    agent.run();
    eventually("mutual TLS works again", async || caller.meets(port).await).await;
    plane.sees("a second session", |state| (state.hellos.len() == 2).then_some(())).await;
    assert_eq!(plane.see(|state| (state.signed, state.presented.clone())), (2, vec![false, true]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_before_it_ends_even_with_an_expired_token() {
    let application = echo("app").await;
    let port = free_port();
    let authority = authority();
    let caller = Caller::new(&authority);
    let plane = Plane::start(model(port, application, &[&authority])).await;
    plane.set(|state| state.authority = Some((authority, Duration::from_secs(6))));
    let agent = Agent::start(&plane);
    let first = eventually("mutual TLS works", async || caller.meets(port).await).await;
    plane.set(|state| state.tokens_expired = true);
    let second = eventually("a renewed certificate is in use", async || {
        caller.meets(port).await.filter(|certificate| *certificate != first)
    })
    .await;
    // Through a connection that presented the certificate, since the token counts no more.
    plane.see(|state| assert_eq!(state.presented.last(), Some(&true)));
    std::fs::remove_file(agent.path("token")).unwrap();
    eventually("it is renewed again, without a token", async || {
        caller.meets(port).await.filter(|certificate| *certificate != first && *certificate != second)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_deleted_when_mutual_tls_goes_off() {
    let application = echo("app").await;
    let port = free_port();
    let authority = authority();
    let plane = Plane::start(model(port, application, &[&authority])).await;
    plane.set(|state| state.authority = Some((authority, HOUR)));
    let agent = Agent::start(&plane);
    let file = agent.path("data/identity.json");
    eventually("key and certificate are kept", async || file.is_file().then_some(())).await;
    plane.set(|state| state.authority = None);
    eventually("key and certificate are deleted", async || (!file.exists()).then_some(())).await;
}
