//! A connection as its users see it: a channel, and what authorizes a call.
//!
//! Invariant: the token is read from its file for each call, so that a renewed one counts at once.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};
use ursa_proto::agent::agent_client::AgentClient;
use ursa_proto::agent::{SignCertificateRequest, SignCertificateResponse};

/// How long the control plane may take to sign.
const SIGN_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// A connection to the control plane.
#[derive(Clone, Debug)]
pub struct Link {
    channel: Channel,
    token_file: Arc<PathBuf>,
    /// As the control plane's Welcome gave it; empty before.
    node_id: Arc<str>,
    /// The connection itself proves who this is.
    presents_certificate: bool,
    token_refused: CancellationToken,
}

impl Link {
    pub(crate) fn new(channel: Channel, token_file: PathBuf, presents_certificate: bool) -> Self {
        Self {
            channel,
            token_file: Arc::new(token_file),
            node_id: Arc::from(""),
            presents_certificate,
            token_refused: CancellationToken::new(),
        }
    }

    /// The same connection, once the control plane has said what it calls this proxy.
    pub(crate) fn named(self, node_id: &str) -> Self {
        Self { node_id: Arc::from(node_id), ..self }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request with the token, or without one if there is none and the certificate does.
    pub(crate) fn authorize<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        match std::fs::read_to_string(self.token_file.as_path()) {
            Ok(token) => {
                let mut value =
                    MetadataValue::try_from(format!("Bearer {}", token.trim())).map_err(|_| {
                        Status::unauthenticated(format!("{} holds no token", self.token_file.display()))
                    })?;
                value.set_sensitive(true);
                request.metadata_mut().insert("authorization", value);
            }
            Err(_) if self.presents_certificate => {}
            Err(error) => {
                return Err(Status::unauthenticated(format!(
                    "cannot read the token in {}: {error}",
                    self.token_file.display()
                )));
            }
        }
        Ok(request)
    }

    /// Asks for a certificate by a PKCS#10 request.
    pub(crate) async fn sign(&self, csr: Vec<u8>) -> Result<SignCertificateResponse, Status> {
        let mut request =
            self.authorize(SignCertificateRequest { csr, node_id: self.node_id.to_string() })?;
        request.set_timeout(SIGN_WITHIN);
        Ok(AgentClient::new(self.channel()).sign_certificate(request).await?.into_inner())
    }

    /// The token has expired: a new connection may present the certificate instead.
    pub(crate) fn refused_token(&self) {
        if !self.presents_certificate {
            self.token_refused.cancel();
        }
    }

    pub(crate) async fn token_is_refused(&self) {
        self.token_refused.cancelled().await;
    }
}
