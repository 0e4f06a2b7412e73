//! A replica of a control plane, with a server of its own.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use ursa_crds::schema::Schemas;
use ursa_crds::{DataplaneInsightSpec, Kind, ObjectKey, Spec};
use ursa_identity::Tokens;
use ursa_index::{Authority, Certificate, Connection, Index, ProxyInsight};
use ursa_model::ProxyId;
use ursa_store::Store;
use ursa_sync::replicas::{Leader, Replicas, Trust};

use super::{HOUR, PATIENCE, Server, put, until};

/// The control plane's own namespace.
pub(crate) const NAMESPACE: &str = "ursa-system";

/// One replica. Each has a store of its own: nothing but the streams tells one what another sees.
pub(crate) struct Replica {
    pub(crate) identity: String,
    pub(crate) index: Index,
    pub(crate) store: Store,
    pub(crate) leads: watch::Sender<bool>,
    pub(crate) leader: watch::Sender<Option<Leader>>,
    pub(crate) server: Server,
}

impl Replica {
    pub(crate) async fn start(identity: &str, tokens: &Arc<Tokens>, dataplanes: &[&str]) -> Self {
        Self::speaking(Schemas::OURS, identity, tokens, dataplanes).await
    }

    /// Of a version that speaks these schemas.
    pub(crate) async fn speaking(
        schemas: Schemas,
        identity: &str,
        tokens: &Arc<Tokens>,
        dataplanes: &[&str],
    ) -> Self {
        let store = Store::memory();
        put(&store, super::objects::mesh()).await;
        for name in dataplanes {
            put(&store, super::objects::dataplane(name)).await;
        }
        let leads = watch::Sender::new(false);
        let authority = Arc::new(Authority::standalone(store.clone(), "east"));
        let index = Index::start_as_replica(store.clone(), authority, leads.subscribe());
        // What comes from here on is new to it.
        index.inspect(&proxy("nobody")).await;
        let replicas = Replicas::new(index.clone(), tokens.clone(), NAMESPACE, identity, leads.subscribe())
            .speaking(schemas);
        let routes = tonic::service::Routes::new(replicas.service());
        let server = Server::start(routes).await;
        let leader = watch::Sender::new(None);
        let replica = Self { identity: identity.into(), index, store, leads, leader, server };
        // Each server has an authority of its own, so the file is that of whichever leads: all share one in a cluster.
        replica.follow(replicas);
        replica
    }

    fn follow(&self, replicas: Replicas) {
        let trust =
            Trust { ca_file: self.server.folder.path().join("leader.pem"), server_name: "127.0.0.1".into() };
        replicas.follow(self.leader.subscribe(), trust);
    }

    /// As the Lease says.
    pub(crate) fn is_led_by(&self, leader: &Self) {
        std::fs::copy(&leader.server.ca_file, self.server.folder.path().join("leader.pem")).unwrap();
        self.leads.send_replace(self.identity == leader.identity);
        let (identity, address) = (leader.identity.clone(), leader.server.address.clone());
        self.leader.send_replace(Some(Leader { identity, address }));
    }

    pub(crate) fn get(&self, name: &str) -> ProxyInsight {
        self.index.insights().get(&proxy(name)).unwrap_or_default()
    }

    /// An agent connects, and gets a certificate.
    pub(crate) fn connect(&self, name: &str, second: i64) -> Connection {
        let connection = self.index.connect(&proxy(name));
        self.index.observe(&proxy(name), |insight| {
            insight.connected = true;
            insight.connected_at = Some(at(second));
            insight.envoy_version = "1.40".into();
            let expires = Timestamp::now() + HOUR;
            insight.certificate =
                Some(Certificate { backend: "ca-1".into(), expires, signed_at: Some(at(second)) });
        });
        connection
    }

    pub(crate) fn disconnect(&self, name: &str, second: i64) {
        self.index.observe(&proxy(name), |insight| {
            insight.connected = false;
            insight.disconnected_at = Some(at(second));
        });
    }

    pub(crate) async fn sees(
        &self,
        what: &str,
        name: &str,
        condition: impl Fn(&ProxyInsight) -> bool,
    ) -> ProxyInsight {
        let end = Instant::now() + PATIENCE;
        let (_, mut news) = self.index.insights().follow_for_replica("nobody");
        loop {
            let known = self.get(name);
            if condition(&known) {
                return known;
            }
            let left = end.saturating_duration_since(Instant::now());
            let waited = timeout(left, news.next()).await;
            assert!(waited.is_ok(), "{}: never {what}: {known:?}", self.identity);
        }
    }

    /// What the REST API shows under `dataplaneinsights`.
    pub(crate) async fn reports(&self, name: &str, connected: bool) {
        self.reports_that("reported so", name, |spec| spec.connected == connected).await;
    }

    pub(crate) async fn reports_that(
        &self,
        what: &str,
        name: &str,
        condition: impl Fn(&DataplaneInsightSpec) -> bool,
    ) {
        let key = ObjectKey::in_mesh(Kind::DataplaneInsight, "default", &format!("east.{name}"));
        let reported = |store: &Store| match store.get(&key).map(|object| object.spec.clone()) {
            Some(Spec::DataplaneInsight(spec)) => condition(&spec),
            _ => false,
        };
        until(&self.store, what, reported).await;
    }
}

pub(crate) fn proxy(name: &str) -> ProxyId {
    ProxyId::new("default", name)
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}
