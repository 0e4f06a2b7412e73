//! The command line. Invariant: no argument takes a secret; tokens are named by the file that holds them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ursa_crds::Duration;

/// Controls an Ursa service mesh: applies and shows resources, makes tokens.
#[derive(Debug, Parser)]
#[command(name = "ursactl", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes. The environment is read by [`crate::environment`], so that `config` can do without it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// The file with the control planes that are known [env: URSA_CONFIG] [default: ~/.ursa/config.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
    /// The control plane's REST API; the config file is not read then [env: URSA_API]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) api: Option<String>,
    /// The file with the user's token [env: URSA_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The authorities to trust, PEM, instead of the system's [env: URSA_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The mesh [default: default]
    #[arg(long, short, global = true, value_name = "MESH")]
    pub(crate) mesh: Option<String>,
    /// How to print results
    #[arg(long, short, global = true, value_name = "FORM", value_enum, default_value_t)]
    pub(crate) output: Output,
}

impl Common {
    /// The mesh that commands work in.
    pub(crate) fn mesh(&self) -> &str {
        self.mesh.as_deref().unwrap_or(ursa_crds::DEFAULT_MESH)
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Table,
    /// As the API returns it, as YAML
    Yaml,
    /// As the API returns it, as JSON
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create or change resources
    Apply(Apply),
    /// Show resources
    Get(Get),
    /// Delete resources
    Delete(Delete),
    /// Show what is observed
    #[command(subcommand)]
    Inspect(Inspect),
    /// Make tokens
    #[command(subcommand)]
    Generate(Generate),
    /// Take tokens back: what they let in is put out; where resources are applied
    #[command(subcommand)]
    Revoke(Revoke),
    /// Let zones join; at a global control plane
    #[command(subcommand)]
    Zone(Zone),
    /// Have zones follow this global control plane, which was set up anew, in place of the one that they knew: they take over
    /// all of it, and delete what it does not have
    Adopt,
    /// Write a global control plane with its keys to a file, which is to be kept like a key
    Backup(Backup),
    /// Make a new global control plane the one that a backup was taken of; its zones follow it with the credentials that they have
    Restore(Restore),
    /// Print what installs Ursa in a Kubernetes cluster, for `kubectl apply -f -`
    #[command(subcommand)]
    Install(Install),
    /// Change what ursactl knows
    #[command(subcommand)]
    Config(Config),
    /// Show the versions of ursactl and, if one is configured, of the control plane
    Version(Version),
    /// Print a shell's completion script
    Completion {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// A file, a folder with *.yaml, *.yml and *.json, or - for the standard input; may be repeated
    #[arg(long = "file", short = 'f', required = true, value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
    /// Decode and validate here; send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file, for its owner only; one that is there is replaced
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// A file that `ursactl backup` wrote
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// A kind of resource (mesh, dataplane or dp, trafficroute or tr, …), or all
    pub(crate) kind: String,
    /// One resource; all of the kind if left out
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// A kind of resource
    #[arg(required_unless_present = "files", requires = "name")]
    pub(crate) kind: Option<String>,
    /// The resource
    pub(crate) name: Option<String>,
    /// Delete what these name; as for apply
    #[arg(long = "file", short = 'f', value_name = "PATH", conflicts_with = "kind")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Inspect {
    /// Meshes with how much is in them
    Meshes,
    /// Zones with their connection; of a global control plane
    Zones,
    /// Services with their instances by zone
    Services,
    /// Dataplanes with their proxies; of a zone's control plane
    Dataplanes,
    /// One dataplane; of its zone's control plane
    Dataplane {
        /// The dataplane
        name: String,
        /// What to show
        #[arg(long = "type", value_enum, default_value_t)]
        view: View,
        /// Show how big its proxy's configuration is, by the services that it may call, and why it has them
        #[arg(long, conflicts_with = "view")]
        why_size: bool,
    },
}

/// What to show of a dataplane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum View {
    /// What its proxy is to do
    Config,
    /// Which policies are behind that
    #[default]
    Policies,
    /// Where its destinations are
    Clusters,
    /// What is known of its proxy, and whom it let in without an identity of the mesh
    Insight,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::enum_variant_names, reason = "the commands are called so")]
pub(crate) enum Generate {
    /// For ursa-dp beside a workload: bound to a name, to services, or to both
    #[command(group = clap::ArgGroup::new("bound").required(true).multiple(true).args(["name", "services"]))]
    DataplaneToken {
        /// The only dataplane that may use it
        #[arg(long)]
        name: Option<String>,
        /// A service that the dataplane may serve; may be repeated
        #[arg(long = "service", value_name = "SERVICE")]
        services: Vec<String>,
        /// The only zone in which it counts
        #[arg(long)]
        zone: Option<String>,
        /// A tag that the dataplane proves, for its identity if the mesh declares it (Mesh spec.identityTags); may be repeated
        #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
        tags: Vec<(String, String)>,
        #[command(flatten)]
        validity: Validity,
    },
    /// For ursa-dp of a zone ingress
    IngressToken {
        /// The ingress
        #[arg(long)]
        name: String,
        #[command(flatten)]
        validity: Validity,
    },
    /// For a zone's control plane
    ZoneToken {
        /// The zone
        #[arg(long)]
        zone: String,
        #[command(flatten)]
        validity: Validity,
    },
    /// For a user of the REST API
    UserToken {
        /// The user
        #[arg(long)]
        name: String,
        /// A group of the user; may be repeated. Members of admin may do everything
        #[arg(long = "group", value_name = "GROUP", required = true)]
        groups: Vec<String>,
        #[command(flatten)]
        validity: Validity,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Revoke {
    /// One data-plane token, in every zone: its proxies' streams end and their endpoints leave at once
    #[command(group = clap::ArgGroup::new("which").required(true).args(["file", "id"]))]
    DataplaneToken {
        /// The file with the token
        #[arg(long, short = 'f', value_name = "FILE")]
        file: Option<PathBuf>,
        /// The token's id: of a proxy, `ursactl inspect dataplane NAME --type insight` shows it
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        /// Why, for people
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Every token that was issued for a zone so far: its stream to global ends at once
    Zone {
        /// The zone
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Zone {
    /// Make a zone, if there is none of the name, and give out its credential: printed as a Secret, for `kubectl apply -f -` in
    /// its cluster, or as files for a virtual machine
    Create {
        /// The zone
        name: String,
        /// For a zone of virtual machines: write the credential to this folder instead, as zone-token and global-ca.pem
        #[arg(long, value_name = "FOLDER", conflicts_with_all = ["secret", "namespace"])]
        folder: Option<PathBuf>,
        /// The Secret's name [default: zone-NAME]
        #[arg(long, value_name = "SECRET")]
        secret: Option<String>,
        /// The operator's namespace in the zone's cluster
        #[arg(long, default_value = "ursa-system", value_name = "NAMESPACE")]
        namespace: String,
        /// How long the credential is valid, such as 24h; it is read again at each connect
        #[arg(long, value_name = "DURATION", default_value = "8760h")]
        valid_for: Duration,
    },
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Validity {
    /// How long it is valid, such as 24h or 30m
    #[arg(long, value_name = "DURATION")]
    pub(crate) valid_for: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Which control planes ursactl knows, and which it works with
    #[command(subcommand)]
    ControlPlanes(ControlPlanes),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ControlPlanes {
    /// Add one, by --api, --token-file and, if the system does not trust it, --ca-file; and switch to it
    Add {
        /// A name of your choice
        name: String,
        /// Replace one of this name
        #[arg(long)]
        overwrite: bool,
    },
    /// Show all
    List,
    /// Forget one
    Remove {
        /// Its name
        name: String,
    },
    /// Work with another one
    Switch {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Install {
    /// The operator, in a namespace of its own
    Operator {
        /// Its namespace, where the ControlPlanes are that it acts on
        #[arg(long, default_value = "ursa-system", value_name = "NAMESPACE")]
        namespace: String,
        #[command(flatten)]
        images: Images,
    },
    /// A ControlPlane, which the operator sets up
    ControlPlane(ControlPlaneArgs),
    /// A ZoneIngress, which the operator sets up: where other zones reach this one
    ZoneIngress(ZoneIngressArgs),
    /// The custom resource definitions, which the operator also installs by itself
    Crds,
}

#[derive(Debug, Args)]
pub(crate) struct Images {
    /// The image of operator, control plane and webhook
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// The image of sidecars
    #[arg(long, value_name = "IMAGE")]
    pub(crate) dataplane_image: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ControlPlaneArgs {
    /// Its name
    #[arg(long, default_value = "ursa")]
    pub(crate) name: String,
    /// The operator's namespace
    #[arg(long, default_value = "ursa-system", value_name = "NAMESPACE")]
    pub(crate) namespace: String,
    /// What it is
    #[arg(long, value_enum, default_value_t)]
    pub(crate) mode: InstallMode,
    /// The zone that it is responsible for [default: default]
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<String>,
    /// How many replicas serve [default: 2]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) replicas: Option<u8>,
    /// Of a zone: where global takes zones, https://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub(crate) global_address: Option<String>,
    /// Of a zone: the Secret with the zone's token (`token`) and global's authorities (`ca.crt`)
    #[arg(long, value_name = "SECRET")]
    pub(crate) credential_secret: Option<String>,
    /// A DNS name or IP address by which zones and users outside the cluster reach it, for its certificate; may be repeated
    #[arg(long = "tls-name", value_name = "NAME")]
    pub(crate) tls_names: Vec<String>,
    /// The type of its Service [default: ClusterIP]
    #[arg(long = "type", value_enum)]
    pub(crate) service_type: Option<InstallServiceType>,
    #[command(flatten)]
    pub(crate) images: Images,
}

#[derive(Debug, Args)]
pub(crate) struct ZoneIngressArgs {
    /// Its name
    #[arg(long, default_value = "ingress")]
    pub(crate) name: String,
    /// The operator's namespace
    #[arg(long, default_value = "ursa-system", value_name = "NAMESPACE")]
    pub(crate) namespace: String,
    /// The ControlPlane of the namespace for whose zone it is
    #[arg(long, default_value = "ursa", value_name = "NAME")]
    pub(crate) control_plane: String,
    /// How many replicas serve [default: 2]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) replicas: Option<u8>,
    /// The type of its Service
    #[arg(long = "type", value_enum, default_value_t)]
    pub(crate) service_type: InstallServiceType,
    /// The port of its Service [default: 10001]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Where other zones reach it, ADDRESS:PORT, if the operator cannot find it by itself
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) advertised: Option<SocketAddr>,
}

/// The type of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum InstallServiceType {
    /// By a load balancer of the cloud
    #[default]
    LoadBalancer,
    /// At a port of every node
    NodePort,
    /// From the cluster's own network only
    ClusterIp,
}

/// What a control plane is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum InstallMode {
    /// One zone, no global
    #[default]
    Standalone,
    /// Takes what users write and sends it to the zones
    Global,
    /// One of several zones
    Zone,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Ask no control plane
    #[arg(long)]
    pub(crate) client: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// A tag as an argument says it.
fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
