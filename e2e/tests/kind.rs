//! Pods on a real cluster, as their users see them. Each test has a namespace and a mesh of its own.

mod kind {
    mod figures;
    mod grants;
    mod ingress;
    mod injection;
    mod names;
    mod replicas;
    mod resources;
    mod rollouts;
    mod security;
    mod sidecars;
    mod system;
    mod traffic;
    mod wire;
}
