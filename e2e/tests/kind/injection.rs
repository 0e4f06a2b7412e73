//! What gets a sidecar, what does not, and that each kind of workload lives with it.

use serde_json::Value;
use ursa_e2e::kind::{Kind, SOON, apply, condition, deployment, image, json, kubectl, with};
use ursa_e2e::{eventually, rounds};

/// A pod of the tests' program; further fields of the pod, its metadata and its container in flow style.
fn pod(name: &str, metadata: &str, spec: &str, container: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, {metadata}}}, spec: {{{spec} containers: [{{name: app, image: IMAGE, command: [/usr/local/bin/ursa-e2e-app, serve], {container}}}]}}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_with_the_reason() -> anyhow::Result<()> {
    with("refused", async |kind| {
        let annotation = |text: &str| pod("p", &format!("annotations: {{{text}}}"), "", "");
        let cases = [
            (pod("p", "", "hostNetwork: true,", ""), "hostNetwork"),
            (pod("p", "", "", "securityContext: {runAsUser: 5678}"), "5678"),
            (pod("p", "", "securityContext: {runAsUser: 5678},", ""), "5678"),
            (annotation("ursamesh.io/no-such-thing: x"), "ursamesh.io/no-such-thing"),
            (annotation("ursamesh.io/exclude-outbound-ports: eighty"), "ursamesh.io/exclude-outbound-ports"),
            (annotation("ursamesh.io/tags: nothing"), "ursamesh.io/tags"),
            (annotation("ursamesh.io/sidecar-mode: Sideways"), "ursamesh.io/sidecar-mode"),
        ];
        for (yaml, word) in cases {
            // A dry run asks the webhook and makes nothing.
            let file = tempfile::NamedTempFile::new()?;
            std::fs::write(file.path(), yaml.replace("IMAGE", &image("ursa-e2e-app")?))?;
            let path = file.path().display().to_string();
            let refusal = kind.kubectl(&["create", "--dry-run=server", "--filename", &path]).await;
            let said = refusal.err().map(|error| error.to_string()).unwrap_or_default();
            anyhow::ensure!(said.contains(word), "{word}: not refused with the reason: {said:?}");
            println!("{}", said.lines().last().unwrap_or_default());
        }
        let pods = kind.kubectl(&["get", "pods", "--output", "name"]).await?;
        anyhow::ensure!(pods.is_empty(), "a dry run made {pods}");
        Ok(())
    })
    .await
}

/// How many containers of ours a pod has.
async fn sidecars(kind: &Kind, app: &str) -> anyhow::Result<usize> {
    let pods = json(&["--namespace", &kind.name, "get", "pods", "--selector", &format!("app={app}")]).await?;
    let spec = &pods["items"][0]["spec"];
    let all =
        [&spec["initContainers"], &spec["containers"]].into_iter().filter_map(Value::as_array).flatten();
    Ok(all
        .filter(|container| container["name"].as_str().is_some_and(|name| name.starts_with("ursa-")))
        .count())
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_pods_win_over_their_namespaces() -> anyhow::Result<()> {
    with("labels", async |kind| {
        tokio::try_join!(kind.client("plain"), kind.stranger("out"))?;
        anyhow::ensure!((sidecars(kind, "plain").await?, sidecars(kind, "out").await?) == (2, 0));
        kubectl(&["label", "namespace", &kind.name, "ursamesh.io/sidecar-injection-"]).await?;
        eventually("a namespace without the label", SOON, async || {
            kind.apply(&deployment("later", &["serve"], "", "")).await?;
            kind.ready("later").await?;
            let count = sidecars(kind, "later").await?;
            if count > 0 {
                kind.kubectl(&["delete", "deployment", "later"]).await?;
            }
            anyhow::ensure!(count == 0, "{count} containers of ours");
            Ok(())
        })
        .await?;
        kind.apply(&deployment("in", &["serve"], "ursamesh.io/sidecar-injection: enabled", "")).await?;
        kind.ready("in").await?;
        anyhow::ensure!(sidecars(kind, "in").await? == 2);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_forbids_net_admin_says_what_to_do() -> anyhow::Result<()> {
    with("psa", async |kind| {
        let enforce = "pod-security.kubernetes.io/enforce=restricted";
        kubectl(&["label", "namespace", &kind.name, enforce]).await?;
        kind.apply(&deployment("web", &["serve"], "", "")).await?;
        eventually("the refusal is an event", SOON, async || {
            let events = kind.kubectl(&["get", "events", "--output", "jsonpath={.items[*].message}"]).await?;
            anyhow::ensure!(
                events.contains("NET_ADMIN") && events.contains("pod-security.kubernetes.io/enforce"),
                "{events}"
            );
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_workload_lives_with_a_sidecar() -> anyhow::Result<()> {
    with("kinds", async |kind| {
        tokio::try_join!(kind.server("web"), kind.client("client"))?;
        kind.mtls("Strict").await?;
        kind.permit("all", "*", "*").await?;
        kind.answered("client", "http://web/").await?;
        let job = |name: &str, command: &str, init: &str| {
            format!(
                "{{apiVersion: batch/v1, kind: Job, metadata: {{name: {name}}}, spec: {{backoffLimit: 0, template: {{spec: {{restartPolicy: Never, {init} containers: [{{name: app, image: IMAGE, command: [/usr/local/bin/ursa-e2e-app, {command}]}}]}}}}}}}}\n"
            )
        };
        // An init container calls through the mesh, too.
        let init = "initContainers: [{name: first, image: IMAGE, command: [/usr/local/bin/ursa-e2e-app, call, 'http://web/']}],";
        let cron = "{apiVersion: batch/v1, kind: CronJob, metadata: {name: cron}, spec: {schedule: '0 0 1 1 *', jobTemplate: {spec: {backoffLimit: 0, template: {spec: {restartPolicy: Never, containers: [{name: app, image: IMAGE, command: [/usr/local/bin/ursa-e2e-app, call, 'http://web/']}]}}}}}}\n";
        let stateful = "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {serviceName: db, replicas: 2, podManagementPolicy: Parallel, selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: app, image: IMAGE, command: [/usr/local/bin/ursa-e2e-app, serve, --name, db, --http, '8080']}]}}}}\n---\n{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {clusterIP: None, selector: {app: db}, ports: [{name: http, port: 8080, appProtocol: http}]}}\n";
        let documents = [
            job("good", "call, 'http://web/'", init),
            job("bad", "sleep, '0', '7'", ""),
            cron.to_owned(),
            stateful.to_owned(),
        ];
        kind.apply(&documents.join("---\n")).await?;
        kind.kubectl(&["create", "job", "from-cron", "--from", "cronjob/cron"]).await?;
        for name in ["good", "from-cron"] {
            kind.kubectl(&["wait", &format!("job/{name}"), "--for=condition=Complete", "--timeout=60s"]).await?;
        }
        kind.kubectl(&["wait", "job/bad", "--for=condition=Failed", "--timeout=60s"]).await?;
        let pods = json(&["--namespace", &kind.name, "get", "pods", "--selector", "job-name=bad"]).await?;
        let code = &pods["items"][0]["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"];
        anyhow::ensure!(*code == 7, "the exit code is {code}");
        kind.kubectl(&["rollout", "status", "statefulset/db", "--timeout", "60s"]).await?;
        for host in ["db-0.db", "db-1.db", "db"] {
            let answer = kind.answered("client", &format!("http://{host}:8080/")).await?;
            anyhow::ensure!(answer["caller"].as_str().is_some_and(|caller| caller.contains("/service/client.")), "{answer}");
        }
        kind.answered("client", &format!("http://{}.mesh:8080/", kind.service("db"))).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_calls_at_its_first_instruction_is_answered() -> anyhow::Result<()> {
    with("first", async |kind| {
        kind.server("web").await?;
        kind.mtls("Strict").await?;
        kind.permit("all", "*", "web").await?;
        let arguments = ["serve", "--http", "8080", "--first", "http://web/"];
        let several = deployment("eager", &arguments, "", "").replace("replicas: 1", "replicas: 8");
        kind.apply(&several).await?;
        for round in 0..rounds(1, 20) {
            if round > 0 {
                kind.kubectl(&["rollout", "restart", "deployment/eager"]).await?;
            }
            kind.ready("eager").await?;
            let pods = json(&["--namespace", &kind.name, "get", "pods", "--selector", "app=eager"]).await?;
            for pod in pods["items"].as_array().into_iter().flatten() {
                let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
                anyhow::ensure!(*restarts == 0, "{} was refused {restarts} times", pod["metadata"]["name"]);
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_misses_its_sidecar_is_told_so() -> anyhow::Result<()> {
    with("missing", async |kind| {
        let unlabel = ["label", "namespace", &kind.name, "ursamesh.io/sidecar-injection-"];
        kubectl(&unlabel).await?;
        apply(
            &pod("early", &format!("namespace: {}", kind.name), "", "")
                .replace("IMAGE", &image("ursa-e2e-app")?),
        )
        .await?;
        kubectl(&["label", "namespace", &kind.name, "ursamesh.io/sidecar-injection=enabled"]).await?;
        eventually("the pod has a condition and an event", SOON, async || {
            let pod = json(&["--namespace", &kind.name, "get", "pod", "early"]).await?;
            let found = condition(&pod, "ursamesh.io/InjectionMissing");
            anyhow::ensure!(found.as_deref() == Some("True"), "{}", pod["status"]["conditions"]);
            let events = kind.kubectl(&["get", "events", "--output", "jsonpath={.items[*].reason}"]).await?;
            anyhow::ensure!(events.contains("InjectionMissing"), "{events}");
            Ok(())
        })
        .await
    })
    .await
}
