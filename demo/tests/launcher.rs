//! The launcher as a process: what it leaves behind however it ends, and what it does when a part of it dies.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use ursa_demo::topology::Topology;

const START: Duration = Duration::from_mins(1);
/// Within which everything has to have ended, or to work again.
const BOUND: Duration = Duration::from_secs(10);

fn eventually(bound: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let from = Instant::now();
    while !holds() {
        assert!(from.elapsed() < bound, "not within {bound:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    from.elapsed()
}

struct Launcher {
    child: Child,
    state: PathBuf,
    base: u8,
}

impl Launcher {
    /// Starts `ursa-demo up` and waits for all to be up.
    fn up(name: &str, base: u8) -> Self {
        let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&state).unwrap();
        let output = fs::File::create(state.with_extension("out")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ursa-demo"))
            .args(["up", "--base", &base.to_string(), "--state-dir"])
            .arg(&state)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0)
            .spawn()
            .unwrap();
        let mut launcher = Self { child, state, base };
        // What an earlier run may have left is gone once the lock is this one's.
        let said = launcher.state.with_extension("out");
        eventually(START, "the demo is up", || {
            assert_eq!(launcher.child.try_wait().unwrap(), None, "{}", fs::read_to_string(&said).unwrap());
            fs::read_to_string(&said).unwrap().contains("all is up")
        });
        launcher
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    fn endpoints(&self) -> Value {
        serde_json::from_slice(&fs::read(self.state.join("endpoints.json")).unwrap()).unwrap()
    }

    /// The folder of sockets: below a long path it lies elsewhere.
    fn run_folder(&self) -> PathBuf {
        let own = self.state.join("run");
        let short = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        if own.as_os_str().len() <= 43 { own } else { short.join(format!("ursa-demo-{}", self.child.id())) }
    }

    /// Processes whose command line names one of the demo's folders.
    fn processes(&self) -> Vec<(i32, String)> {
        let folders =
            [self.state.clone(), self.run_folder()].map(|folder| folder.to_str().unwrap().to_owned());
        let launcher = self.child.id().cast_signed();
        let command = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        };
        let all = fs::read_dir("/proc").unwrap().filter_map(|entry| command(entry.unwrap()));
        let ours = |line: &str| folders.iter().any(|folder| line.contains(folder));
        all.filter(|(pid, line)| *pid != launcher && ours(line)).collect()
    }

    /// No process, and nobody at any address of the demo: that covers those that don't name the folder.
    fn is_gone(&self) -> bool {
        let listeners = Topology::talk(self.base).listeners();
        self.processes().is_empty() && listeners.iter().all(|(address, _)| TcpListener::bind(address).is_ok())
    }

    fn must_go(&mut self, why: &str) {
        let from = Instant::now();
        eventually(BOUND, why, || self.child.try_wait().unwrap().is_some());
        eventually(BOUND.saturating_sub(from.elapsed()), why, || self.is_gone());
        println!("{why}: all gone after {:?}", from.elapsed());
    }

    fn increments(&self) -> bool {
        let url = self.endpoints()["zones"]["aws"]["demoApp"].as_str().unwrap().to_owned();
        let host = url.strip_prefix("http://").unwrap();
        let exchange = || -> std::io::Result<String> {
            use std::io::{Read as _, Write as _};
            let mut stream = std::net::TcpStream::connect(host)?;
            stream.set_read_timeout(Some(BOUND))?;
            write!(stream, "POST /increment HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        exchange().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_leaves_nothing_behind_however_it_ends() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let mut launcher = Launcher::up("launcher-ends", 210);
        let (count, run) = (launcher.processes().len(), launcher.run_folder());
        assert!(run.exists(), "{}", run.display());
        assert!(count >= 19, "4 control planes, 9 agents, 9 Envoys: {:?}", launcher.processes());
        assert!(launcher.increments());
        launcher.signal(signal);
        launcher.must_go(signal.as_str());
        if signal != Signal::SIGKILL {
            assert!(!launcher.state.join("endpoints.json").exists(), "it says that the demo is up");
            assert!(!run.exists(), "{}", run.display());
        } else if !run.starts_with(&launcher.state) {
            fs::remove_dir_all(run).unwrap(); // nobody was left to do it
        }
    }
}

#[test]
fn an_agent_that_dies_is_started_again_and_traffic_comes_back() {
    let mut launcher = Launcher::up("launcher-agent", 220);
    let agent = |launcher: &Launcher| {
        let is_agent = |line: &str| line.contains("/ursa-dp run ") && line.contains("dp-redis-aws");
        launcher.processes().into_iter().find(|(_, line)| is_agent(line)).map(|(pid, _)| pid)
    };
    let first = agent(&launcher).expect("redis has an agent");
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    eventually(BOUND, "another agent", || agent(&launcher).is_some_and(|pid| pid != first));
    let took = eventually(BOUND, "traffic", || launcher.increments());
    println!("traffic is back {took:?} after the agent");
    let said = fs::read_to_string(launcher.state.with_extension("out")).unwrap();
    assert!(said.contains("! dp-redis-aws has ended (signal: 9 (SIGKILL)); it starts again"), "{said}");
    launcher.signal(Signal::SIGTERM);
    launcher.must_go("SIGTERM after a restart");
}

#[test]
fn a_second_demo_says_what_is_in_its_way_and_disturbs_nothing() {
    let mut launcher = Launcher::up("launcher-second", 230);
    let run = |base: &str, state: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_ursa-demo"))
            .args(["up", "--base", base, "--state-dir"])
            .arg(state)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let said = run("230", &launcher.state.with_extension("other"));
    assert!(said.contains("127.230.1.1:5680, for the global control plane, is taken"), "{said}");
    let said = run("240", &launcher.state);
    assert!(said.contains("another demo runs in"), "{said}");
    assert!(launcher.increments());
    launcher.signal(Signal::SIGTERM);
    launcher.must_go("SIGTERM after a second demo");
}

#[test]
fn a_program_whose_parent_is_gone_does_not_start() {
    let marker = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exec-started");
    let _ = fs::remove_file(&marker);
    let run = |parent: u32| {
        let wrapper = Command::new(env!("CARGO_BIN_EXE_ursa-demo"))
            .args(["exec", "--parent", &parent.to_string(), "--", "touch"])
            .arg(&marker)
            .output()
            .unwrap();
        (wrapper.status.success(), String::from_utf8(wrapper.stderr).unwrap())
    };
    let (success, said) = run(1);
    assert!(!success && said.contains("process 1, the parent, is gone"), "{said}");
    assert!(!marker.exists());
    assert!(run(std::process::id()).0);
    assert!(marker.exists());
    fs::remove_file(&marker).unwrap();
}
