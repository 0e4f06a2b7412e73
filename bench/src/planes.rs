//! Control planes as child processes on loopback addresses of their own, and what they cost.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);
/// For requests of the REST API.
const REQUEST: Duration = Duration::from_secs(30);

/// A control plane. Ends when dropped.
#[derive(Debug)]
pub struct Plane {
    host: Ipv4Addr,
    data: PathBuf,
    child: Child,
    client: Client,
    token: String,
}

/// Global and its zones, in a folder that is removed when this is dropped.
#[derive(Debug)]
pub struct Planes {
    /// Where resources are applied.
    pub global: Plane,
    /// The zone that is measured.
    pub near: Plane,
    /// A zone with few proxies.
    pub far: Plane,
    _folder: Folder,
}

#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Planes {
    /// Starts all three; the folder is emptied first.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let owned = Folder(folder.to_owned());
        let global =
            Plane::start(folder, "global", Ipv4Addr::new(127, 150, 0, 1), &["--mode", "global"]).await?;
        let near = Self::zone(folder, &global, "near", Ipv4Addr::new(127, 150, 1, 1)).await?;
        let far = Self::zone(folder, &global, "far", Ipv4Addr::new(127, 150, 2, 1)).await?;
        Ok(Self { global, near, far, _folder: owned })
    }

    async fn zone(folder: &Path, global: &Plane, zone: &str, host: Ipv4Addr) -> anyhow::Result<Plane> {
        let token = global.token("zone", &json!({"zone": zone, "validFor": "24h"})).await?;
        let file = folder.join(format!("{zone}.token"));
        fs::write(&file, token)?;
        let (file, ca) = (file.display().to_string(), global.ca_file().display().to_string());
        let address = format!("https://{}", global.at(5685));
        let args = [
            ["--mode", "zone"],
            ["--zone", zone],
            ["--global-address", &address],
            ["--global-ca-file", &ca],
            ["--zone-token-file", &file],
        ];
        Plane::start(folder, zone, host, &args.concat()).await
    }
}

impl Plane {
    async fn start(folder: &Path, name: &str, host: Ipv4Addr, args: &[&str]) -> anyhow::Result<Self> {
        let data = folder.join(name);
        let this = std::env::current_exe().context("cannot tell where this program lies")?;
        let beside = this.parent().context("a program lies in a folder")?;
        // A test lies one folder deeper.
        let beside = if beside.ends_with("deps") { beside.parent().unwrap_or(beside) } else { beside };
        let program = beside.join("ursa-cp");
        ensure!(program.is_file(), "{} is missing: run `make bench`", program.display());
        let log = fs::File::create(folder.join(format!("{name}.log")))?;
        let mut command = Command::new(program);
        command.arg("run").args(args).arg("--data-dir").arg(&data).args(["--log", "warn"]);
        for (flag, port) in [
            ("--api-http", 5681),
            ("--api-https", 5682),
            ("--agent-address", 5678),
            ("--diagnostics-address", 5680),
            ("--sync-address", 5685),
        ] {
            command.args([flag, &SocketAddr::new(host.into(), port).to_string()]);
        }
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.with_context(|| format!("cannot start control plane {name}"))?;
        let client = Client::builder().no_proxy().timeout(REQUEST).build()?;
        let mut plane = Self { host, data, child, client, token: String::new() };
        plane.ready().await.with_context(|| format!("control plane {name} does not start"))?;
        Ok(plane)
    }

    /// Waits until it answers, with the mesh `default`.
    async fn ready(&mut self) -> anyhow::Result<()> {
        let from = Instant::now();
        loop {
            ensure!(self.child.try_wait()?.is_none(), "it has ended");
            if let Ok(token) = fs::read_to_string(self.data.join("admin-token")) {
                token.trim().clone_into(&mut self.token);
                match self.send(Method::GET, "/meshes/default", None).await {
                    Ok((StatusCode::OK, _)) => return Ok(()),
                    Ok((status, _)) if from.elapsed() > START => anyhow::bail!("it answers {status}"),
                    Err(error) if from.elapsed() > START => return Err(error),
                    _ => {}
                }
            }
            ensure!(from.elapsed() < START, "it writes no admin token");
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host.into(), port)
    }

    /// Where agents connect.
    pub fn agents(&self) -> String {
        format!("https://{}", self.at(5678))
    }

    /// By what agents trust it.
    pub fn ca_file(&self) -> PathBuf {
        self.data.join("tls/ca.pem")
    }

    /// Sends a request of the REST API; status and body.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let url = format!("http://{}{path}", self.at(5681));
        let mut request = self.client.request(method, &url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status();
        Ok((status, serde_json::from_slice(&response.bytes().await?).unwrap_or(Value::Null)))
    }

    /// Stores a resource.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let (status, answer) = self.send(Method::PUT, path, Some(body)).await?;
        ensure!(status.is_success(), "PUT {path}: {status}: {answer}");
        Ok(())
    }

    /// Makes a token.
    pub async fn token(&self, kind: &str, request: &Value) -> anyhow::Result<String> {
        let (status, answer) = self.send(Method::POST, &format!("/tokens/{kind}"), Some(request)).await?;
        ensure!(status.is_success(), "a {kind} token: {status}: {answer}");
        answer["token"].as_str().map(str::to_owned).context("the answer has no token")
    }

    /// CPU time that it has used so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // proc(5): after the name in brackets, utime and stime are the 12th and 13th.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        let second = sysconf(SysconfVar::CLK_TCK)?.and_then(|t| u64::try_from(t).ok()).unwrap_or(100);
        Ok(Duration::from_millis((ticks(11) + ticks(12)) * 1000 / second))
    }

    /// Memory that it holds, in KiB.
    pub fn memory_kib(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|text| text.parse().ok());
        kib.context("the kernel does not tell its memory")
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let from = Instant::now();
        while from.elapsed() < STOP {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
