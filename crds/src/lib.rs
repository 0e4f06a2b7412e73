//! Every resource of Ursa as a Rust type, one file a kind, and the one list of kinds ([`KINDS`]).
//!
//! A resource has one form everywhere, the Kubernetes one: `apiVersion, kind, metadata, spec, status`.
//! `kubectl`, `ursactl` and the REST API take the same files. The schemas of the custom resource definitions
//! beside this crate's `src/` are generated from these types (`make generate`).
//!
//! Invariant: what is read from outside passes [`decode`] once; past it a [`Spec`] has no unknown field.

mod common;
mod control_plane;
mod dataplane;
mod dataplane_insight;
mod decode;
mod definitions;
mod duration;
mod kinds;
mod mesh;
mod mesh_zone;
mod mesh_zone_insight;
mod object;
mod revoked_token;
pub mod schema;
mod secret;
mod status;
mod structural;
mod traffic_permission;
mod traffic_route;
mod zone;
mod zone_ingress;
mod zone_insight;

pub use common::{DEFAULT_MESH, Selector, Tags, tag};
pub use control_plane::{
    Amount, CONNECTED_TO_GLOBAL, CONNECTION_MANAGER, CertIssuer, ControlPlane, ControlPlaneMode,
    ControlPlaneSpec, ControlPlaneStatus, DEFAULT_ZONE, FailurePolicy, IssuerRef, LocalRef, LogLevel,
    PullPolicy, Resources, ServiceSpec, ServiceType, SidecarRunMode, SidecarSpec, StoreSpec, StoreType,
    TlsSpec, WebhookSpec, ZoneMembership, authority_secret, tls_secret,
};
pub use dataplane::{
    Capture, Dataplane, DataplaneSpec, HttpProbe, Inbound, Networking, Outbound, Pod, Probe, Protocol,
    TcpProbe,
};
pub use dataplane_insight::{
    DataplaneInsight, DataplaneInsightSpec, MAX_UNAUTHENTICATED_PEERS, ObservedCertificate, ObservedInbound,
    ObservedRejection, PeerTransport, UnauthenticatedPeer,
};
pub use decode::{DecodeError, Known, Problem, decode, decode_known, decode_value, parse_documents};
pub use definitions::{Definition, OPERATOR_KINDS, OperatorKind, definitions};
pub use duration::Duration;
pub use kinds::{KINDS, Kind, KindInfo, Owner, Scope, Spec};
pub use mesh::{
    CaBackend, CaType, DpCert, GrantedService, IdentityTag, Members, Mesh, MeshNetworking, MeshOutbound,
    MeshSpec, Mtls, MtlsMode, ProvidedConf, Rotation, Routing, SecretRef,
};
pub use mesh_zone::{AvailableService, MeshZone, MeshZoneSpec, WorkloadIdentity, ZoneBackend};
pub use mesh_zone_insight::{Enforcement, MAX_LAGGARDS, MeshZoneInsight, MeshZoneInsightSpec, Refusal};
pub use object::{Meta, Object, ObjectKey};
pub use revoked_token::RevokedToken;
pub use secret::{Secret, SecretSpec, SecretValue};
pub use status::{PolicyStatus, Status, ZoneProgress};
pub use structural::NotStructural;
pub use traffic_permission::{Action, TrafficPermission, TrafficPermissionSpec};
pub use traffic_route::{
    LoadBalancer, LoadBalancerType, RouteConf, TrafficRoute, TrafficRouteSpec, WeightedDestination,
};
pub use zone::{Zone, ZoneSpec};
pub use zone_ingress::{
    INGRESS_PORT, IngressServiceSpec, SocketSpec, ZoneIngress, ZoneIngressSpec, ZoneIngressStatus,
    ingress_account, ingress_of_account,
};
pub use zone_insight::{ZoneInsight, ZoneInsightSpec};

/// The API group of every resource.
pub const GROUP: &str = "ursamesh.io";
/// The version of the API group that is served and stored.
pub const VERSION: &str = "v1alpha1";
/// `GROUP/VERSION`, as `apiVersion` says it.
pub const API_VERSION: &str = "ursamesh.io/v1alpha1";
