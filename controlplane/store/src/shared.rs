//! What dataplanes have in common is kept once: hundreds may call the same hundreds of services.

use std::sync::{Mutex, PoisonError};

use ursa_crds::{Object, Outbound, Spec};
use ursa_model::Shared;

/// What all dataplanes call.
#[derive(Default)]
pub(crate) struct Outbounds(Mutex<Shared<Outbound>>);

impl Outbounds {
    /// Puts into an object what others have, too.
    pub(crate) fn share(&self, object: &mut Object) {
        let Spec::Dataplane(spec) = &mut object.spec else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for outbound in &mut spec.networking.outbound {
            *outbound = known.one(outbound);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn dataplanes_share_what_they_call() {
        let dataplane = |name: &str| {
            let yaml = format!(
                "apiVersion: ursamesh.io/v1alpha1\nkind: Dataplane\nmetadata: {{name: {name}}}\nspec:\n  networking:\n    \
                 address: 10.0.0.1\n    outbound: [{{port: 80, tags: {{ursamesh.io/service: web}}}}]\n"
            );
            ursa_crds::decode(yaml.as_bytes()).unwrap()
        };
        let known = Outbounds::default();
        let called = |name: &str| {
            let mut object = dataplane(name);
            known.share(&mut object);
            assert_eq!(object, dataplane(name));
            let Spec::Dataplane(spec) = object.spec else { panic!("no dataplane") };
            spec.networking.outbound[0].clone()
        };
        assert!(Arc::ptr_eq(&called("a"), &called("b")));
    }
}
