//! The certificate authorities of this zone: one root for each mesh and backend. Their keys stay in the zone's store.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::RwLock;
use ursa_identity::{CaError, ZoneCa};
use ursa_model::TrustDomain;
use ursa_store::{Store, StoreError};

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
}

/// The zone's certificate authorities by mesh and backend.
#[derive(Debug)]
pub struct Authority {
    store: Store,
    zone: String,
    known: RwLock<BTreeMap<(String, String), Arc<ZoneCa>>>,
}

impl Authority {
    /// Of this zone, with keys in this store.
    pub fn new(store: Store, zone: &str) -> Self {
        Self { store, zone: zone.to_owned(), known: RwLock::default() }
    }

    /// The zone.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The authority of a mesh's backend; made and stored at first use.
    pub async fn ensure(&self, mesh: &str, backend: &str) -> Result<Arc<ZoneCa>, AuthorityError> {
        let id = (mesh.to_owned(), backend.to_owned());
        if let Some(ca) = self.known.read().await.get(&id) {
            return Ok(ca.clone());
        }
        let mut known = self.known.write().await;
        let ca = Arc::new(self.load_or_make(mesh, backend).await?);
        Ok(known.entry(id).or_insert(ca).clone())
    }

    /// The roots of all meshes in this zone, PEM.
    pub async fn roots(&self) -> String {
        self.known.read().await.values().map(|ca| ca.root_pem()).collect()
    }

    async fn load_or_make(&self, mesh: &str, backend: &str) -> Result<ZoneCa, AuthorityError> {
        let ca_error =
            |source| AuthorityError::Ca { mesh: mesh.to_owned(), backend: backend.to_owned(), source };
        let name = format!("ca/{mesh}/{backend}");
        let stored = if let Some(stored) = self.store.private(&name) {
            stored
        } else {
            let domain = TrustDomain::new(&self.zone, mesh);
            let ca = ZoneCa::generate(&domain, Timestamp::now()).map_err(ca_error)?;
            tracing::info!(%domain, backend, signer = ca.signer(), "made a certificate authority");
            self.store.private_get_or_insert(&name, ca.to_private_pem().as_bytes().to_vec()).await.map_err(
                |source| AuthorityError::Store { mesh: mesh.into(), backend: backend.into(), source },
            )?
        };
        ZoneCa::from_private_pem(&String::from_utf8_lossy(&stored)).map_err(ca_error)
    }
}
