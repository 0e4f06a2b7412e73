//! A workload's host and another one, each a network namespace, and the processes in them.
//!
//! ```text
//! workload: 10.9.0.1 fd09::1 ── veth ── remote: 10.9.0.2 fd09::2, also 10.8.0.2 fd08::2
//! ```
//! Invariant: a namespace lives as long as a process that ends when its input does, so none outlives the tests.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::stand_in;

/// The users that things run as.
pub(crate) const APP: u32 = 1000;
pub(crate) const PROXY: u32 = 5678;
pub(crate) const RESOLVER: u32 = 2000;

/// What the kernel is told with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Nftables,
    Iptables,
    /// The older programs, for kernels that have no nftables at all.
    IptablesLegacy,
}

impl Backend {
    pub(crate) const ALL: [Self; 3] = [Self::Nftables, Self::Iptables, Self::IptablesLegacy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
            Self::IptablesLegacy => "iptables-legacy",
        }
    }

    /// The program with which others make rules that the backend's live among.
    pub(crate) fn iptables(self) -> &'static str {
        match self {
            Self::Nftables | Self::Iptables => "iptables",
            Self::IptablesLegacy => "iptables-legacy",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables | Self::IptablesLegacy => "iptables",
        }
    }
}

/// A process with its input held open.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the tools are installed");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, input, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it writes text");
        line.trim_end().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A network namespace.
pub(crate) struct Namespace {
    holder: Process,
}

impl Namespace {
    fn new() -> Self {
        let mut holder = Process::start(Command::new("unshare").args(["--net", "cat"]));
        writeln!(holder.input, "there").expect("it reads");
        assert_eq!(holder.line(), "there", "unshare --net needs root");
        let namespace = Self { holder };
        namespace.shell("ip link set lo up; echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start");
        namespace
    }

    /// Both ends of a link are there once each knows of the other.
    fn await_link(&self) {
        self.shell("timeout 10 sh -c 'until ip link show dev eth0 | grep -q LOWER_UP; do sleep 0.02; done'");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.holder.child.id()))
            .args(["timeout", "120", program]);
        command
    }

    /// Runs a line of shell, which must succeed, and returns what it prints.
    pub(crate) fn shell(&self, line: &str) -> String {
        let output = self.command("sh").args(["-ec", line]).output().expect("nsenter runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{line}`: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn stand_in(&self, uid: u32) -> Command {
        // Not under `timeout`: a stand-in ends by itself, and with its input.
        let own = std::env::current_exe().expect("a process has a program");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.child.id())).arg(own);
        command.args([stand_in::MARK, &uid.to_string()]);
        command
    }

    fn serve(&self, uid: u32, listeners: &[&str]) -> Process {
        let mut server = Process::start(self.stand_in(uid).arg("serve").args(listeners));
        assert_eq!(server.line(), "ready", "{listeners:?}");
        server
    }

    /// A connection that is open and has been answered, and by whom.
    pub(crate) fn hold(&self, address: &str) -> (Held, String) {
        let mut process = Process::start(self.stand_in(APP).args(["hold", address]));
        let first = process.line();
        (Held(process), first)
    }

    fn ask(&self, uid: u32, arguments: &[&str]) -> String {
        let output = self.stand_in(uid).arg("ask").args(arguments).output().expect("nsenter runs");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}

/// A connection that stays open.
pub(crate) struct Held(Process);

impl Held {
    /// Who is at its other end, asked over it.
    pub(crate) fn ask(&mut self) -> String {
        writeln!(self.0.input, "again").expect("it reads");
        self.0.line()
    }
}

/// A third host and what serves there.
pub(crate) struct Beyond {
    _server: Process,
    host: Namespace,
}

impl Beyond {
    /// Who answers it over TCP.
    pub(crate) fn sent(&self, address: &str) -> String {
        without_source(&self.host.ask(APP, &["tcp", address]))
    }
}

/// Both hosts with all that runs there.
pub(crate) struct World {
    pub(crate) backend: Backend,
    // Processes end before the namespaces they are in.
    _servers: [Process; 4],
    pub(crate) workload: Namespace,
    pub(crate) remote: Namespace,
}

impl World {
    pub(crate) fn new(backend: Backend) -> Self {
        let (workload, remote) = (Namespace::new(), Namespace::new());
        let peer = remote.holder.child.id();
        workload.shell(&format!("ip link add eth0 type veth peer name eth0 netns {peer}"));
        remote.shell(
            "ip address add 10.9.0.2/24 dev eth0; ip address add 10.8.0.2/24 dev eth0
             ip address add fd09::2/64 dev eth0 nodad; ip address add fd08::2/64 dev eth0 nodad
             ip link set eth0 up",
        );
        workload.shell(
            "ip address add 10.9.0.1/24 dev eth0; ip address add fd09::1/64 dev eth0 nodad; ip link set eth0 up
             ip route add default via 10.9.0.2; ip -6 route add default via fd09::2",
        );
        for host in [&workload, &remote] {
            host.shell(
                "timeout 10 sh -c 'until ip link show dev eth0 | grep -q LOWER_UP; do sleep 0.02; done'",
            );
        }
        let servers = [
            remote.serve(
                0,
                &[
                    "remote=tcp:0.0.0.0:80",
                    "remote=tcp:[::]:80",
                    "remote=tcp:0.0.0.0:8080",
                    "remote=tcp:[::]:8080",
                    "remote=tcp:0.0.0.0:8081",
                    "resolver=tcp:0.0.0.0:53",
                    "resolver=tcp:[::]:53",
                    "resolver=udp:10.9.0.2:53",
                    "resolver=udp:[fd09::2]:53",
                ],
            ),
            workload.serve(
                PROXY,
                &[
                    "outbound=tcp:0.0.0.0:15001",
                    "outbound=tcp:[::]:15001",
                    "inbound=tcp:0.0.0.0:15006",
                    "inbound=tcp:[::]:15006",
                    "dns=tcp:127.0.0.1:15053",
                    "dns=tcp:[::1]:15053",
                    "dns=udp:127.0.0.1:15053",
                    "dns=udp:[::1]:15053",
                ],
            ),
            workload.serve(
                APP,
                &["app=tcp:0.0.0.0:80", "app=tcp:[::]:80", "app=tcp:0.0.0.0:9090", "app=tcp:[::]:9090"],
            ),
            workload.serve(RESOLVER, &["local=tcp:127.0.0.53:53", "local=udp:127.0.0.53:53"]),
        ];
        Self { backend, _servers: servers, workload, remote }
    }

    /// A third host, 10.7.0.2, which reaches the remote one through the workload's, as a container on it would.
    pub(crate) fn beyond(&self) -> Beyond {
        let host = Namespace::new();
        let peer = host.holder.child.id();
        self.workload.shell(&format!(
            "ip link add eth1 type veth peer name eth0 netns {peer}; ip address add 10.7.0.1/24 dev eth1
             ip link set eth1 up; echo 1 > /proc/sys/net/ipv4/ip_forward"
        ));
        host.shell(
            "ip address add 10.7.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.7.0.1",
        );
        host.await_link();
        self.remote.shell("ip route add 10.7.0.0/24 via 10.9.0.1");
        Beyond { _server: host.serve(APP, &["beyond=tcp:0.0.0.0:80"]), host }
    }

    /// Runs `ursa-init` on the workload's host and returns what it prints, and whether it succeeded.
    pub(crate) fn init(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = self.workload.command(env!("CARGO_BIN_EXE_ursa-init"));
        if self.backend == Backend::IptablesLegacy {
            command.env("PATH", legacy_programs());
        }
        let output = command.args(arguments).output().expect("nsenter runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    pub(crate) fn up(&self, flags: &[&str]) {
        let (done, said) = self.init(&[&["up", "--backend", self.backend.flag()], flags].concat());
        assert!(done, "{said}");
    }

    pub(crate) fn down(&self) {
        let (done, said) = self.init(&["down"]);
        assert!(done, "{said}");
    }

    /// Who answers a user on the workload's host over TCP, and where to that was sent.
    pub(crate) fn sent(&self, uid: u32, address: &str) -> String {
        without_source(&self.workload.ask(uid, &["tcp", address]))
    }

    /// The same from an address of the user's choice; where that is, the answer tells too.
    pub(crate) fn sent_from(&self, uid: u32, source: &str, address: &str) -> String {
        self.workload.ask(uid, &["tcp", address, source])
    }

    /// Who answers a question over UDP.
    pub(crate) fn asked(&self, uid: u32, address: &str) -> String {
        self.workload.ask(uid, &["udp", address])
    }

    /// The same from an address of the user's choice.
    pub(crate) fn asked_from(&self, uid: u32, source: &str, address: &str) -> String {
        self.workload.ask(uid, &["udp", address, source])
    }

    /// Who answers the other host.
    pub(crate) fn received(&self, address: &str) -> String {
        without_source(&self.remote.ask(APP, &["tcp", address]))
    }

    /// All rules and addresses of the workload's host, without counters and times.
    pub(crate) fn state(&self) -> String {
        let program = self.backend.iptables().trim_start_matches("ip");
        let iptables = format!("ip{program}-save; ip6{program}-save");
        let text =
            self.workload.shell(&format!("nft list ruleset; {iptables}; ip -brief address show dev lo"));
        text.lines().filter(|line| !line.starts_with('#')).map(without_counters).collect()
    }
}

/// `… counter packets 1 bytes 96 jump URSA_OUTPUT`, `:OUTPUT ACCEPT [1:96]`: hosts send packets of their own accord.
fn without_counters(line: &str) -> String {
    let line = line.split(" [").next().unwrap_or_default();
    match line.split_once("counter packets ") {
        Some((before, after)) => {
            let rest = after.splitn(4, ' ').nth(3).unwrap_or_default();
            format!("{before}counter {rest}\n")
        }
        None => format!("{line}\n"),
    }
}

fn without_source(answer: &str) -> String {
    match answer.split(' ').collect::<Vec<_>>().as_slice() {
        [name, sent_to, _] => format!("{name} {sent_to}"),
        _ => answer.to_owned(),
    }
}

/// A folder in which the programs' plain names are the older ones.
fn legacy_programs() -> String {
    let folder = format!("{}/iptables-legacy", env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    for name in ["iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore"] {
        let link = format!("{folder}/{name}");
        let made = std::os::unix::fs::symlink("/usr/sbin/xtables-legacy-multi", &link);
        let there = |error: std::io::Error| error.kind() == std::io::ErrorKind::AlreadyExists;
        assert!(made.map_or_else(there, |()| true), "cannot make {link}");
    }
    format!("{folder}:{}", std::env::var("PATH").unwrap_or_default())
}
