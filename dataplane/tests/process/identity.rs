//! The workload's certificate: obtained, used, renewed, replaced.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use ursa_identity::{ZoneCa, verify_leaf};
use ursa_model::{IdentityPattern, InboundTls, SpiffeId, TrustDomain};

use crate::agent::Agent;
use crate::mesh::{LOCALHOST, Model, echo, free_port};
use crate::plane::{Plane, Resources, authority, spiffe_id};
use crate::wait::eventually;

const HOUR: Duration = Duration::from_hours(1);

/// A workload of the same mesh that calls.
struct Caller {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Caller {
    fn new(authority: &ZoneCa) -> Self {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        let id = SpiffeId::universal(TrustDomain::new("east", "default"), "caller", "caller-1");
        let pem = authority.sign(csr.der(), &id, HOUR, Timestamp::now()).unwrap();
        Self { chain: CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect(), key }
    }

    /// The proxy's certificate, if the application behind it is reached.
    async fn meets(&self, port: u16) -> Option<CertificateDer<'static>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Later(provider)))
            .with_client_auth_cert(self.chain.clone(), key)
            .unwrap();
        config.alpn_protocols = vec![b"ursa".to_vec()];
        let tcp = TcpStream::connect((LOCALHOST, port)).await.ok()?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(ServerName::try_from("mesh").unwrap(), tcp).await.ok()?;
        let mut name = [0; 3];
        stream.read_exact(&mut name).await.ok()?;
        assert_eq!(&name, b"app");
        Some(stream.get_ref().1.peer_certificates()?.first()?.clone())
    }
}

/// Leaves the check of the chain to the test, which looks at the certificate.
#[derive(Debug)]
struct Later(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Later {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

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
    verify_leaf(&[certificate.as_ref()], authority_pem, Timestamp::now()).is_ok_and(|id| id == spiffe_id())
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
