//! A real Kafka, started and stopped by `tools/kafka`.

use std::{
    env,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU16, Ordering},
    },
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

/// Where the shared broker listens unless `ALERT_IPS_KAFKA_PORT` says otherwise; the default of `tools/kafka`.
const DEFAULT_PORT: u16 = 19092;

/// One broker, that is its own cluster.
pub struct Broker {
    pub bootstrap: String,
    port: u16,
    /// Stopped and wiped at the end.
    own: bool,
    /// Its process, while it is to do nothing.
    paused: Mutex<Option<Pid>>,
}

impl Broker {
    /// The broker that all tests share, started if it does not run; `None`, said on stderr, where the suite is not
    /// asked for.
    pub fn shared() -> Option<&'static Self> {
        is_asked_for().then(Self::required)
    }

    /// The same, asked for or not.
    pub fn required() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| Self::start_at(shared_port(), false))
    }

    /// A broker for one test, which may stop it.
    pub fn own() -> Option<Self> {
        is_asked_for().then(|| Self::start_at(next_port(), true))
    }

    pub fn stop(&self) {
        self.tool("stop");
    }

    pub fn start(&self) {
        self.tool("start");
    }

    /// SIGSTOP: it does nothing until [`resume`](Self::resume).
    pub fn pause(&self) {
        let pid = Pid::from_raw(self.process().cast_signed()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        *self.paused.lock().unwrap() = Some(pid);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        let pid = self.paused.lock().unwrap().take().unwrap();
        kill_process(pid, Signal::CONT).unwrap();
    }

    /// Its files grow no more: every write fails, as on a full disk, until it is stopped and started again.
    pub fn fill_disk(&self) {
        let pid = Pid::from_raw(self.process().cast_signed()).unwrap();
        prlimit(Some(pid), Resource::Fsize, Rlimit { current: Some(1), maximum: None }).unwrap();
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps its settings and its data.
    pub(super) fn folder(&self) -> PathBuf {
        let status = self.status();
        let (_, folder) = status.split_once('(').unwrap();
        folder.trim_end_matches(')').into()
    }

    /// Its process, while it runs.
    pub(super) fn process(&self) -> u32 {
        let status = self.status();
        let (_, process) = status.split_once("process ").unwrap();
        process.split_once(' ').unwrap().0.parse().unwrap()
    }

    fn start_at(port: u16, own: bool) -> Self {
        let mut broker = Self { bootstrap: String::new(), port, own, paused: Mutex::default() };
        if own {
            broker.tool("stop");
            broker.tool("wipe");
        }
        broker.bootstrap = broker.tool("start");
        broker
    }

    /// On a machine with much to do one question may not be answered in time.
    fn status(&self) -> String {
        super::eventually("tools/kafka status", super::LONG, || self.try_tool("status").ok())
    }

    /// What `tools/kafka COMMAND` prints.
    fn tool(&self, command: &str) -> String {
        self.try_tool(command).unwrap_or_else(|told| panic!("tools/kafka {command} failed: {told}"))
    }

    /// The same, or what it says where it fails.
    fn try_tool(&self, command: &str) -> Result<String, String> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(root.join("tools/kafka"))
            .args([command, "--port", &self.port.to_string()])
            .stdin(Stdio::null())
            .output()
            .expect("tools/kafka runs");
        let told = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(told) } else { Err(format!("{told} {errors}")) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.own {
            self.tool("stop");
            self.tool("wipe");
        }
    }
}

fn shared_port() -> u16 {
    env::var("ALERT_IPS_KAFKA_PORT").map_or(DEFAULT_PORT, |port| port.parse().expect("ALERT_IPS_KAFKA_PORT is a port"))
}

/// Whether the suite is asked for; else that is said on stderr.
pub fn is_asked_for() -> bool {
    let asked =
        env::var_os("ALERT_IPS_BIN").is_some() || env::var("ALERT_IPS_KAFKA_REQUIRED").is_ok_and(|value| value == "1");
    if !asked {
        eprintln!("skipped: it needs a real Kafka (Java 17 and Maven); ALERT_IPS_KAFKA_REQUIRED=1 runs it");
    }
    asked
}

/// Where another broker may listen: ten ports from here are its own, and no other program has one of them.
pub(super) fn next_port() -> u16 {
    static BROKERS: AtomicU16 = AtomicU16::new(1);
    loop {
        let first = shared_port() + 10 * BROKERS.fetch_add(1, Ordering::Relaxed);
        if (first..first + 10).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            return first;
        }
    }
}
