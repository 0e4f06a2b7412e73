//! Whether the API server asks the webhook about what users write, and hears its answer.
//!
//! A Pod that is ready is not reached everywhere at once: each node learns by itself where a Service leads, and the API
//! server where its webhooks are. Until then what users write is refused, or taken unseen.

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams};
use kube::{Client, Error};
use ursa_crds::Kind;

use super::plan::VALIDATION;

/// A mesh's name is a DNS label: the schema takes this one, and the webhook does not.
const PROBE: &str = "is-the-webhook.asked";

/// How the API server stands to the webhook.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It has its answers.
    Answered,
    /// Not yet, for this reason.
    NotYet(String),
}

/// Tries to write what the webhook refuses, by a dry run. Of several API servers one answers, which stands for all.
pub(super) async fn of(client: &Client) -> Result<Reach, Error> {
    let kind = Kind::Mesh.info();
    let gvk = GroupVersionKind::gvk(ursa_crds::GROUP, ursa_crds::VERSION, kind.name);
    let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural);
    let meshes = Api::<DynamicObject>::all_with(client.clone(), &resource);
    let mut probe = DynamicObject::new(PROBE, &resource);
    probe.data = serde_json::json!({"spec": {}});
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    judged(meshes.create(&parameters, &probe).await.map(drop))
}

fn judged(written: Result<(), Error>) -> Result<Reach, Error> {
    match written {
        Ok(()) => Ok(Reach::NotYet("it does not ask it yet".into())),
        Err(Error::Api(status)) if status.message.contains("failed calling webhook") => {
            Ok(Reach::NotYet(status.message))
        }
        Err(Error::Api(status)) => {
            if !status.message.contains(VALIDATION) {
                tracing::warn!(
                    answer = status.message,
                    "someone else refuses a mesh by the name of {PROBE}: whether the webhook is asked is not known"
                );
            }
            Ok(Reach::Answered)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(message: &str) -> Result<Reach, Error> {
        judged(Err(Error::Api(Status::failure(message, "").boxed())))
    }

    #[test]
    fn only_a_refusal_proves_that_the_webhook_is_asked() {
        assert!(matches!(judged(Ok(())), Ok(Reach::NotYet(_))));
        let lost = "Internal error occurred: failed calling webhook \"validation.ursamesh.io\": failed to call webhook: \
                    Post \"https://ursa-webhook.ursa-system.svc:443/validate?timeout=5s\": dial tcp 10.96.1.2:443: \
                    connect: connection refused";
        assert_eq!(refused(lost).unwrap(), Reach::NotYet(lost.into()));
        let denied =
            "admission webhook \"validation.ursamesh.io\" denied the request: Mesh is-the-webhook.asked: …";
        assert_eq!(refused(denied).unwrap(), Reach::Answered);
    }
}
