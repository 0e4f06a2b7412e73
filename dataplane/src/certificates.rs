//! The workload's key and certificate: made and renewed here, kept in the data folder, handed to Envoy.
//!
//! Invariant: the private key leaves this host in no message, and key and chain always belong together.

pub mod leaf;
pub mod renewal;
pub mod store;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::{error, info, warn};
use ursa_envoy::identity_secret;
use ursa_model::{ProxyId, SpiffeId};

use crate::backoff::{Backoff, LONGEST};
use crate::certificates::leaf::LeafError;
use crate::certificates::renewal::{Announced, Step};
use crate::certificates::store::{Held, IdentityStore};
use crate::cp::Link;
use crate::xds::cache::Entry;

/// The clock is looked at this often, so that a host that slept renews soon after.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error("the control plane does not sign: {}", .0.message())]
    Refused(#[from] Status),
    #[error("the control plane's certificate is not used: {0}")]
    Unusable(#[from] LeafError),
    #[error("cannot make a key or request: {0}")]
    Key(#[from] rcgen::Error),
    #[error("cannot keep key and certificate: {0}")]
    Keep(#[from] std::io::Error),
}

/// What the task reads and writes.
pub struct Certificates {
    /// What the control plane says the proxy is to have; `None`: it has not said yet.
    pub announced: watch::Receiver<Option<Announced>>,
    /// The control plane, while it is there.
    pub link: watch::Receiver<Option<Link>>,
    /// The key and certificate in use.
    pub held: watch::Sender<Option<Arc<Held>>>,
    /// Where they are kept.
    pub store: IdentityStore,
}

/// What was kept for this proxy, if it can still be used.
pub fn load(store: &IdentityStore, proxy: &ProxyId) -> Option<Arc<Held>> {
    match store.load(proxy, SystemTime::now()) {
        Ok(Some(held)) => {
            info!(spiffe_id = %held.leaf.spiffe_id, "kept certificate found");
            Some(Arc::new(held))
        }
        Ok(None) => None,
        Err(error) => {
            warn!(%error, "kept certificate not used");
            None
        }
    }
}

/// The certificate as Envoy gets it.
pub fn secret(held: &Held) -> Entry {
    Entry { version: held.leaf.fingerprint.clone(), body: identity_secret(&held.chain_pem, &held.key_pem) }
}

impl Certificates {
    /// Keeps the certificate fresh until shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let announced = self.announced.borrow_and_update().clone();
            let held = self.held.borrow().clone();
            let wait = match renewal::next(announced.as_ref(), held.as_deref(), SystemTime::now()) {
                Step::Wait => None,
                Step::Keep { left } => {
                    backoff.reset();
                    Some(left.min(LOOK_EVERY))
                }
                Step::Drop => {
                    self.drop_identity();
                    None
                }
                Step::Sign { spiffe_id, lifetime } => {
                    let link = self.link.borrow_and_update().clone();
                    match link {
                        None => {
                            // Nobody to ask: wait for the control plane.
                            tokio::select! {
                                changed = self.link.changed() => if changed.is_err() { return },
                                changed = self.announced.changed() => if changed.is_err() { return },
                                () = shutdown.cancelled() => return,
                            }
                            continue;
                        }
                        Some(link) => Some(self.sign(&link, &spiffe_id, lifetime, &mut backoff).await),
                    }
                }
            };
            tokio::select! {
                () = nap(wait) => {}
                changed = self.announced.changed() => if changed.is_err() { return },
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn drop_identity(&self) {
        info!("mutual TLS is off: key and certificate are deleted");
        if let Err(error) = self.store.delete() {
            warn!(%error, "cannot delete key and certificate");
        }
        self.held.send_replace(None);
    }

    /// Gets a new certificate; returns how long to wait before looking again.
    async fn sign(
        &self,
        link: &Link,
        spiffe_id: &SpiffeId,
        lifetime: Duration,
        backoff: &mut Backoff,
    ) -> Duration {
        match self.try_sign(link, spiffe_id, lifetime).await {
            // If the signer has changed meanwhile, the next look signs again: never without a pause.
            Ok(()) => backoff.pause(),
            Err(error) => {
                error!(%spiffe_id, %error, "no new certificate");
                match &error {
                    SignError::Refused(status) if status.code() == Code::Unauthenticated => {
                        link.refused_token();
                        LONGEST
                    }
                    SignError::Refused(status) if status.code() == Code::PermissionDenied => LONGEST,
                    _ => backoff.pause(),
                }
            }
        }
    }

    async fn try_sign(&self, link: &Link, spiffe_id: &SpiffeId, lifetime: Duration) -> Result<(), SignError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        // The control plane writes the names.
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key)?;
        let response = link.sign(request.der().to_vec()).await?;
        let now = SystemTime::now();
        let leaf = leaf::check(&response.chain, &key, now)?;
        if leaf.spiffe_id != *spiffe_id {
            return Err(LeafError::OtherIdentity(leaf.spiffe_id.to_string(), spiffe_id.to_string()).into());
        }
        let held = Held {
            key_pem: key.serialize_pem(),
            chain_pem: response.chain,
            signer: response.signer,
            issued: now,
            lifetime,
            jitter: renewal::jitter(),
            leaf,
        };
        let store = self.store.clone();
        let held = Arc::new(held);
        let kept = held.clone();
        tokio::task::spawn_blocking(move || store.save(&kept)).await.map_err(std::io::Error::other)??;
        info!(%spiffe_id, signer = held.signer, not_after = ?held.leaf.not_after, "new certificate");
        self.held.send_replace(Some(held));
        Ok(())
    }
}

async fn nap(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => std::future::pending().await,
    }
}
