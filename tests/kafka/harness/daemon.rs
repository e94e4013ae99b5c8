//! The program as a child process: configured, started, signalled, asked, and its log kept.

use std::{
    env,
    fmt::{Display, Write as _},
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use alert_ips::{
    crash_point::{self, Point},
    sim::world::TENANT,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{LONG, Topics, WallClock, eventually};

/// How much of its log a failed test shows.
const SHOWN_LOG_LINES: usize = 60;

/// The unit of times in `/proc/PID/stat`, `USER_HZ`: the same on every Linux.
const TICKS_PER_SECOND: u32 = 100;

/// The app registration; with the tenant, the journal's key.
pub const CLIENT: &str = "66666666-7777-8888-9999-000000000000";

/// What the program is started with: with the journal in Kafka, as it is by default.
#[derive(Clone, Debug)]
pub struct Config {
    file: String,
    properties: String,
    set: Vec<String>,
    program: PathBuf,
    crash_at: Option<String>,
    wall_clock: Option<WallClock>,
}

impl Config {
    /// For these topics and the simulated service at `origin`.
    pub fn new(topics: &Topics, origin: &str) -> Self {
        let Topics { bootstrap, input, output, dead_letters, journal, group } = topics;
        let file = format!(
            r#"
            [kafka]
            bootstrap_servers = "{bootstrap}"
            group_id = "{group}"
            [topics]
            input = ["{input}"]
            output = "{output}"
            dead_letters = "{dead_letters}"
            journal = "{journal}"
            [instance]
            name = "one"
            [accounts.contoso]
            tenant_id = "{TENANT}"
            client_id = "{CLIENT}"
            client_secret_file = "./client-secret"
            api_url = "{origin}"
            authority_url = "{origin}"
            # more of the account
            [not_found]
            reask_after = ["1s", "1s", "2s"]
            [retry]
            first = "200ms"
            [log]
            format = "json"
            "#
        );
        Self {
            file,
            properties: "[kafka.properties]\n".to_owned(),
            set: Vec::new(),
            program: program(),
            crash_at: None,
            wall_clock: None,
        }
    }

    /// With a further account, of another tenant.
    pub fn account(mut self, name: &str, tenant_id: &str, client_id: &str, origin: &str) -> Self {
        write!(
            self.file,
            r#"
            [accounts.{name}]
            tenant_id = "{tenant_id}"
            client_id = "{client_id}"
            client_secret_file = "./client-secret"
            api_url = "{origin}"
            authority_url = "{origin}"
            "#
        )
        .unwrap();
        self
    }

    /// Sets one key, as `--set` does.
    pub fn set(mut self, key: &str, value: impl Display) -> Self {
        self.set.push(format!("{key}={value}"));
        self
    }

    /// Among several instances, each has its own name.
    pub fn instance(self, name: &str) -> Self {
        self.set("instance.name", name)
    }

    /// With the journal in the process's memory.
    pub fn journal_in_memory(self) -> Self {
        self.set("journal.kind", "memory")
    }

    pub fn limits(self, limits: &[&str]) -> Self {
        self.set("accounts.contoso.limits", limits.join(", "))
    }

    /// A line of the account's section: a value that a file can change, and no flag hides.
    pub fn account_line(mut self, line: &str) -> Self {
        self.file = self.file.replace("# more of the account", line);
        self
    }

    /// One of librdkafka's own settings.
    pub fn property(mut self, key: &str, value: impl Display) -> Self {
        self.properties.extend([format!("\"{key}\" = \"{value}\"\n")]);
        self
    }

    /// The program that was built with the tests, whatever the environment says: a release build has no crash points.
    pub fn built_with_tests(mut self) -> Self {
        self.program = built_with_tests();
        self
    }

    /// Aborts when it passes this point for the `passing`-th time.
    pub fn crash_at(mut self, point: Point, passing: u32) -> Self {
        self.crash_at = Some(format!("{}:{passing}", point.name()));
        self
    }

    /// With a wall clock of its own.
    pub fn wall_clock(mut self, clock: &WallClock) -> Self {
        self.wall_clock = Some(clock.clone());
        self
    }

    /// Runs another command of the program with this configuration, to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        let folder = tempfile::tempdir().unwrap();
        self.command(folder.path(), words).stdin(Stdio::null()).output().expect("the program starts")
    }

    /// As [`run`](Self::run), with a SIGINT once `when` returns.
    pub fn run_until(&self, words: &[&str], when: impl FnOnce()) -> Output {
        let folder = tempfile::tempdir().unwrap();
        let mut command = self.command(folder.path(), words);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        when();
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        child.wait_with_output().unwrap()
    }

    /// The program with this configuration, which is written into `folder`.
    fn command(&self, folder: &Path, words: &[&str]) -> Command {
        fs::write(folder.join("client-secret"), "a secret for a simulated sign-in").unwrap();
        let file = folder.join("alert-ips.toml");
        fs::write(&file, format!("{}\n{}", self.file, self.properties)).unwrap();
        let mut command = Command::new(&self.program);
        command.args(words).arg("--config").arg(file);
        // As the unit file sets it.
        command.envs([
            ("MALLOC_ARENA_MAX", "1"),
            ("MALLOC_TRIM_THRESHOLD_", "65536"),
            ("MALLOC_MMAP_THRESHOLD_", "65536"),
        ]);
        // That of the tests says which of them run.
        command.env_remove(crash_point::VARIABLE);
        command.envs(self.crash_at.iter().map(|at| (crash_point::VARIABLE, at)));
        command.envs(self.wall_clock.iter().flat_map(WallClock::environment));
        for assignment in &self.set {
            command.args(["--set", assignment]);
        }
        command
    }
}

/// The running program. Dropped, it is killed; after a failure the end of its log is shown.
pub struct Daemon {
    child: Child,
    admin: SocketAddr,
    folder: TempDir,
}

impl Daemon {
    pub fn start(config: &Config) -> Self {
        super::keep_panics();
        let folder = tempfile::tempdir().unwrap();
        // Free a moment ago; the tests take few ports.
        let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = config.command(folder.path(), &["run"]);
        command.args(["--set", &format!("admin.listen={admin}")]);
        let log = File::create(folder.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("the program starts");
        Self { child, admin, folder }
    }

    /// Waits until everything in the input is committed.
    pub fn finish(&mut self, topics: &Topics) {
        self.wait_for("everything in the input is committed", LONG, |_| (topics.uncommitted() == 0).then_some(()));
    }

    /// Like [`eventually`], and fails at once if the program ends.
    pub fn wait_for<T>(&mut self, what: &str, limit: Duration, mut ask: impl FnMut(&Self) -> Option<T>) -> T {
        eventually(what, limit, || {
            self.assert_running();
            ask(self)
        })
    }

    pub fn assert_running(&mut self) {
        let status = self.child.try_wait().unwrap();
        assert!(status.is_none(), "the program ended by itself: {}", status.unwrap());
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// Lets it read its configuration again, once that is what `change` makes of it.
    pub fn reload(&self, change: impl FnOnce(&str) -> String) {
        let file = self.folder.path().join("alert-ips.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, change(&text)).unwrap();
        kill_process(self.pid(), Signal::HUP).unwrap();
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
    }

    /// SIGSTOP: it does nothing until [`resume`](Self::resume).
    pub fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// How the program ends, within `limit`.
    pub fn exited(&mut self, limit: Duration) -> ExitStatus {
        eventually("the program ends", limit, || self.child.try_wait().unwrap())
    }

    /// SIGTERM, and exit code 0 within 30 s, after the group was left.
    pub fn stop(mut self) {
        self.terminate();
        let status = self.exited(Duration::from_secs(30));
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(!self.log().contains(r#""still_in_group":true"#), "the group is not left");
    }

    /// Status and body of a page of the admin server; `None` while it does not answer.
    pub fn page(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.get(9..12)?.parse().ok()?, body.to_owned()))
    }

    /// Waits until it is not ready and says these words; returns all it says.
    pub fn wait_for_words(&mut self, words: &str) -> String {
        self.wait_for(&format!("/readyz says 503 and \"{words}\""), LONG, |daemon| {
            let (status, body) = daemon.page("/readyz")?;
            (status == 503 && body.contains(words)).then_some(body)
        })
    }

    /// Waits until a line of the log says this; returns the line.
    pub fn wait_for_log(&mut self, words: &str, limit: Duration) -> String {
        self.wait_for(&format!("the log says \"{words}\""), limit, |daemon| {
            daemon.log().lines().find(|line| line.contains(words)).map(str::to_owned)
        })
    }

    pub fn wait_until_ready(&mut self) {
        self.wait_for("/readyz says 200", LONG, |daemon| daemon.page("/readyz").filter(|(status, _)| *status == 200));
    }

    /// Why an account makes no calls, as `/readyz` tells it: its `paused`. `None` while the page does not answer.
    pub fn paused(&self, account: &str) -> Option<Value> {
        let (_, body) = self.page("/readyz?verbose")?;
        let json: Value = serde_json::from_str(&body).unwrap();
        let accounts = json["accounts"].as_array().unwrap();
        Some(accounts.iter().find(|known| known["name"] == account).unwrap()["paused"].clone())
    }

    /// The sum of a metric over its labels.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.page("/metrics")?;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        Some(values.sum())
    }

    /// The histogram of the time from claims to their rulings: upper bounds in seconds, and how many took at most that.
    pub fn claim_seconds(&self) -> Vec<(f64, f64)> {
        let (_, text) = self.page("/metrics").unwrap();
        let buckets = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("alert_ips_claim_duration_seconds_bucket{")?;
            let (_, rest) = rest.split_once("le=\"")?;
            let (bound, rest) = rest.split_once('"')?;
            Some((bound.replace("+Inf", "inf").parse().unwrap(), rest.rsplit(' ').next()?.parse().unwrap()))
        });
        buckets.collect()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The most memory it has had resident so far, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory it has resident now, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The processor time it has used so far, in user and system mode.
    pub fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name, which is in parentheses: utime and stime are the 12th and 13th of what is left.
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 = rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_secs(ticks) / TICKS_PER_SECOND
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..];
            eprintln!("--- the end of the program's log:\n{}\n--- {}", last.join("\n"), super::panic_words());
        }
    }
}

/// The program to test: that of the environment, else the one built with the tests.
pub fn program() -> PathBuf {
    env::var_os("ALERT_IPS_BIN").map_or_else(built_with_tests, PathBuf::from)
}

fn built_with_tests() -> PathBuf {
    env!("CARGO_BIN_EXE_alert-ips").into()
}
