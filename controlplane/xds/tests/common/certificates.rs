//! Client certificates: requests for them, and connections that show them.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use ursa_identity::ZoneCa;
use ursa_model::SpiffeId;
use x509_parser::extensions::GeneralName;

use super::{Agent, World};

/// A certificate request, DER, with these URIs and DNS names in it.
pub(crate) fn csr(key: &KeyPair, uris: &[&str], dns: &[&str]) -> Vec<u8> {
    let mut params =
        CertificateParams::new(dns.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
    let uri = |&name: &&str| rcgen::SanType::URI(name.try_into().unwrap());
    params.subject_alt_names.extend(uris.iter().map(uri));
    params.serialize_request(key).unwrap().der().to_vec()
}

/// Every subject alternative name of the first certificate of a chain, and whether it is an authority's.
pub(crate) fn names(chain: &str) -> (Vec<String>, bool) {
    let first = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&first).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let text = |name: &GeneralName| match name {
        GeneralName::URI(uri) => (*uri).to_owned(),
        other => format!("{other:?}"),
    };
    (names.value.general_names.iter().map(text).collect(), certificate.is_ca())
}

/// A certificate with a key.
pub(crate) struct Leaf {
    pub(crate) chain: String,
    pub(crate) key: KeyPair,
}

impl Leaf {
    /// Of this identity, signed by this authority at this time.
    pub(crate) fn signed(ca: &ZoneCa, id: &SpiffeId, lifetime: Duration, at: Timestamp) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let chain = ca.sign(&csr(&key, &[], &[]), id, lifetime, at).unwrap();
        Self { chain, key }
    }

    /// A connection that shows it.
    pub(crate) async fn channel(&self, world: &World) -> Result<Channel, tonic::transport::Error> {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.serialize_pem().as_bytes()).unwrap();
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        // Whether the key is that of the certificate is for the server to find out.
        let shown = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
        let builder = ClientConfig::builder().with_root_certificates(roots(world));
        connect(world, builder.with_client_cert_resolver(shown), None).await
    }

    /// An agent that shows it, with no token.
    pub(crate) async fn agent(&self, world: &World) -> Agent {
        Agent { channel: self.channel(world).await.unwrap(), authorization: None }
    }
}

fn roots(world: &World) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&world.ca_file).unwrap()).unwrap();
    roots
}

/// A connection without a certificate, on which the server may send no more than this many bytes that are not read.
pub(crate) async fn narrow_channel(world: &World, window: u32) -> Channel {
    let config = ClientConfig::builder().with_root_certificates(roots(world)).with_no_client_auth();
    connect(world, config, Some(window)).await.unwrap()
}

async fn connect(
    world: &World,
    mut config: ClientConfig,
    window: Option<u32>,
) -> Result<Channel, tonic::transport::Error> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let address = world.address.strip_prefix("https://").unwrap().to_owned();
    let uri = format!("http://{address}");
    let dial = service_fn(move |_| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let tcp = TcpStream::connect(address).await?;
            let name = ServerName::try_from("127.0.0.1").unwrap();
            connector.connect(name, tcp).await.map(TokioIo::new)
        }
    });
    Endpoint::from_shared(uri)
        .unwrap()
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .connect_with_connector(dial)
        .await
}
