//! Everything that is measured; `docs/performance.md` says what each means.

use crate::figures::Measure;

macro_rules! measures {
    ($($(#[$doc:meta])* $name:ident = $text:literal in $unit:literal;)*) => {
        $($(#[$doc])* pub const $name: Measure = Measure { name: $text, unit: $unit };)*
        /// All of them.
        pub const ALL: &[Measure] = &[$($name,)*];
    };
}

measures! {
    /// From the first connection to the last client's having all that it needs.
    CONNECT_ALL = "connect all" in "s";
    /// The same of each client.
    CONNECT_WAIT = "connect: wait of a client" in "ms";
    /// The slowest client's wait against the median.
    CONNECT_UNEVENNESS = "connect: slowest wait / median wait" in "";
    /// Connections that did not last until the client had all.
    CONNECT_RETRIES = "connect: connections made anew" in "";
    /// The control plane while they connected.
    CONNECT_CPU = "connect all: CPU" in "s";
    /// All connections' bytes, both ways, above TCP.
    CONNECT_WIRE = "connect all: bytes on the wire" in "B";
    /// From the request at global to the last acknowledgement of each proxy.
    POLICY = "policy change to last ACK" in "ms";
    /// The control plane for one of them.
    POLICY_CPU = "policy change: CPU" in "s";
    /// Responses to one of them.
    POLICY_BYTES = "policy change: bytes of responses" in "B";
    /// The same in the other zone.
    FAR_POLICY = "policy change to last ACK in a far zone" in "ms";
    /// Of a `TrafficRoute` that concerns those who call one service.
    ROUTE = "route change to last ACK" in "ms";
    /// The control plane for one of them.
    ROUTE_CPU = "route change: CPU" in "s";
    /// From an agent's word that its instance is ready or not to the last acknowledgement of each that calls it.
    ENDPOINT = "endpoint change to last ACK" in "ms";
    /// The control plane for one of them.
    ENDPOINT_CPU = "endpoint change: CPU" in "s";
    /// Proxies that one of them concerns.
    ENDPOINT_PROXIES = "endpoint change: proxies concerned" in "";
    /// Responses to one of them.
    ENDPOINT_BYTES = "endpoint change: bytes of responses" in "B";
    /// From an agent's word in one zone to the last acknowledgement of each that calls it in another one.
    FAR_ENDPOINT = "endpoint change to last ACK in a far zone" in "ms";
    /// Responses although nothing changed; anything but 0 fails the run.
    NO_OP_RESPONSES = "no-op: responses" in "";
    /// Updates without effect in a second.
    NO_OP_RATE = "no-op: updates a second" in "";
    /// How long the API took over one.
    NO_OP_WRITE = "no-op: PUT to answer" in "ms";
    /// Cores of the zone's control plane.
    NO_OP_CORES = "no-op: cores of the zone" in "";
    /// Cores of global.
    NO_OP_GLOBAL_CORES = "no-op: cores of global" in "";
    /// Endpoint changes in a second.
    CHURN_RATE = "churn: endpoint changes a second" in "";
    /// From a change to the acknowledgement of one that calls the instance.
    CHURN_LATENCY = "churn: change to ACK" in "ms";
    /// Cores of the zone's control plane.
    CHURN_CORES = "churn: cores of the zone" in "";
    /// Responses to one change.
    CHURN_RESPONSES = "churn: responses a change" in "";
    /// Their bytes.
    CHURN_BYTES = "churn: bytes of responses a change" in "B";
    /// From the last change to the last acknowledgement.
    CHURN_SETTLED = "churn: last change to last ACK" in "ms";
    /// From SIGTERM to the process's end.
    RESTART_STOP = "restart: stop" in "s";
    /// From its start until it is ready.
    RESTART_READY = "restart: start until ready" in "s";
    /// From its start until all are connected again.
    RECONNECT_ALL = "restart: start until all are back" in "s";
    /// From its start until a client is connected again.
    RECONNECT_WAIT = "restart: wait of a client" in "ms";
    /// The slowest of them against the median.
    RECONNECT_UNEVENNESS = "restart: slowest wait / median wait" in "";
    /// The new process until all is quiet.
    RECONNECT_CPU = "restart: CPU" in "s";
    /// All connections' bytes, both ways, above TCP.
    RECONNECT_WIRE = "restart: bytes on the wire" in "B";
    /// Resources sent to clients that lacked none; anything but 0 fails the run.
    RECONNECT_RESOURCES = "restart: resources sent" in "";
    /// A policy change while one client is as if stopped by SIGSTOP: the others' acknowledgements.
    POLICY_STOPPED = "policy change to last ACK, one client stopped" in "ms";
    /// A policy change while one client leaves its stream unread: the others' acknowledgements.
    POLICY_UNREAD = "policy change to last ACK, one client not reading" in "ms";
    /// What the control plane's memory grew by meanwhile.
    STOPPED_MEMORY = "one client stopped or not reading: memory grown by" in "KiB";
    /// From the moment the client goes on until it has acknowledged what it missed.
    CATCH_UP = "stopped client goes on until it is up to date" in "ms";
    /// From the process's start until it is ready.
    START_READY = "start until ready" in "s";
    /// What it took.
    START_CPU = "start: CPU" in "s";
    /// From then on, until a client that connects has its configuration.
    START_CLIENT = "start: ready until a first client has its configuration" in "ms";
    /// The store's file.
    STORE_BYTES = "store on disk" in "B";
    /// The most that the control plane has held.
    MEMORY_PEAK = "memory: peak" in "MiB";
    /// What it held in the end, when nothing happened any more.
    MEMORY_SETTLED = "memory: settled" in "MiB";
    /// What connecting added, a proxy.
    MEMORY_PROXY = "memory a proxy" in "KiB";
    /// CPU of global for what is measured.
    GLOBAL_CPU = "policy change: CPU of global" in "s";
}
