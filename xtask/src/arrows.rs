//! Which folder may depend on which: the layout in `docs/`, as data.
//!
//! Invariant: an arrow that is not here does not exist in the workspace ([`crate::deps`] checks it).

/// A permission: crates in `from` may depend on crates in `to`. A folder stands for all crates below it.
pub(crate) struct Arrow {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    /// Why the arrow is there.
    pub(crate) why: &'static str,
}

const fn arrow(from: &'static str, to: &'static str, why: &'static str) -> Arrow {
    Arrow { from, to, why }
}

/// Every arrow between the workspace's crates, from the core outwards.
pub(crate) const ARROWS: &[Arrow] = &[
    arrow("core/policy", "crds", "policies are matched as users wrote them"),
    arrow("core/policy", "core/model", "a match ends in the model of a proxy"),
    arrow("core/envoy", "core/model", "the model is what is translated"),
    arrow("core/inject", "crds", "the names of tags and the spelling of durations"),
    arrow("core/inject", "core/model", "what the name of a mesh or a service may be"),
    arrow(
        "core/inject",
        "core/redirect",
        "annotations are lists of ports and addresses as ursa-init reads them",
    ),
    arrow("webhook", "core", "patches pods, validates resources"),
    arrow("webhook", "crds", "reads resources"),
    arrow("operator", "crds", "reconciles resources and installs their definitions"),
    arrow("operator", "controlplane/lease", "one of several replicas acts"),
    arrow("operator", "core/inject", "writes the settings of sidecars"),
    arrow("operator", "core/policy", "reads what validation says"),
    arrow("controlplane", "crds", "every part handles resources"),
    arrow("controlplane", "core", "the control plane is the edge around the core"),
    arrow("controlplane/xds", "proto", "serves agents"),
    arrow("controlplane/sync", "proto", "zones and global talk gRPC"),
    arrow("controlplane/identity", "controlplane/store", "authorities and signing keys are stored"),
    arrow("controlplane/index", "controlplane/store", "follows the store's changes"),
    arrow("controlplane/index", "controlplane/identity", "trust bundles are part of a proxy's model"),
    arrow("controlplane/discovery", "controlplane/store", "pods are shown as dataplanes"),
    arrow("controlplane/discovery", "controlplane/index", "says where services are called"),
    arrow("controlplane/xds", "controlplane/listen", "accepts agents over TLS"),
    arrow("controlplane/listen", "proto", "both ends of a connection watch it in the same way"),
    arrow("controlplane/sync", "controlplane/listen", "accepts zones over TLS"),
    arrow("controlplane/xds", "controlplane/index", "subscribes to models"),
    arrow("controlplane/xds", "controlplane/identity", "authenticates agents and signs their leaves"),
    arrow("controlplane/xds", "controlplane/store", "registers the dataplanes that agents bring"),
    arrow("controlplane/api", "controlplane/store", "reads and writes resources"),
    arrow("controlplane/api", "controlplane/identity", "authenticates users and makes tokens"),
    arrow("controlplane/api", "controlplane/index", "shows what was observed"),
    arrow("controlplane/sync", "controlplane/store", "carries objects from store to store"),
    arrow("controlplane/sync", "controlplane/identity", "authenticates zones, exchanges bundles"),
    arrow("controlplane/sync", "controlplane/index", "sends up what was observed"),
    arrow("controlplane/server", "controlplane", "the binary wires the parts together"),
    arrow("controlplane/server", "proto", "the binary serves the gRPC listeners"),
    arrow("dataplane", "core/model", "names and identities"),
    arrow("dataplane", "core/envoy", "bootstrap, SDS resources and canonical bytes"),
    arrow("dataplane", "proto", "talks to the control plane"),
    arrow("dataplane/init", "core/redirect", "tells the kernel what to capture"),
    arrow("cli", "crds", "reads and prints resources"),
    arrow("cli", "core", "validates before it sends, explains as the control plane does"),
    arrow("demo", "controlplane/store", "the scenario's thief reads a stolen store"),
    arrow("demo", "controlplane/identity", "the scenario's thief has an authority of their own"),
    arrow("demo", "core/model", "names and identities"),
    arrow("xtask", "crds", "generates from the types"),
    arrow("xtask", "core/policy", "generates from the rules"),
    arrow("xtask", "operator", "generates the operator's manifests"),
    arrow("xtask", "controlplane/api", "generates the OpenAPI file"),
    arrow("fuzz", "", "a target may be any part that reads what comes from outside"),
    arrow("bench", "core/envoy", "speaks delta ADS"),
    arrow("bench", "proto", "registers dataplanes as agents do"),
    arrow("e2e", "", "a test may use every part"),
];

/// A crate from outside, or all whose names go on with `-`, that only some folders may name.
pub(crate) struct Fence {
    pub(crate) outside: &'static str,
    /// Folders that may not; the empty one stands for all.
    pub(crate) banned: &'static str,
    /// Folders that may all the same.
    pub(crate) except: &'static [&'static str],
    /// Why it is there.
    pub(crate) why: &'static str,
}

const CORE_IS_PURE: &str = "the core takes values and returns values: no runtime, no sockets, no clients";

/// Every fence around crates from outside.
pub(crate) const FENCES: &[Fence] = &[
    Fence { outside: "tokio", banned: "core", except: &[], why: CORE_IS_PURE },
    Fence { outside: "tonic", banned: "core", except: &[], why: CORE_IS_PURE },
    Fence { outside: "kube", banned: "core", except: &[], why: CORE_IS_PURE },
    Fence { outside: "reqwest", banned: "core", except: &[], why: CORE_IS_PURE },
    Fence { outside: "hyper", banned: "core", except: &[], why: CORE_IS_PURE },
    Fence {
        outside: "envoy-types",
        banned: "",
        except: &["core/envoy"],
        why: "90 000 generated lines, compiled behind core/envoy only",
    },
];
