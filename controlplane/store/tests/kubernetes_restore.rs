//! A store on a real API server that is made the same as another one; see `kubernetes.rs`.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Config};
use serde_json::json;
use ursa_crds::{Kind, Object, ObjectKey, decode};
use ursa_store::names::TOKEN_SIGNING_KEY;
use ursa_store::{KubernetesConfig, Snapshot, Store, StoreError};

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

async fn client() -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = Config::infer().await.expect("KUBECONFIG names a cluster: see `make test`");
    // Ursa's webhook may be installed there; it does not judge the cluster's own parts.
    config.auth_info.impersonate = Some("ursa-store-test".into());
    let groups = ["system:masters", "system:serviceaccounts:kube-system"];
    config.auth_info.impersonate_groups = Some(groups.map(str::to_owned).to_vec());
    Client::try_from(config).unwrap()
}

async fn namespace(client: &Client) -> String {
    let name = format!("restore-{}", &uuid::Uuid::new_v4().to_string()[..8]);
    let object = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
    name
}

async fn open(namespace: &str) -> Store {
    let config = KubernetesConfig {
        namespace: namespace.into(),
        schema: ursa_crds::schema::CURRENT,
        control_plane: Some("ursa".into()),
    };
    Store::kubernetes(config).await.unwrap()
}

fn object(yaml: &str) -> Object {
    decode(format!("apiVersion: ursamesh.io/v1alpha1\n{yaml}").as_bytes()).unwrap()
}

fn policy(name: &str) -> Object {
    let any = "[{match: {ursamesh.io/service: '*'}}]";
    object(&format!(
        "kind: TrafficPermission\nmetadata: {{name: {name}}}\nspec: {{sources: {any}, destinations: {any}}}\n"
    ))
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::in_mesh(Kind::TrafficPermission, "default", name)
}

/// Waits until a replica sees it so.
async fn until(store: &Store, what: &str, condition: impl Fn(&Store) -> bool) {
    let (_, mut changes) = store.watch();
    let wait = async {
        while !condition(store) {
            changes.next().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| unreachable!("never {what}"));
}

/// The authority of this name, as the operator keeps it, and a certificate of it.
fn authority(name: &str) -> BTreeMap<String, ByteString> {
    ["tls.crt", "tls.key", "ca.crt"]
        .map(|key| (key.to_owned(), ByteString(format!("{name}\n").into())))
        .into()
}

async fn write_secret(client: &Client, namespace: &str, name: &str, data: BTreeMap<String, ByteString>) {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/tls", "data": data,
    });
    api.patch(name, &PatchParams::apply("ursa-operator").force(), &Patch::Apply(secret)).await.unwrap();
}

/// Signs what the authority's Secret says, as the operator does.
async fn sign(client: &Client, namespace: &str) {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    loop {
        let data = api.get("ursa-ca").await.unwrap().data.unwrap();
        write_secret(client, namespace, "ursa-cp-tls", data).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_restored_is_as_old_as_before_and_zones_are_the_former_ones() {
    let client = client().await;
    let (first, second) = (namespace(&client).await, namespace(&client).await);
    let zone = first.clone();
    let before = open(&first).await;
    write_secret(&client, &first, "ursa-ca", authority("former")).await;
    before.put(object(&format!("kind: Zone\nmetadata: {{name: {zone}}}\n")), None).await.unwrap();
    before.put(policy("b"), None).await.unwrap();
    before.put(object("kind: Secret\nmetadata: {name: corp}\nspec: {value: hush}\n"), None).await.unwrap();
    before.put_copy(object(&format!("kind: ZoneIngress\nmetadata: {{name: {zone}.in, uid: u}}\nspec: {{zone: {zone}, networking: {{address: 10.0.0.9}}}}\n"))).await.unwrap();
    before.private_put(TOKEN_SIGNING_KEY, b"the former".to_vec()).await.unwrap();
    let Snapshot { mut objects, private, authority: own } = before.snapshot().await.unwrap();
    // Others use the cluster, too.
    objects.retain(|object| {
        object.meta.name.starts_with(&zone) || ["b", "corp"].contains(&object.meta.name.as_str())
    });
    objects.retain(|object| before.get(&object.key()).is_some());
    assert_eq!(objects.len(), 4, "{objects:?}");
    assert_eq!(own["tls.key"], "former\n");
    // In another cluster it would be this.
    for object in &mut objects {
        let age = jiff::SignedDuration::from_hours(24);
        object.meta.created = object.meta.created.map(|created| created - age);
    }
    let snapshot = Snapshot { objects: objects.clone(), private, authority: own };
    before.delete(&ObjectKey::zone(&zone), None).await.unwrap();
    until(&before, "deleted", |store| store.get(&ObjectKey::zone(&zone)).is_none()).await;

    let (store, replica) = (open(&second).await, open(&second).await);
    write_secret(&client, &second, "ursa-ca", authority("new")).await;
    let mut elsewhere = snapshot.clone();
    let mut foreign = policy("foreign");
    foreign.meta.namespace = format!("{second}-x");
    elsewhere.objects.push(foreign);
    let refused = store.restore(elsewhere, Vec::new(), BTreeMap::new()).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Refused(why) if why.contains("make the namespace first")),
        "{refused}"
    );
    assert!(store.get(&ObjectKey::zone(&zone)).is_none(), "what cannot be restored whole changes nothing");

    store.put(policy("unwanted"), None).await.unwrap();
    let operator = tokio::spawn({
        let (client, second) = (client.clone(), second.clone());
        async move { sign(&client, &second).await }
    });
    for _ in 0..2 {
        let further = BTreeMap::from([("sync/adopted".to_owned(), "yes".to_owned())]);
        store.restore(snapshot.clone(), vec![key("unwanted")], further).await.unwrap();
    }
    operator.abort();
    assert!(store.get(&key("unwanted")).is_none());
    until(&replica, "restored", |replica| {
        replica.private(TOKEN_SIGNING_KEY).as_deref() == Some(b"the former")
    })
    .await;
    let late = open(&second).await;
    for store in [&store, &replica, &late] {
        for former in &objects {
            until(store, "as old as before", |store| {
                store.get(&former.key()).is_some_and(|object| object.meta.created == former.meta.created)
            })
            .await;
            let object = store.get(&former.key()).unwrap();
            assert_eq!(object.spec, former.spec);
            let is_kept = matches!(object.kind(), Kind::Zone | Kind::ZoneIngress);
            assert_eq!(object.meta.uid == former.meta.uid, is_kept, "{}", former.key());
        }
        assert_eq!(store.private("sync/adopted").as_deref(), Some(b"yes".as_slice()));
    }
    assert_ne!(store.epoch(), before.epoch());
    let api = Api::<Secret>::namespaced(client.clone(), &second);
    let data = api.get("ursa-ca").await.unwrap().data.unwrap();
    assert_eq!(data["tls.key"].0, b"former\n");
    assert_eq!(data["ca.crt"].0, b"former\nnew\n", "what is shown until then is known");

    // With a Zone its former UID ends.
    let named = ObjectKey::zone(&zone);
    store.delete(&named, None).await.unwrap();
    let again = store.put(object(&format!("kind: Zone\nmetadata: {{name: {zone}}}\n")), None).await.unwrap();
    let former = objects.iter().find(|object| object.kind() == Kind::Zone).unwrap();
    assert_ne!(again.object.meta.uid, former.meta.uid);
    until(&replica, "another zone", |replica| {
        replica.get(&named).is_some_and(|zone| zone.meta.uid == again.object.meta.uid)
    })
    .await;
    store.delete(&named, None).await.unwrap();
    for namespace in [first, second] {
        let all = Api::<Namespace>::all(client.clone());
        all.delete(&namespace, &DeleteParams::background()).await.unwrap();
    }
}
