//! Hosts with a network of the test's own, as virtual machines are: each a network namespace with a link to the first, which
//! joins them, and with files of its own at `/mnt`. Needs root.
//!
//! Invariant: a host lives as long as a process that ends when its input does, so none outlives the test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use serde_json::Value;

use crate::{Process, binary, envoy};

/// The users that a workload and its proxy run as.
const WORKLOAD: u32 = 1000;
const PROXY: u32 = 5678;
/// The first host's addresses; the others' last part is their number.
const PREFIXES: [&str; 2] = ["10.89.0.", "fd89::"];

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Version 4.
    V4,
    /// Version 6.
    V6,
}

/// A host.
#[derive(Debug)]
pub struct Host {
    holder: Child,
    number: u8,
    logs: PathBuf,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Host {
    /// The first host: the others are linked to it.
    pub fn first(logs: &Path) -> anyhow::Result<Self> {
        let host = Self::alone(1, logs)?;
        host.shell("ip link add eth0 type bridge forward_delay 0")?;
        host.give_addresses()?;
        Ok(host)
    }

    /// Another host, of this number. Its resolver is the first host, where none is: whoever gets an answer got it on the way.
    pub fn beside(first: &Self, number: u8, family: Family) -> anyhow::Result<Self> {
        let host = Self::alone(number, &first.logs)?;
        let pid = host.holder.id();
        first.shell(&format!(
            "ip link add h{number} type veth peer name eth0 netns {pid}; ip link set h{number} master eth0 up"
        ))?;
        host.give_addresses()?;
        let (programs, proxy) = (binary("ursa-dp")?, envoy()?);
        let programs = programs.parent().context("a folder")?;
        host.shell(&format!(
            "mount -t tmpfs -o mode=755 host /mnt; mkdir /mnt/bin /mnt/dp /mnt/dp/run; touch /mnt/envoy
             mount --bind {} /mnt/bin; mount --bind {} /mnt/envoy
             chown -R {PROXY}:{PROXY} /mnt/dp; chmod 700 /mnt/dp /mnt/dp/run
             echo nameserver {} > /mnt/resolv.conf; mount --bind /mnt/resolv.conf /etc/resolv.conf",
            programs.display(),
            proxy.display(),
            first.address(family),
        ))?;
        Ok(host)
    }

    /// Pulls its cable out of the first host: nothing arrives any more, and nobody is told.
    pub fn unplug(&self, first: &Self) -> anyhow::Result<()> {
        first.shell(&format!("ip link set h{} nomaster", self.number)).map(drop)
    }

    /// Puts it back.
    pub fn plug(&self, first: &Self) -> anyhow::Result<()> {
        first.shell(&format!("ip link set h{} master eth0", self.number)).map(drop)
    }

    fn alone(number: u8, logs: &Path) -> anyhow::Result<Self> {
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run unshare")?;
        writeln!(holder.stdin.as_mut().context("no input")?, "there")?;
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().context("no output")?).read_line(&mut line)?;
        let host = Self { holder, number, logs: logs.to_owned() };
        anyhow::ensure!(line == "there\n", "unshare --net --mount needs root");
        host.shell("ip link set lo up")?;
        Ok(host)
    }

    fn give_addresses(&self) -> anyhow::Result<()> {
        let (v4, v6) = (self.address(Family::V4), self.address(Family::V6));
        self.shell(&format!(
            "ip address add {v4}/24 dev eth0; ip address add {v6}/64 dev eth0 nodad; ip link set eth0 up
             [ {n} = 1 ] || {{ ip route add default via {gate4}; ip -6 route add default via {gate6}; }}",
            n = self.number,
            gate4 = format_args!("{}1", PREFIXES[0]),
            gate6 = format_args!("{}1", PREFIXES[1]),
        ))
        .map(drop)
    }

    /// Its address.
    pub fn address(&self, family: Family) -> String {
        let [v4, v6] = PREFIXES;
        format!("{}{}", if family == Family::V4 { v4 } else { v6 }, self.number)
    }

    fn inside(&self, user: u32) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.holder.id();
        command.args([format!("--net=/proc/{pid}/ns/net"), format!("--mount=/proc/{pid}/ns/mnt")]);
        command.args(["setpriv", "--reuid", &user.to_string(), "--regid", &user.to_string()]);
        command.arg("--clear-groups");
        command
    }

    /// Runs lines of shell as root, which must succeed: what they print.
    pub fn shell(&self, lines: &str) -> anyhow::Result<String> {
        let output = self.inside(0).args(["timeout", "60", "sh", "-ec", lines]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "host {}: {lines}: {said}", self.number);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes a file for the proxy's user only.
    pub fn write(&self, path: &str, content: &str) -> anyhow::Result<()> {
        let mut writer = self
            .inside(PROXY)
            .args(["sh", "-ec", "umask 077; cat > \"$0\"", path])
            .stdin(Stdio::piped())
            .spawn()?;
        writer.stdin.take().context("no input")?.write_all(content.as_bytes())?;
        anyhow::ensure!(writer.wait()?.success(), "host {}: cannot write {path}", self.number);
        Ok(())
    }

    /// Starts a program of the build as root.
    pub fn start(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Process> {
        let mut command = self.inside(0);
        command.arg(binary(name)?).args(arguments);
        Process::start(&format!("{name}-{}", self.number), &self.logs, command)
    }

    /// Runs a program of the build as root, which must succeed: what it prints.
    pub fn run(&self, name: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.inside(0).args(["timeout", "60"]).arg(binary(name)?).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{name} {arguments:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts the agent, with its Envoy, as the proxy's user.
    pub fn start_agent(&self, arguments: &[&str]) -> anyhow::Result<Process> {
        let mut command = self.inside(PROXY);
        command.args(["/mnt/bin/ursa-dp", "run", "--envoy", "/mnt/envoy", "--data-dir", "/mnt/dp/data"]);
        command.args(["--run-dir", "/mnt/dp/run"]).args(arguments);
        Process::start(&format!("ursa-dp-{}", self.number), &self.logs, command)
    }

    /// Starts the tests' program as a workload.
    pub fn start_workload(&self, arguments: &[&str]) -> anyhow::Result<Process> {
        let mut command = self.inside(WORKLOAD);
        command.arg("/mnt/bin/ursa-e2e-app").args(arguments);
        Process::start(&format!("app-{}", self.number), &self.logs, command)
    }

    /// Runs the tests' program as a workload: what it prints.
    pub fn workload(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self
            .inside(WORKLOAD)
            .args(["timeout", "20", "/mnt/bin/ursa-e2e-app"])
            .args(arguments)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{arguments:?}: {said}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}
