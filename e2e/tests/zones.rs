//! A global control plane and its zones: two clusters, and virtual machines; steered by kubectl at global.

mod zones {
    mod across;
    mod backup;
    mod faults;
    mod follow;
    mod ingresses;
    mod machines;
    mod rejected;
    mod rotation;
    mod talk;
    mod truth;
    mod upgrade;
    mod world;
}
