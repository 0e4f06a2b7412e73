//! A control plane as a child process, and what it costs.

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

use crate::dial::Dialer;
use crate::objects::mesh_path;
use crate::plan::MESH;

const START: Duration = Duration::from_mins(2);
const STOP: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);
/// For requests of the REST API.
const REQUEST: Duration = Duration::from_secs(30);

/// A control plane. Ends when dropped.
#[derive(Debug)]
pub struct Plane {
    name: String,
    host: Ipv4Addr,
    folder: PathBuf,
    args: Vec<String>,
    child: Child,
    client: Client,
    token: String,
}

impl Plane {
    /// Starts one whose data lies in a folder of this name; returns when it answers.
    pub async fn start(folder: &Path, name: &str, host: Ipv4Addr, args: &[&str]) -> anyhow::Result<Self> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut plane = Self {
            name: name.to_owned(),
            host,
            folder: folder.to_owned(),
            child: spawn(folder, name, host, &args)?,
            args,
            client: Client::builder().no_proxy().timeout(REQUEST).build()?,
            token: String::new(),
        };
        plane.ready().await?;
        Ok(plane)
    }

    /// Ends it as an upgrade does, and waits until it is gone.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let from = Instant::now();
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        while self.child.try_wait()?.is_none() {
            ensure!(from.elapsed() < STOP, "control plane {} does not stop within {STOP:?}", self.name);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Starts it again over its data, after [`Self::stop`]; returns when it answers.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.folder, &self.name, self.host, &self.args)?;
        self.ready().await
    }

    /// Waits until it is ready and has the mesh `default`.
    async fn ready(&mut self) -> anyhow::Result<()> {
        let from = Instant::now();
        let mut what = "it writes no admin token".to_owned();
        loop {
            ensure!(
                self.child.try_wait()?.is_none(),
                "control plane {} has ended: {}",
                self.name,
                self.log()
            );
            if let Ok(token) = fs::read_to_string(self.data().join("admin-token")) {
                token.trim().clone_into(&mut self.token);
                what = match self.is_ready().await {
                    Ok(()) => return Ok(()),
                    Err(error) => format!("{error:#}"),
                };
            }
            ensure!(
                from.elapsed() < START,
                "control plane {} is not ready after {START:?}: {what}; {}",
                self.name,
                self.log()
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn is_ready(&self) -> anyhow::Result<()> {
        let status = self.client.get(format!("http://{}/readyz", self.at(5680))).send().await?.status();
        ensure!(status.is_success(), "/readyz says {status}");
        self.has(&mesh_path(MESH)).await
    }

    /// Fails unless it has this object.
    pub async fn has(&self, path: &str) -> anyhow::Result<()> {
        let (status, answer) = self.send(Method::GET, path, None).await?;
        ensure!(status.is_success(), "GET {path}: {status}: {answer}");
        Ok(())
    }

    /// Waits until it has this object.
    pub async fn gets(&self, path: &str) -> anyhow::Result<()> {
        let from = Instant::now();
        while let Err(error) = self.has(path).await {
            ensure!(from.elapsed() < START, "control plane {} gets no {path}: {error:#}", self.name);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.join(format!("{}.log", self.name))).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        if last.is_empty() {
            "its log is empty".into()
        } else {
            format!("its log ends: {}", last.join(" | "))
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host.into(), port)
    }

    /// Where zones connect.
    pub fn zones(&self) -> String {
        format!("https://{}", self.at(5685))
    }

    /// By what others trust it.
    pub fn ca_file(&self) -> PathBuf {
        self.data().join("tls/ca.pem")
    }

    /// How agents reach it.
    pub fn dialer(&self) -> anyhow::Result<Dialer> {
        Dialer::new(self.at(5678), &self.ca_file())
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

    /// Makes a zone's token, into a file.
    pub async fn zone_token(&self, zone: &str) -> anyhow::Result<PathBuf> {
        let token = self.token("zone", &json!({"zone": zone, "validFor": "24h"})).await?;
        let file = self.folder.join(format!("{zone}.token"));
        fs::write(&file, token).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
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
        self.status_kib("VmRSS:")
    }

    /// The most memory that it has held, in KiB.
    pub fn peak_kib(&self) -> anyhow::Result<u64> {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, field: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|text| text.parse().ok());
        kib.context("the kernel does not tell its memory")
    }

    /// Size of its store's file in bytes.
    pub fn store_bytes(&self) -> anyhow::Result<u64> {
        let files = fs::read_dir(self.data())?.collect::<Result<Vec<_>, _>>()?;
        let sizes = files.iter().map(fs::DirEntry::metadata).collect::<Result<Vec<_>, _>>()?;
        Ok(sizes.iter().filter(|file| file.is_file()).map(fs::Metadata::len).sum())
    }
}

fn spawn(folder: &Path, name: &str, host: Ipv4Addr, args: &[String]) -> anyhow::Result<Child> {
    let this = std::env::current_exe().context("cannot tell where this program lies")?;
    let beside = this.parent().context("a program lies in a folder")?;
    // A test lies one folder deeper.
    let beside = if beside.ends_with("deps") { beside.parent().unwrap_or(beside) } else { beside };
    let program = beside.join("ursa-cp");
    ensure!(program.is_file(), "{} is missing: run `make bench`", program.display());
    let log = fs::File::options().create(true).append(true).open(folder.join(format!("{name}.log")))?;
    let mut command = Command::new(program);
    command.arg("run").args(args).arg("--data-dir").arg(folder.join(name)).args(["--log", "warn"]);
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
    child.with_context(|| format!("cannot start control plane {name}"))
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
