//! `make demo-kind`: the talk's topology for a person: a global control plane and two zones on Kubernetes, and a zone of virtual
//! machines. Runs until it is told to end, and then removes all of it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::process::Command;
use ursa_demo::{guide, signals};
use ursa_e2e::talk::{TALK_ZONES, Talk};
use ursa_e2e::zones::{Global, cluster, install_zones};

const CLUSTERS: [&str; 3] = ["global", "east", "west"];

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(run()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ursa-demo-kind: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let end = signals::end(true)?;
    tokio::pin!(end);
    let mut talk = None;
    let result = tokio::select! {
        result = start(&mut talk) => result,
        reason = &mut end => Err(anyhow::anyhow!("{reason} before everything was up")),
    };
    if result.is_ok() {
        say("Ctrl-C ends it.");
        let reason = end.await;
        say(&format!("{reason}: ending"));
    }
    // The machines end with it.
    drop(talk);
    for name in CLUSTERS {
        say(&format!("removing the cluster {name}"));
        let script = kind_script("cluster");
        let removed = Command::new(&script).args(["down", name]).status().await;
        anyhow::ensure!(removed.with_context(|| script)?.success(), "cluster {name} is not removed");
    }
    say("all of it has ended; the Docker engine and its images stay until `make cluster-down`");
    result
}

async fn start(talk: &mut Option<Talk>) -> anyhow::Result<()> {
    say("making the clusters global, east and west (from nothing half an hour, later two minutes)");
    cluster("global").await?;
    say("installing Ursa: global, then the zones east and west");
    install_zones().await?;
    say("starting four virtual machines");
    let talk = talk.insert(Talk::machines().await?);
    say("starting redis and demo-app in all zones; the machines join as zone aws");
    talk.start(&Global::find().await?).await?;
    talk.serves().await?;
    say(&guide(talk).await?);
    Ok(())
}

/// What is where, and what to try.
async fn guide(talk: &Talk) -> anyhow::Result<String> {
    let mut lines = vec!["\ndemo-app, in a browser or by curl -X POST URL/increment:".to_owned()];
    for zone in TALK_ZONES {
        lines.push(format!("  {zone:<6} {}", talk.url(zone).await?));
    }
    lines.push("\nThe global control plane, from another terminal in the project's folder:".into());
    lines.push(format!("  export KUBECONFIG={}", cluster("global").await?.display()));
    lines.push(format!("  export PATH=$({} path):$PATH", kind_script("cluster")));
    lines.push("  kubectl get zones".into());
    lines.push("\nThe talk; a step is in force in all zones when `kubectl wait` returns:".into());
    for (file, what) in guide::APPLIED {
        let apply = format!("kubectl -n ursa-system apply --server-side -f demo/resources/{file}");
        lines.push(format!("  {apply:<80} # {what}"));
    }
    let wait = "kubectl -n ursa-system wait --for=condition=Programmed trafficpermission/allow-all";
    lines.push(format!("  {wait}"));
    lines.push("\nIn the zones:".into());
    for zone in ["east", "west"] {
        lines.push(format!("  kubectl --kubeconfig {} -n demo get pods", cluster(zone).await?.display()));
    }
    lines.push(format!("  {} docker exec {} journalctl -u ursa-dp\n", kind_script("vm"), talk.redis.name));
    Ok(lines.join("\n"))
}

fn kind_script(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kind").join(name).display().to_string()
}

fn say(text: &str) {
    println!("{text}");
}
