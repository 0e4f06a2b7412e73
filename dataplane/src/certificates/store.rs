//! Key and certificate on disk, in the data folder.
//!
//! Invariant: both are in one file that is replaced as a whole, so they always belong together.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use ursa_model::ProxyId;

use crate::certificates::leaf::{self, Leaf, LeafError};
use crate::certificates::renewal;
use crate::files::{remove_stale, write_private};

/// A key and its certificate.
#[derive(Clone)]
pub struct Held {
    /// The private key, PKCS#8 PEM.
    pub key_pem: String,
    /// Leaf and intermediates, PEM.
    pub chain_pem: String,
    /// Who signed; opaque.
    pub signer: String,
    /// When it came.
    pub issued: SystemTime,
    /// For how long it was to be given.
    pub lifetime: Duration,
    /// Its part of the renewal's jitter, -1 … 1.
    pub jitter: f64,
    /// What the leaf says.
    pub leaf: Leaf,
}

/// The key stays out of logs.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("signer", &self.signer).field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

/// Why the kept certificate is not used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what this program writes.
    #[error("{path} is damaged: {message}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The certificate is no longer, or never was, this proxy's.
    #[error(transparent)]
    Leaf(#[from] LeafError),
}

#[derive(Serialize, Deserialize)]
struct Saved {
    key: String,
    chain: String,
    signer: String,
    issued_ms: u64,
    lifetime_ms: u64,
}

/// Where key and certificate are kept.
#[derive(Clone, Debug)]
pub struct IdentityStore {
    path: PathBuf,
}

impl IdentityStore {
    /// In this folder.
    pub fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join("identity.json") }
    }

    /// What was kept, if it is valid now and of this proxy in its mesh.
    pub fn load(&self, proxy: &ProxyId, now: SystemTime) -> Result<Option<Held>, StoreError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Io { path: self.path.clone(), source }),
        };
        let damaged = |message: String| StoreError::Damaged { path: self.path.clone(), message };
        // Not the parser's own words: they might quote the key.
        let Saved { key, chain, signer, issued_ms, lifetime_ms } =
            serde_json::from_slice(&bytes).map_err(|error| damaged(format!("{:?}", error.classify())))?;
        let pair = KeyPair::from_pem(&key).map_err(|_| damaged("its key cannot be read".into()))?;
        let leaf = leaf::check(&chain, &pair, now)?;
        if leaf.spiffe_id.trust_domain.mesh != proxy.mesh || leaf.spiffe_id.proxy != proxy.name {
            return Err(LeafError::OtherIdentity(leaf.spiffe_id.to_string(), proxy.to_string()).into());
        }
        Ok(Some(Held {
            key_pem: key,
            chain_pem: chain,
            signer,
            issued: UNIX_EPOCH + Duration::from_millis(issued_ms),
            lifetime: Duration::from_millis(lifetime_ms),
            jitter: renewal::jitter(),
            leaf,
        }))
    }

    /// Keeps it; blocks until it is on disk.
    pub fn save(&self, held: &Held) -> io::Result<()> {
        let Held { key_pem, chain_pem, signer, issued, lifetime, jitter: _, leaf: _ } = held;
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let saved = Saved {
            key: key_pem.clone(),
            chain: chain_pem.clone(),
            signer: signer.clone(),
            issued_ms: millis(issued.duration_since(UNIX_EPOCH).unwrap_or_default()),
            lifetime_ms: millis(*lifetime),
        };
        write_private(&self.path, &serde_json::to_vec(&saved)?)
    }

    /// Deletes it.
    pub fn delete(&self) -> io::Result<()> {
        remove_stale(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, SanType};

    use super::*;

    fn held(proxy: &str) -> Held {
        let key = KeyPair::generate().unwrap();
        let name = format!("spiffe://east.default.ursa/service/web/ns/-/tags/-/proxy/{proxy}");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(name).unwrap())];
        let chain_pem = params.self_signed(&key).unwrap().pem();
        let leaf = leaf::check(&chain_pem, &key, SystemTime::now()).unwrap();
        Held {
            key_pem: key.serialize_pem(),
            chain_pem,
            signer: "ca-1".into(),
            issued: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            lifetime: Duration::from_mins(1),
            jitter: 0.0,
            leaf,
        }
    }

    #[test]
    fn what_is_kept_is_used_again_by_the_same_proxy_only() {
        let folder = tempfile::tempdir().unwrap();
        let store = IdentityStore::new(folder.path());
        let now = SystemTime::now();
        let proxy = ProxyId::new("default", "web-1");
        assert!(store.load(&proxy, now).unwrap().is_none());
        let kept = held("web-1");
        store.save(&kept).unwrap();
        let read = store.load(&proxy, now).unwrap().unwrap();
        assert_eq!((read.issued, read.lifetime, read.signer), (kept.issued, kept.lifetime, kept.signer));
        assert_eq!((read.key_pem, read.leaf), (kept.key_pem, kept.leaf));
        for other in [ProxyId::new("default", "web-2"), ProxyId::new("other", "web-1")] {
            assert!(matches!(store.load(&other, now), Err(StoreError::Leaf(LeafError::OtherIdentity(..)))));
        }
        store.delete().unwrap();
        assert!(store.load(&proxy, now).unwrap().is_none());
    }

    #[test]
    fn a_key_and_a_certificate_that_do_not_belong_together_are_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let store = IdentityStore::new(folder.path());
        store.save(&Held { key_pem: held("web-1").key_pem, ..held("web-1") }).unwrap();
        let error = store.load(&ProxyId::new("default", "web-1"), SystemTime::now()).unwrap_err();
        assert!(matches!(error, StoreError::Leaf(LeafError::OtherKey)), "{error}");
    }

    #[test]
    fn no_message_shows_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let store = IdentityStore::new(folder.path());
        std::fs::write(folder.path().join("identity.json"), r#"{"key": "SECRET-KEY", "chain": 3}"#).unwrap();
        let error = store.load(&ProxyId::new("default", "web-1"), SystemTime::now()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{error}");
        let held = held("web-1");
        assert!(!format!("{held:?}").contains("PRIVATE KEY"));
    }
}
