//! A real API server asks the webhook: the cluster that `KUBECONFIG` names, in a namespace of the test's own.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Error};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::folder::{Certificates, settings};
use crate::other::{self, LATE};
use crate::wait::eventually;
use crate::webhook::Webhook;

struct World {
    client: Client,
    /// The namespace, and the configurations' name.
    name: String,
    /// Killed with the world.
    webhook: Webhook,
}

impl World {
    async fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::try_default().await.expect("KUBECONFIG names a cluster: see `make test`");
        let kubeconfig = std::env::var("KUBECONFIG").expect("KUBECONFIG names a cluster: see `make test`");
        let host = host(&client).await;
        let certificates = Certificates::of(&[&host.to_string()]);
        let kubeconfig = fs::read_to_string(kubeconfig).unwrap();
        let webhook =
            Webhook::start_at(&host.to_string(), &kubeconfig, &certificates, Some(&settings("ursa:1"))).await;
        webhook.ready().await;
        let name = format!("inject-{}-{}", std::process::id(), webhook.address.rsplit_once(':').unwrap().1);
        let world = Self { client, name, webhook };
        let address = world.webhook.address.clone();
        let meta = json!({"name": world.name, "labels": {"ursamesh.io/sidecar-injection": "enabled"}});
        world.create(&Api::<Namespace>::all(world.client.clone()), json!({"metadata": meta})).await;
        let mut mutating = world.configuration(&address, &certificates, "mutate-pods", "", "pods");
        // Asked after ours, as it comes later in the list; what it does has ours asked again.
        let other = other::start(host, &certificates).await.to_string();
        let mut other = world.configuration(&other, &certificates, "add", "", "pods")["webhooks"][0].take();
        other["objectSelector"] = json!({"matchLabels": {"other": "yes"}});
        mutating["webhooks"].as_array_mut().unwrap().push(other);
        world.create(&Api::<MutatingWebhookConfiguration>::all(world.client.clone()), mutating).await;
        let validating = world.configuration(&address, &certificates, "validate", "ursamesh.io", "*");
        world.create(&Api::<ValidatingWebhookConfiguration>::all(world.client.clone()), validating).await;
        world
    }

    fn configuration(
        &self,
        address: &str,
        trusted: &Certificates,
        path: &str,
        group: &str,
        of: &str,
    ) -> Value {
        let mut webhook = json!({
            "name": format!("{path}.ursamesh.io"),
            "clientConfig": {"url": format!("https://{address}/{path}"), "caBundle": ByteString(trusted.authority.clone().into())},
            "rules": [{"apiGroups": [group], "apiVersions": ["*"], "resources": [of], "operations": ["CREATE", "UPDATE"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.name}},
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 5,
        });
        if path == "mutate-pods" {
            webhook["reinvocationPolicy"] = json!("IfNeeded");
        }
        json!({"metadata": {"name": self.name}, "webhooks": [webhook]})
    }

    async fn create<K>(&self, api: &Api<K>, object: Value)
    where
        K: DeserializeOwned + serde::Serialize + Clone + std::fmt::Debug,
    {
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }

    /// As if it were created: the API server asks all webhooks, and judges what comes of it.
    async fn dry_run(&self, pod: &Value) -> Result<Value, Error> {
        let kind = GroupVersionKind::gvk("", "v1", "Pod");
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.name, &ApiResource::from_gvk(&kind));
        let mut object: DynamicObject = serde_json::from_value(pod.clone()).unwrap();
        object.metadata.namespace = None;
        let parameters = PostParams { dry_run: true, ..PostParams::default() };
        api.create(&parameters, &object).await.map(|pod| serde_json::to_value(pod).unwrap())
    }

    async fn end(self) {
        let now = DeleteParams::default();
        Api::<MutatingWebhookConfiguration>::all(self.client.clone()).delete(&self.name, &now).await.unwrap();
        Api::<ValidatingWebhookConfiguration>::all(self.client.clone())
            .delete(&self.name, &now)
            .await
            .unwrap();
        Api::<Namespace>::all(self.client.clone())
            .delete(&self.name, &DeleteParams::background())
            .await
            .unwrap();
    }
}

/// The address at which the cluster's nodes reach this machine: the one that it reaches them from.
async fn host(client: &Client) -> IpAddr {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    let addresses =
        nodes.items.iter().flat_map(|node| node.status.iter().flat_map(|it| it.addresses.iter().flatten()));
    let internal = addresses.filter(|address| address.type_ == "InternalIP").map(|address| &address.address);
    let node: IpAddr = internal.into_iter().find_map(|address| address.parse().ok()).unwrap();
    let socket = UdpSocket::bind((if node.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).unwrap();
    socket.connect((node, 53)).unwrap();
    socket.local_addr().unwrap().ip()
}

/// A golden of `core/inject`.
struct Golden {
    name: String,
    /// The pod, if only settings that this webhook has make of it what the golden says.
    input: Option<Value>,
    /// The injected pod, or the refusal.
    output: Value,
}

fn goldens() -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/inject/testdata");
    let entries = fs::read_dir(&folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".in.yaml"));
    names.sort();
    let read = |name: &str| -> Vec<Value> {
        serde_saphyr::from_multiple(&fs::read_to_string(folder.join(name)).unwrap()).unwrap()
    };
    let golden = |name: String| {
        let [case, _, input] = <[Value; 3]>::try_from(read(&name)).unwrap();
        let output = read(&name.replace(".in.yaml", ".out.yaml")).remove(0);
        Golden { input: case["settings"].is_null().then_some(input), output, name }
    };
    names.into_iter().map(golden).collect()
}

fn plain() -> Value {
    let spec = json!({"containers": [{"name": "app", "image": "app:1"}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "first"}, "spec": spec})
}

fn names(pod: &Value) -> Vec<String> {
    let containers = ["initContainers", "containers"].map(|list| pod["spec"][list].as_array().cloned());
    containers.into_iter().flatten().flatten().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_real_api_server_takes_what_thewebhook_makes() {
    let world = World::new().await;
    // A configuration takes a moment to be in force, and so does a namespace's ServiceAccount.
    let asked = async || world.dry_run(&plain()).await.ok().filter(|pod| names(pod).len() == 3);
    let first = eventually("the webhook is asked", asked).await;
    assert_eq!(names(&first), ["ursa-init", "ursa-dp", "app"]);

    let mut taken = 0;
    for Golden { name, input, output } in
        goldens().into_iter().filter(|golden| golden.output["kind"] == "Pod")
    {
        // What comes of a pod is taken as it is, too: who copies a running pod gets a running pod.
        for pod in input.iter().chain([&output]) {
            match world.dry_run(pod).await {
                Ok(made) => assert_eq!(names(&made), names(&output), "{name}"),
                Err(error) => panic!("{name}: {error}"),
            }
            taken += 1;
        }
    }
    assert!(taken > 30, "{taken} pods were taken");
    world.end().await;
}

#[tokio::test]
async fn a_container_that_another_webhook_adds_later_gets_its_probes_through_the_sidecar() {
    let world = World::new().await;
    let mut pod = plain();
    pod["metadata"]["labels"] = json!({"other": "yes"});
    let asked = async || world.dry_run(&pod).await.ok().filter(|pod| names(pod).len() == 4);
    let made = eventually("both webhooks are asked", asked).await;
    assert_eq!(names(&made), ["ursa-init", "ursa-dp", LATE, "app"]);
    let probe = &made["spec"]["containers"][0]["livenessProbe"];
    assert_eq!(probe["httpGet"], json!({"path": "/probes/late/liveness", "port": 15021, "scheme": "HTTP"}));
    assert_eq!(probe["periodSeconds"], 7);
    world.end().await;
}

#[tokio::test]
async fn a_real_api_server_says_why_thewebhook_refuses() {
    let world = World::new().await;
    let mut pod = plain();
    pod["spec"]["hostNetwork"] = json!(true);
    let denied = |error: &Error| error.to_string().contains("denied the request");
    let refused = async || world.dry_run(&pod).await.err().filter(denied).map(|error| error.to_string());
    let message = eventually("the webhook is asked", refused).await;
    assert!(message.contains("denied the request: pod first in namespace inject-"), "{message}");
    assert!(message.contains("set hostNetwork to false"), "{message}");

    let kind = GroupVersionKind::gvk("ursamesh.io", "v1alpha1", "TrafficPermission");
    let resource = ApiResource::from_gvk_with_plural(&kind, "trafficpermissions");
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.name, &resource);
    // What the schema cannot say: a value must be one that an identity can hold.
    let permission = |service: &str| {
        let spec = json!({"sources": [{"match": {"ursamesh.io/service": service}}], "destinations": [{"match": {"ursamesh.io/service": "*"}}]});
        let object = json!({"apiVersion": "ursamesh.io/v1alpha1", "kind": "TrafficPermission", "metadata": {"generateName": "p-"}, "spec": spec});
        serde_json::from_value::<DynamicObject>(object).unwrap()
    };
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    let refused = async || api.create(&parameters, &permission("a b")).await.err().filter(denied);
    let Error::Api(status) = eventually("the webhook is asked", refused).await else { panic!("no answer") };
    assert!(status.message.contains("spec.sources[0].match: the value \"a b\""), "{status:?}");
    assert_eq!(status.details.unwrap().causes[0].field, "spec.sources[0].match");
    api.create(&parameters, &permission("web")).await.unwrap();
    world.end().await;
}
