//! The certificate authorities of this zone: for each mesh and backend a root, or an intermediate below a root that the
//! user provides. Their keys stay in the zone's store.
//!
//! Invariant: nothing here waits for another process; an intermediate that is not there yet is asked for, and the
//! index is told when it has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, RwLock, mpsc, oneshot};
use ursa_crds::{CaBackend, CaType};
use ursa_identity::{CaError, IntermediateRequest, ZoneCa};
use ursa_model::TrustDomain;
use ursa_store::{Store, StoreError};

use crate::provided;

/// Why the zone has no authority for a mesh.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The key could not be made or read.
    #[error("certificate authority {backend} of mesh {mesh}: {source}")]
    Ca {
        /// The mesh.
        mesh: String,
        /// The backend.
        backend: String,
        /// What failed.
        source: CaError,
    },
    /// The key could not be stored.
    #[error("certificate authority {backend} of mesh {mesh}: {source}")]
    Store {
        /// The mesh.
        mesh: String,
        /// The backend.
        backend: String,
        /// What failed.
        source: StoreError,
    },
    /// The intermediate was asked for and has not come yet.
    #[error("certificate authority {backend} of mesh {mesh}: its intermediate is not signed yet")]
    Pending {
        /// The mesh.
        mesh: String,
        /// The backend.
        backend: String,
    },
}

/// A request to whoever holds the root's key: global.
#[derive(Debug)]
pub struct SigningRequest {
    /// The mesh.
    pub mesh: String,
    /// The backend.
    pub backend: String,
    /// PKCS#10 in DER.
    pub csr: Vec<u8>,
    /// The intermediate and the root, PEM, or why there is none. Dropped when the connection is lost.
    pub reply: oneshot::Sender<Result<String, String>>,
}

/// Mesh and backend.
type Id = (String, String);

/// After a refusal or a lost connection.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// The zone's certificate authorities by mesh and backend.
#[derive(Debug)]
pub struct Authority {
    store: Store,
    zone: String,
    known: RwLock<BTreeMap<Id, Arc<ZoneCa>>>,
    /// Where roots are signed with; `None` where this store holds them itself.
    signer: Option<mpsc::UnboundedSender<SigningRequest>>,
    asking: Mutex<BTreeSet<Id>>,
    changed: Notify,
}

impl Authority {
    /// Of this zone, with keys in this store, which holds provided roots too.
    pub fn standalone(store: Store, zone: &str) -> Self {
        Self::new(store, zone, None)
    }

    /// Of a zone whose provided roots are at global; what it asks there for comes out of the returned receiver.
    pub fn of_zone(store: Store, zone: &str) -> (Self, mpsc::UnboundedReceiver<SigningRequest>) {
        let (signer, requests) = mpsc::unbounded_channel();
        (Self::new(store, zone, Some(signer)), requests)
    }

    fn new(store: Store, zone: &str, signer: Option<mpsc::UnboundedSender<SigningRequest>>) -> Self {
        Self {
            store,
            zone: zone.to_owned(),
            known: RwLock::default(),
            signer,
            asking: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// The zone.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The authority of a mesh's backend. A root is made and stored at first use; an intermediate is asked for.
    pub async fn ensure(
        self: &Arc<Self>,
        mesh: &str,
        backend: &CaBackend,
    ) -> Result<Arc<ZoneCa>, AuthorityError> {
        let id = (mesh.to_owned(), backend.name.clone());
        if let Some(ca) = self.known.read().await.get(&id) {
            self.renew(&id, ca);
            return Ok(ca.clone());
        }
        let name = private_name(&id, backend.ca_type);
        let stored = self.store.private(&name).filter(|stored| !stored.is_empty());
        let stored = match (stored, backend.ca_type) {
            (Some(stored), _) => stored,
            (None, CaType::Builtin) => self.make_root(&id, &name).await?,
            (None, CaType::Provided) => {
                self.ask(&id, None);
                return Err(AuthorityError::Pending { mesh: id.0, backend: id.1 });
            }
        };
        let ca = ZoneCa::from_private_pem(&String::from_utf8_lossy(&stored));
        let ca = Arc::new(ca.map_err(|source| ca_error(&id, source))?);
        self.renew(&id, &ca);
        Ok(self.known.write().await.entry(id).or_insert(ca).clone())
    }

    /// The authority of a backend that [`Self::ensure`] has given before.
    pub async fn current(self: &Arc<Self>, mesh: &str, backend: &str) -> Option<Arc<ZoneCa>> {
        let id = (mesh.to_owned(), backend.to_owned());
        let ca = self.known.read().await.get(&id).cloned()?;
        self.renew(&id, &ca);
        Some(ca)
    }

    /// Forgets the intermediates of a mesh whose backends are listed no more: should one come back, its root may be
    /// another one.
    pub(crate) async fn retain(&self, mesh: &str, backends: &[CaBackend]) -> Result<(), StoreError> {
        let listed = |name: &String| backends.iter().any(|backend| backend.name == *name);
        let mut known = self.known.write().await;
        let gone: Vec<Id> = known.keys().filter(|(of, name)| of == mesh && !listed(name)).cloned().collect();
        for id in gone {
            known.remove(&id);
            let name = private_name(&id, CaType::Provided);
            if self.store.private(&name).is_some_and(|stored| !stored.is_empty()) {
                self.store.private_put(&name, Vec::new()).await?;
            }
        }
        Ok(())
    }

    /// The certificates by which leaves of this zone are known to it, of all meshes, PEM.
    pub async fn issuers(&self) -> String {
        self.known.read().await.values().map(|ca| ca.issuer_pem()).collect()
    }

    /// Returns when an authority has come that was asked for.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn make_root(&self, id: &Id, name: &str) -> Result<Vec<u8>, AuthorityError> {
        let domain = TrustDomain::new(&self.zone, &id.0);
        let ca = ZoneCa::generate(&domain, Timestamp::now()).map_err(|source| ca_error(id, source))?;
        tracing::info!(%domain, backend = id.1, signer = ca.signer(), "made a certificate authority");
        let stored = self.store.private_get_or_insert(name, ca.to_private_pem().into_bytes()).await;
        stored.map_err(|source| AuthorityError::Store { mesh: id.0.clone(), backend: id.1.clone(), source })
    }

    fn renew(self: &Arc<Self>, id: &Id, ca: &Arc<ZoneCa>) {
        if ca.is_due(Timestamp::now()) {
            self.ask(id, Some(ca.clone()));
        }
    }

    /// Asks for an intermediate in the background, unless that is under way.
    fn ask(self: &Arc<Self>, id: &Id, renews: Option<Arc<ZoneCa>>) {
        if !self.asking.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone()) {
            return;
        }
        let (authority, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            match authority.obtain(&id, renews.as_deref()).await {
                Ok(()) => {}
                Err(reason) => {
                    tracing::error!(mesh = id.0, backend = id.1, reason, "no intermediate; will ask again");
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
            authority.asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            authority.changed.notify_one();
        });
    }

    /// Has an intermediate signed, unless another replica has one first: the one in the store is everybody's.
    async fn obtain(&self, id: &Id, renews: Option<&ZoneCa>) -> Result<(), String> {
        let mut stored = self.store.private_changes();
        let theirs = async {
            loop {
                if let Some(ca) = self.stored_intermediate(id, renews)? {
                    return Ok::<_, String>(ca);
                }
                stored.changed().await.map_err(|_| "the store is closed".to_owned())?;
            }
        };
        let ca = tokio::select! {
            biased;
            theirs = theirs => theirs?,
            own = self.make_intermediate(id, renews) => own?,
        };
        tracing::info!(mesh = id.0, backend = id.1, signer = ca.signer(), "got an intermediate");
        self.known.write().await.insert(id.clone(), Arc::new(ca));
        Ok(())
    }

    /// An intermediate that is in the store and not known here yet.
    fn stored_intermediate(&self, id: &Id, renews: Option<&ZoneCa>) -> Result<Option<ZoneCa>, String> {
        let stored = self.store.private(&private_name(id, CaType::Provided));
        let Some(stored) = stored.filter(|stored| !stored.is_empty()) else { return Ok(None) };
        let ca =
            ZoneCa::from_private_pem(&String::from_utf8_lossy(&stored)).map_err(|error| error.to_string())?;
        Ok(renews.is_none_or(|old| old.issuer_pem() != ca.issuer_pem()).then_some(ca))
    }

    async fn make_intermediate(&self, id: &Id, renews: Option<&ZoneCa>) -> Result<ZoneCa, String> {
        let domain = TrustDomain::new(&self.zone, &id.0);
        let request = IntermediateRequest::new(&domain, renews).map_err(|error| error.to_string())?;
        let chain = self.signed(id, request.csr()).await?;
        let ca = request.finish(&chain).map_err(|error| error.to_string())?;
        let name = private_name(id, CaType::Provided);
        let stored = self.store.private_put(&name, ca.to_private_pem().into_bytes()).await;
        stored.map_err(|error| error.to_string())?;
        Ok(ca)
    }

    async fn signed(&self, (mesh, backend): &Id, csr: &[u8]) -> Result<String, String> {
        let Some(signer) = &self.signer else {
            return provided::sign_intermediate(&self.store, &self.zone, mesh, backend, csr);
        };
        let (reply, answer) = oneshot::channel();
        let request =
            SigningRequest { mesh: mesh.clone(), backend: backend.clone(), csr: csr.to_vec(), reply };
        let lost = || "the connection to global was lost".to_owned();
        signer.send(request).map_err(|_| lost())?;
        answer.await.map_err(|_| lost())?
    }
}

/// A backend that changes its type must not find the other one's.
fn private_name((mesh, backend): &Id, ca_type: CaType) -> String {
    match ca_type {
        CaType::Builtin => format!("ca/{mesh}/{backend}"),
        CaType::Provided => format!("ca/{mesh}/{backend}/intermediate"),
    }
}

fn ca_error((mesh, backend): &Id, source: CaError) -> AuthorityError {
    AuthorityError::Ca { mesh: mesh.clone(), backend: backend.clone(), source }
}
