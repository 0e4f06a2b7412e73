//! Replicas of one control plane tell each other what they know of proxies: each that does not lead has one stream to the
//! one that does.
//!
//! ```text
//! replica ── its own proxies ──▶ leader ── everybody else's ──▶ replica
//! ```
//!
//! What is said becomes one with what is seen in [`ursa_index::Insights`], and nowhere else. Invariants: each side gets
//! the latest state of a proxy, not each state; a silent stream ends within 5 s; only a replica of this control plane is
//! listened to.

mod conversation;
mod follower;
mod leader;
mod wire;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use ursa_crds::schema::{Party, Schemas};
use ursa_identity::{ReplicaClaims, TokenError, Tokens};
use ursa_index::Index;

use crate::meeting;

/// A token is made for each call, and does not outlive it by much.
const TOKEN_LIFETIME: Duration = Duration::from_mins(1);

/// Another replica that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its identity: that by which it holds the Lease.
    pub identity: String,
    /// Where it serves agents and replicas: `HOST:PORT`.
    pub address: String,
}

/// What a replica trusts the leader by.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The CA file of the control plane's own certificate; read again at each connect.
    pub ca_file: PathBuf,
    /// The DNS name in it: that of the Service.
    pub server_name: String,
}

/// One replica of a control plane; cheap to clone.
#[derive(Clone)]
pub struct Replicas {
    index: Index,
    tokens: Arc<Tokens>,
    /// The control plane's own namespace.
    namespace: String,
    /// This replica's identity.
    identity: String,
    schemas: Schemas,
    leads: watch::Receiver<bool>,
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicas")
            .field("namespace", &self.namespace)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Replicas {
    /// The replica of this identity, of the control plane in this namespace; `leads` says whether it is the one that the
    /// others tell.
    pub fn new(
        index: Index,
        tokens: Arc<Tokens>,
        namespace: &str,
        identity: &str,
        leads: watch::Receiver<bool>,
    ) -> Self {
        let (namespace, identity) = (namespace.to_owned(), identity.to_owned());
        Self { index, tokens, namespace, identity, schemas: Schemas::OURS, leads }
    }

    /// Speaks these schemas, and no others.
    #[must_use]
    pub fn speaking(mut self, schemas: Schemas) -> Self {
        self.schemas = schemas;
        self
    }

    fn party(&self) -> Party {
        meeting::own(&format!("replica {}", self.identity), self.schemas)
    }

    /// What the replica shows to the leader.
    fn token(&self, now: Timestamp) -> Result<String, TokenError> {
        let claims = ReplicaClaims { namespace: self.namespace.clone(), replica: self.identity.clone() };
        Ok(self.tokens.issue_replica(&claims, TOKEN_LIFETIME, now)?.token)
    }
}
