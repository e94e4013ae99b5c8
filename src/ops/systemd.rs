//! Tells systemd how the daemon is: ready, a status in words, alive, stopping. Without `NOTIFY_SOCKET`: nothing.
//!
//! While it starts or drains it asks for more time as long as its loops turn: a dead broker at start is a reason to
//! wait, not to be killed. The watchdog is fed only while every loop turns; waiting for permits counts as turning.

use std::{io, time::Duration};

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use super::escape;
use crate::{
    domain::phase::Phase,
    observe::{
        health::{ALIVE_WITHIN, Health, PartReport, Stalled},
        snapshot::{Snapshot, Watches},
        status::{AccountStatus, Pause, WindowStatus},
    },
};

/// How often the status is refreshed; more often where the watchdog's interval asks for it.
const EVERY: Duration = Duration::from_secs(5);

/// How much time each request for more asks for: several turns, so that a missed one does no harm.
const MORE_TIME: Duration = Duration::from_secs(30);

/// Longest status sent, in bytes.
const STATUS_LEN: usize = 400;

/// The connection to the service manager.
#[derive(Debug)]
pub struct ServiceManager {
    /// The interval in which systemd wants a sign of life, where it wants one.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that started this process (`NOTIFY_SOCKET`, `WATCHDOG_USEC`), if one did that wants to be told.
    pub fn from_environment() -> Option<Self> {
        let socket = std::env::var_os("NOTIFY_SOCKET")?;
        (!socket.is_empty()).then(|| Self { watchdog: sd_notify::watchdog_enabled() })
    }

    /// Keeps it informed until the phase is [`Phase::Stopped`].
    pub async fn keep_informed(self, mut watches: Watches, health: Health) {
        let mut told = Told::default();
        // Three signs of life in each interval: at most a half may pass between two.
        let every = self.watchdog.map_or(EVERY, |watchdog| EVERY.min(watchdog / 3)).max(Duration::from_millis(1));
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let snapshot = watches.snapshot();
            let stalled = health.stalled(health.now(), ALIVE_WITHIN);
            let status = status_line(&snapshot, &health.report(), &stalled);
            let notices = told.news(snapshot.phase, status, stalled.is_empty(), self.watchdog.is_some());
            if let Err(error) = send(&notices) {
                tracing::debug!(%error, "systemd could not be told");
            }
            for Stalled { owner, silent_for } in told.newly_stalled(stalled) {
                let seconds = silent_for.as_secs();
                tracing::error!(%owner, seconds, "a loop has stopped turning; the watchdog is no longer fed");
            }
            if snapshot.phase == Phase::Stopped {
                return;
            }
            tokio::select! {
                _ = tick.tick() => {}
                changed = watches.phase_changed() => if changed.is_none() { return },
            }
        }
    }
}

/// One thing to tell systemd, see `sd_notify(3)`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Notice {
    Ready,
    Stopping,
    Status(String),
    /// A sign of life for the watchdog.
    Alive,
    MoreTime,
}

fn send(notices: &[Notice]) -> io::Result<()> {
    if notices.is_empty() {
        return Ok(());
    }
    let states: Vec<_> = notices
        .iter()
        .map(|notice| match notice {
            Notice::Ready => NotifyState::Ready,
            Notice::Stopping => NotifyState::Stopping,
            Notice::Status(status) => NotifyState::Status(status),
            Notice::Alive => NotifyState::Watchdog,
            Notice::MoreTime => {
                NotifyState::ExtendTimeoutUsec(u32::try_from(MORE_TIME.as_micros()).unwrap_or(u32::MAX))
            }
        })
        .collect();
    sd_notify::notify(&states)
}

/// What systemd was told already.
#[derive(Debug, Default)]
struct Told {
    ready: bool,
    stopping: bool,
    status: String,
    stalled: Vec<Stalled>,
}

impl Told {
    /// What it should be told now.
    fn news(&mut self, phase: Phase, status: String, alive: bool, watchdog: bool) -> Vec<Notice> {
        let mut notices = Vec::new();
        if phase == Phase::Running && !self.ready {
            self.ready = true;
            notices.push(Notice::Ready);
        }
        if phase >= Phase::Draining && !self.stopping {
            self.stopping = true;
            notices.push(Notice::Stopping);
        }
        if status != self.status {
            self.status.clone_from(&status);
            notices.push(Notice::Status(status));
        }
        if alive && watchdog {
            notices.push(Notice::Alive);
        }
        if alive && matches!(phase, Phase::Starting | Phase::Draining) {
            notices.push(Notice::MoreTime);
        }
        notices
    }

    /// Those of `stalled` that were not the last time.
    fn newly_stalled(&mut self, stalled: Vec<Stalled>) -> Vec<Stalled> {
        let known = std::mem::replace(&mut self.stalled, stalled);
        let is_new = |each: &&Stalled| known.iter().all(|known| known.owner != each.owner);
        self.stalled.iter().filter(is_new).cloned().collect()
    }
}

/// The daemon's state in one line of words: `412 queued, hour 1388/1500, next slot 00:41`.
///
/// A phase other than running comes first, then what stands still, then what is not as it should be, then the accounts
/// (with their names where there are several).
pub fn status_line(snapshot: &Snapshot, parts: &[PartReport], stalled: &[Stalled]) -> String {
    let mut clauses = Vec::new();
    if snapshot.phase != Phase::Running {
        clauses.push(snapshot.phase.to_string());
    }
    clauses.extend(stalled.iter().map(|it| format!("{} stalled for {} s", it.owner, it.silent_for.as_secs())));
    clauses.extend(parts.iter().filter_map(|part| {
        let words = part.condition.words()?;
        Some(format!("{} {}: {words}", part.part, part.condition.state()))
    }));
    if snapshot.phase != Phase::Stopped {
        let several = snapshot.accounts.len() > 1;
        clauses.extend(snapshot.accounts.iter().map(|(name, status)| {
            let account = account_line(status);
            if several { format!("{name} {account}") } else { account }
        }));
    }
    cut(escape::line(&clauses.join("; ")))
}

fn account_line(status: &AccountStatus) -> String {
    let mut facts = vec![format!("{} queued", status.waiting())];
    // Of the shorter windows only those that hold calls back now.
    let longest = status.windows.iter().map(|window| window.per).max();
    let telling = status.windows.iter().filter(|window| Some(window.per) == longest || window.left == 0);
    facts.extend(telling.map(|window| format!("{} {}/{}", window_word(window), window.used, window.calls)));
    if let Some(wait) = status.next_slot_in {
        facts.push(format!("next slot {}", clock_face(wait)));
    }
    if let Some(Pause { why, remaining, .. }) = &status.paused {
        let how_long = remaining.map(|wait| format!(" for {}", clock_face(wait))).unwrap_or_default();
        facts.push(format!("paused{how_long}: {why}"));
    }
    facts.join(", ")
}

fn window_word(window: &WindowStatus) -> String {
    match window.per.as_secs() {
        1 => "second".into(),
        60 => "minute".into(),
        3_600 => "hour".into(),
        86_400 => "day".into(),
        _ => humantime::format_duration(window.per).to_string(),
    }
}

/// `MM:SS`, or `H:MM:SS` from an hour on; a begun second counts whole, so that it never says 00:00 too early.
fn clock_face(wait: Duration) -> String {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes:02}:{seconds:02}") }
}

fn cut(line: String) -> String {
    match line.char_indices().find(|(at, c)| at + c.len_utf8() > STATUS_LEN) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixDatagram, process::Command};

    use rstest::rstest;
    use tokio::sync::watch;

    use super::*;
    use crate::{
        clock::Clock,
        observe::{health::Condition, status::BacklogStatus},
    };

    fn window(seconds: u64, used: u32, calls: u32) -> WindowStatus {
        WindowStatus { per: Duration::from_secs(seconds), calls, used, left: calls - used }
    }

    fn account(waiting: usize, windows: &[WindowStatus]) -> AccountStatus {
        let mut status = AccountStatus { windows: windows.to_vec(), ..AccountStatus::default() };
        status.backlog[1] = BacklogStatus { waiting, oldest: Duration::ZERO };
        status
    }

    fn busy() -> AccountStatus {
        let next_slot_in = Some(Duration::from_millis(40_001));
        AccountStatus { next_slot_in, ..account(412, &[window(60, 3, 100), window(3600, 1388, 1500)]) }
    }

    fn minute_full() -> AccountStatus {
        account(3, &[window(60, 100, 100), window(3600, 100, 1500)])
    }

    fn paused(remaining: Option<u64>) -> AccountStatus {
        let pause = Pause {
            why: "the service asks to wait".into(),
            remaining: remaining.map(Duration::from_secs),
            lasting: false,
        };
        AccountStatus { paused: Some(pause), ..account(2, &[window(10, 1, 60)]) }
    }

    #[rstest]
    #[case::busy(Phase::Running, &[busy()], "412 queued, hour 1388/1500, next slot 00:41")]
    #[case::idle(Phase::Running, &[account(0, &[window(3600, 0, 1500)])], "0 queued, hour 0/1500")]
    #[case::minute_full(Phase::Running, &[minute_full()], "3 queued, minute 100/100, hour 100/1500")]
    #[case::frozen(Phase::Running, &[paused(Some(3661))], "2 queued, 10s 1/60, paused for 1:01:01: the service asks to wait")]
    #[case::held(Phase::Running, &[paused(None)], "2 queued, 10s 1/60, paused: the service asks to wait")]
    #[case::starting(Phase::Starting, &[], "starting")]
    #[case::draining(Phase::Draining, &[busy()], "draining; 412 queued, hour 1388/1500, next slot 00:41")]
    #[case::stopped(Phase::Stopped, &[busy()], "stopped")]
    #[case::several(
        Phase::Running,
        &[busy(), minute_full()],
        "a 412 queued, hour 1388/1500, next slot 00:41; b 3 queued, minute 100/100, hour 100/1500"
    )]
    fn the_status_is_in_words(#[case] phase: Phase, #[case] accounts: &[AccountStatus], #[case] line: &str) {
        let accounts = ["a", "b"].into_iter().map(Into::into).zip(accounts.iter().cloned()).collect();
        assert_eq!(status_line(&Snapshot { phase, accounts }, &[], &[]), line);
    }

    fn report(condition: Condition) -> PartReport {
        PartReport { part: "kafka".into(), condition, since: crate::domain::time::BootTime::default() }
    }

    #[test]
    fn what_is_wrong_comes_before_the_accounts() {
        let snapshot = Snapshot { phase: Phase::Running, accounts: vec![("a".into(), account(1, &[]))] };
        let parts = [report(Condition::Ok), report(Condition::Waiting("no broker answers".into()))];
        let stalled = [Stalled { owner: "source".into(), silent_for: Duration::from_millis(31_500) }];
        let line = status_line(&snapshot, &parts, &stalled);
        assert_eq!(line, "source stalled for 31 s; kafka waiting: no broker answers; 1 queued");
    }

    #[test]
    fn words_from_outside_can_not_say_ready_to_systemd() {
        let hostile = format!("x\nREADY=1\n{}", "ü".repeat(STATUS_LEN));
        let line = status_line(&Snapshot::default(), &[report(Condition::Waiting(hostile))], &[]);
        assert!(!line.contains('\n') && line.len() < STATUS_LEN + 4, "{line}");
    }

    #[test]
    fn systemd_hears_each_thing_when_it_is_true_and_the_rest_once() {
        use Notice::{Alive, MoreTime, Ready, Status, Stopping};
        let mut told = Told::default();
        let mut news = |phase, status: &str, alive| told.news(phase, status.into(), alive, true);
        assert_eq!(news(Phase::Starting, "s", true), [Status("s".into()), Alive, MoreTime]);
        assert_eq!(news(Phase::Starting, "s", true), [Alive, MoreTime]);
        assert_eq!(news(Phase::Running, "r", true), [Ready, Status("r".into()), Alive]);
        assert_eq!(news(Phase::Running, "r", true), [Alive]);
        assert_eq!(news(Phase::Running, "r", false), []);
        assert_eq!(news(Phase::Draining, "d", true), [Stopping, Status("d".into()), Alive, MoreTime]);
        assert_eq!(news(Phase::Draining, "d", false), []);
        assert_eq!(news(Phase::Stopped, "d", true), [Alive]);
    }

    #[test]
    fn a_stalled_loop_is_reported_once() {
        let source = Stalled { owner: "source".into(), silent_for: Duration::from_secs(31) };
        let longer = Stalled { silent_for: Duration::from_secs(41), ..source.clone() };
        let mut told = Told::default();
        let mut reported = |stalled: &[Stalled]| told.newly_stalled(stalled.to_vec()).len();
        let counts = [&[source.clone()][..], &[longer], &[], &[source]].map(&mut reported);
        assert_eq!(counts, [1, 0, 0, 1]);
    }

    #[tokio::test]
    #[ignore = "the child process of the test below"]
    async fn lives_under_a_service_manager() {
        let Some(manager) = ServiceManager::from_environment() else { return };
        let health = Health::new(Clock::machine());
        let (phase, phase_seen) = watch::channel(Phase::Starting);
        let told = tokio::spawn(manager.keep_informed(Watches::new(phase_seen, []), health));
        for next in [Phase::Running, Phase::Draining, Phase::Stopped] {
            tokio::time::sleep(Duration::from_millis(300)).await;
            phase.send(next).unwrap();
        }
        told.await.unwrap();
    }

    #[test]
    fn a_whole_life_is_told_over_a_real_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["ops::systemd::tests::lives_under_a_service_manager", "--exact", "--ignored"])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "300000")
            .env_remove("WATCHDOG_PID")
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();

        let mut heard = Vec::new();
        while !heard.iter().any(|line| line == "STATUS=stopped") {
            let mut buffer = [0; 4096];
            let len = socket.recv(&mut buffer).expect("the child tells of its end within 20 s");
            let message = std::str::from_utf8(&buffer[..len]).unwrap();
            heard.extend(message.lines().map(str::to_owned));
        }
        assert!(child.wait().unwrap().success());
        // These two come as often as the time that passes asks for.
        for repeated in ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=30000000"] {
            assert!(heard.iter().any(|line| line == repeated), "{heard:?}");
            heard.retain(|line| line != repeated);
        }
        let expected = ["STATUS=starting", "READY=1", "STATUS=", "STOPPING=1", "STATUS=draining", "STATUS=stopped"];
        assert_eq!(heard, expected);
    }
}
