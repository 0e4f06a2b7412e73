//! Configuration: flags, then environment, then file, then defaults.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use ursa_crds::Duration;
use ursa_crds::schema::Schemas;
use ursa_model::SpiffeId;

/// Where a control plane keeps what is its own, unless it is told otherwise.
pub(crate) const DATA_DIR: &str = "/var/lib/ursa-cp";

/// How long an agent's session lasts, unless another time is given: a replica that has come has its share of agents within it.
const SESSION_AGE: std::time::Duration = std::time::Duration::from_hours(1);

const SHORTEST_SESSION: std::time::Duration = std::time::Duration::from_mins(1);

/// What a control plane is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// One zone, no global.
    #[default]
    Standalone,
    /// Takes what users write and sends it to the zones.
    Global,
    /// One of several zones.
    Zone,
}

/// Where resources are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreType {
    /// In a file of the data folder.
    #[default]
    File,
    /// On the API server of a Kubernetes cluster: the pod's own, or the one that kubeconfig names.
    Kubernetes,
}

/// Flags of `ursa-cp run`. Each can also be given in the environment or, by its name in camelCase, in the file.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RunArgs {
    /// A YAML file with these settings.
    #[arg(long, env = "URSA_CP_CONFIG")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// What this control plane is.
    #[arg(long, env = "URSA_CP_MODE")]
    mode: Option<Mode>,
    /// The zone's name: a DNS label [default: default].
    #[arg(long, env = "URSA_CP_ZONE")]
    zone: Option<String>,
    /// Where resources are kept [default: file].
    #[arg(long, env = "URSA_CP_STORE")]
    store: Option<StoreType>,
    /// With --store kubernetes: the namespace of the control plane's own objects [default: ursa-system].
    #[arg(long, env = "URSA_CP_NAMESPACE")]
    namespace: Option<String>,
    /// Where the store, keys and the admin token are kept [default: /var/lib/ursa-cp].
    #[arg(long, env = "URSA_CP_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// REST API over plain HTTP; a loopback address [default: 127.0.0.1:5681].
    #[arg(long, env = "URSA_CP_API_HTTP")]
    api_http: Option<SocketAddr>,
    /// REST API over HTTPS [default: 0.0.0.0:5682].
    #[arg(long, env = "URSA_CP_API_HTTPS")]
    api_https: Option<SocketAddr>,
    /// gRPC for agents, TLS [default: 0.0.0.0:5678].
    #[arg(long, env = "URSA_CP_AGENT_ADDRESS")]
    agent_address: Option<SocketAddr>,
    /// How long an agent's session lasts at most, such as 1h; then it comes again, so that agents share replicas that have been
    /// started since. It ends after half of this at the earliest. 0s: never [default: 1h].
    #[arg(long, env = "URSA_CP_AGENT_SESSION_AGE", value_name = "DURATION")]
    agent_session_age: Option<Duration>,
    /// Of a global control plane: gRPC for zones, TLS [default: 0.0.0.0:5685].
    #[arg(long, env = "URSA_CP_SYNC_ADDRESS")]
    sync_address: Option<SocketAddr>,
    /// Of a zone: the global control plane, https://HOST:5685.
    #[arg(long, env = "URSA_CP_GLOBAL_ADDRESS")]
    global_address: Option<String>,
    /// Of a zone: the CA file that global's certificate is trusted by.
    #[arg(long, env = "URSA_CP_GLOBAL_CA_FILE")]
    global_ca_file: Option<PathBuf>,
    /// Of a zone: the file with the zone's token; read again at each connect.
    #[arg(long, env = "URSA_CP_ZONE_TOKEN_FILE")]
    zone_token_file: Option<PathBuf>,
    /// Health and metrics [default: 0.0.0.0:5680].
    #[arg(long, env = "URSA_CP_DIAGNOSTICS_ADDRESS")]
    diagnostics_address: Option<SocketAddr>,
    /// A further DNS name or IP address in the server's certificate; may be repeated.
    #[arg(long = "tls-name", env = "URSA_CP_TLS_NAMES", value_delimiter = ',')]
    #[serde(default)]
    tls_names: Vec<String>,
    /// The server's certificate and its intermediates, PEM, if it is not to make one; read again when it changes.
    #[arg(long, env = "URSA_CP_TLS_CERT_FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// The key of that certificate, PEM.
    #[arg(long, env = "URSA_CP_TLS_KEY_FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
    /// With --store kubernetes and --pod-ip: the Secret that these files and --tls-ca-file are brought from. Then it is followed, and they
    /// count at the start only.
    #[arg(long, env = "URSA_CP_TLS_SECRET", value_name = "NAME", requires = "tls_cert_file")]
    tls_secret: Option<String>,
    /// The CA file that the certificates of this control plane's replicas are trusted by, PEM; read again at each connect.
    #[arg(long, env = "URSA_CP_TLS_CA_FILE")]
    tls_ca_file: Option<PathBuf>,
    /// With --store kubernetes: where the other replicas reach this one. Then they tell each other what they see.
    #[arg(long, env = "URSA_CP_POD_IP")]
    pod_ip: Option<IpAddr>,
    /// The DNS name that all replicas share, which their certificate holds.
    #[arg(long, env = "URSA_CP_SERVICE_NAME")]
    service_name: Option<String>,
    /// Where an operator set it up: the ControlPlane that this is a replica of. Its status says whether a zone is connected to
    /// global; its authority is part of global's backup.
    #[arg(long, env = "URSA_CP_CONTROL_PLANE")]
    control_plane: Option<String>,
    /// What is logged: a level, or tracing directives [default: info].
    #[arg(long, env = "URSA_CP_LOG")]
    log: Option<String>,
    /// Speak and understand no more than this schema, as the version that had it does: for tests of upgrades.
    #[arg(long, env = "URSA_CP_SCHEMA", hide = true)]
    #[serde(skip)]
    schema: Option<u32>,
}

/// How a zone reaches global.
#[derive(Clone, Debug)]
pub(crate) struct GlobalAddress {
    pub(crate) address: String,
    pub(crate) ca_file: PathBuf,
    pub(crate) token_file: PathBuf,
}

/// Where the server's certificate is.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// How the replicas of a control plane reach each other.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) ip: IpAddr,
    pub(crate) ca_file: PathBuf,
    pub(crate) service_name: String,
}

/// The configuration in force.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) mode: Mode,
    pub(crate) zone: String,
    pub(crate) store: StoreType,
    pub(crate) namespace: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) api_http: SocketAddr,
    pub(crate) api_https: SocketAddr,
    pub(crate) agent_address: SocketAddr,
    /// `None`: they last for ever.
    pub(crate) agent_session_age: Option<std::time::Duration>,
    pub(crate) sync_address: SocketAddr,
    /// How a zone reaches global.
    pub(crate) global: Option<GlobalAddress>,
    pub(crate) diagnostics_address: SocketAddr,
    pub(crate) tls_names: Vec<String>,
    /// `None`: the control plane makes its own.
    pub(crate) tls_files: Option<TlsFiles>,
    /// The Secret that they are from, if it is to be followed.
    pub(crate) tls_secret: Option<String>,
    /// `None`: there are no others.
    pub(crate) replica: Option<Replica>,
    /// The ControlPlane that this is a replica of.
    pub(crate) control_plane: Option<String>,
    pub(crate) log: String,
    pub(crate) schemas: Schemas,
}

impl RunArgs {
    pub(crate) fn resolve(&self) -> anyhow::Result<Config> {
        let file = match &self.config {
            None => Self::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                serde_saphyr::from_str(&text).with_context(|| format!("in {}", path.display()))?
            }
        };
        let bind = |flag: Option<SocketAddr>, file: Option<SocketAddr>, default: &str| {
            flag.or(file).map_or_else(|| default.parse().context("a default address"), Ok)
        };
        let mode = self.mode.or(file.mode).unwrap_or_default();
        let global = match mode {
            Mode::Standalone | Mode::Global => None,
            Mode::Zone => Some(GlobalAddress {
                address: self
                    .global_address
                    .clone()
                    .or(file.global_address)
                    .context("--mode zone needs --global-address")?,
                ca_file: self
                    .global_ca_file
                    .clone()
                    .or(file.global_ca_file)
                    .context("--mode zone needs --global-ca-file")?,
                token_file: self
                    .zone_token_file
                    .clone()
                    .or(file.zone_token_file)
                    .context("--mode zone needs --zone-token-file")?,
            }),
        };
        let schemas = self.schema.map_or(Some(Schemas::OURS), Schemas::up_to);
        let config = Config {
            schemas: schemas.with_context(|| format!("--schema: this version speaks {}", Schemas::OURS))?,
            mode,
            global,
            sync_address: bind(self.sync_address, file.sync_address, "0.0.0.0:5685")?,
            zone: self.zone.clone().or(file.zone).unwrap_or_else(|| "default".into()),
            store: self.store.or(file.store).unwrap_or_default(),
            namespace: self.namespace.clone().or(file.namespace).unwrap_or_else(|| "ursa-system".into()),
            data_dir: self.data_dir.clone().or(file.data_dir).unwrap_or_else(|| DATA_DIR.into()),
            api_http: bind(self.api_http, file.api_http, "127.0.0.1:5681")?,
            api_https: bind(self.api_https, file.api_https, "0.0.0.0:5682")?,
            agent_address: bind(self.agent_address, file.agent_address, "0.0.0.0:5678")?,
            agent_session_age: match self.agent_session_age.or(file.agent_session_age) {
                None => Some(SESSION_AGE),
                Some(age) => Some(age.get()).filter(|age| !age.is_zero()),
            },
            diagnostics_address: bind(self.diagnostics_address, file.diagnostics_address, "0.0.0.0:5680")?,
            tls_names: if self.tls_names.is_empty() { file.tls_names } else { self.tls_names.clone() },
            tls_files: (self.tls_cert_file.clone().or(file.tls_cert_file))
                .zip(self.tls_key_file.clone().or(file.tls_key_file))
                .map(|(cert, key)| TlsFiles { cert, key }),
            tls_secret: self.tls_secret.clone().or(file.tls_secret),
            replica: match self.pod_ip.or(file.pod_ip) {
                None => None,
                Some(ip) => Some(Replica {
                    ip,
                    ca_file: (self.tls_ca_file.clone().or(file.tls_ca_file))
                        .context("--pod-ip needs --tls-ca-file")?,
                    service_name: (self.service_name.clone().or(file.service_name))
                        .context("--pod-ip needs --service-name")?,
                }),
            },
            control_plane: self.control_plane.clone().or(file.control_plane),
            log: self.log.clone().or(file.log).unwrap_or_else(|| "info".into()),
        };
        anyhow::ensure!(SpiffeId::is_label(&config.zone), "--zone {:?} is not a DNS label", config.zone);
        anyhow::ensure!(
            config.tls_secret.is_none()
                || (config.store == StoreType::Kubernetes
                    && config.tls_files.is_some()
                    && config.replica.is_some()),
            "--tls-secret needs --store kubernetes, --tls-cert-file and --pod-ip"
        );
        anyhow::ensure!(
            config.agent_session_age.is_none_or(|age| age >= SHORTEST_SESSION),
            "--agent-session-age: less than 1m costs more than it is good for (0s: they last for ever)"
        );
        anyhow::ensure!(
            config.api_http.ip().is_loopback(),
            "--api-http {}: plain HTTP is served on loopback addresses only; use --api-https",
            config.api_http
        );
        Ok(config)
    }
}

impl Config {
    /// The names in the server's certificate: what was given, the addresses that are bound, and loopback.
    pub(crate) fn server_names(&self) -> Vec<String> {
        let mut names = self.tls_names.clone();
        for address in [self.api_https, self.agent_address, self.sync_address] {
            if !address.ip().is_unspecified() {
                names.push(address.ip().to_string());
            }
        }
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
            names.push(host.trim().to_owned());
        }
        names.sort();
        names.dedup();
        names
    }
}
