//! Pods on a real cluster, as their users see them. Each test has a namespace and a mesh of its own.

mod kind {
    mod ingress;
    mod injection;
    mod names;
    mod rollouts;
    mod security;
    mod system;
    mod traffic;
}
