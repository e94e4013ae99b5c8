//! What the simulated service writes down about every request.

use std::{collections::VecDeque, fmt, io};

use jiff::Timestamp;
use serde::Serialize;

use super::oracle::Window;
use crate::domain::{limit::Limit, time::BootTime};

/// Violations that are kept; all are counted.
const KEPT_VIOLATIONS: usize = 1_000;

/// One request to the API, permitted or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When it arrived, which is when it counts.
    pub at: BootTime,
    pub wall: Timestamp,
    pub path: Box<str>,
    /// The caller's `User-Agent`.
    pub instance: Option<Box<str>>,
    /// The answer's status; `None` where the connection was broken instead.
    pub status: Option<u16>,
    /// Every limit's window with this call in it.
    pub windows: Box<[Window]>,
}

/// Something the service's caller must never do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub at: BootTime,
    /// The path asked for, escaped and cut.
    pub path: Box<str>,
    pub what: Wrong,
}

/// What was wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It was the `calls`-th in a window of `limit`.
    OverTheLimit { limit: Limit, calls: usize },
    /// It asked for anything but the addresses of one alert.
    UnexpectedPath,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverTheLimit { limit, calls } => write!(f, "over the limit of {limit}: call {calls} of its window"),
            Self::UnexpectedPath => f.write_str("unexpected path"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = humantime::format_duration(self.at.since_origin());
        write!(f, "{}, {} at {at}", self.what, self.path)
    }
}

/// One line of the request log.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    path: &'a str,
    instance: Option<&'a str>,
    status: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    windows: Vec<WindowLine>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<String>,
}

#[derive(Serialize)]
struct WindowLine {
    limit: String,
    calls: usize,
}

/// Keeps the newest calls and the first violations, and writes the log where there is one.
pub(super) struct Records {
    keep: usize,
    pub(super) calls: VecDeque<Call>,
    pub(super) violations: Vec<Violation>,
    pub(super) violation_count: u64,
    log: Option<Box<dyn io::Write + Send>>,
    /// Why the log was given up, if it was.
    pub(super) log_failure: Option<String>,
}

impl Records {
    pub(super) fn new(keep: usize, log: Option<Box<dyn io::Write + Send>>) -> Self {
        let (calls, violations) = (VecDeque::new(), Vec::new());
        Self { keep, calls, violations, violation_count: 0, log, log_failure: None }
    }

    pub(super) fn add(&mut self, call: Call, wrongs: Vec<Wrong>) {
        if self.log.is_some() {
            let line = |window: &Window| WindowLine { limit: window.limit.to_string(), calls: window.calls };
            self.write(&Line {
                time: call.wall.to_string(),
                path: &call.path,
                instance: call.instance.as_deref(),
                status: call.status,
                windows: call.windows.iter().map(line).collect(),
                violations: wrongs.iter().map(Wrong::to_string).collect(),
            });
        }
        for what in wrongs {
            self.violation_count += 1;
            if self.violations.len() < KEPT_VIOLATIONS {
                let path = call.path.chars().take(256).flat_map(char::escape_default).collect::<String>().into();
                self.violations.push(Violation { at: call.at, path, what });
            }
        }
        if self.calls.len() == self.keep {
            self.calls.pop_front();
        }
        if self.keep > 0 {
            self.calls.push_back(call);
        }
    }

    /// A request to the sign-in: logged, not counted by any limit.
    pub(super) fn add_sign_in(&mut self, wall: Timestamp, path: &str, instance: Option<&str>, status: Option<u16>) {
        if self.log.is_some() {
            let time = wall.to_string();
            self.write(&Line { time, path, instance, status, windows: Vec::new(), violations: Vec::new() });
        }
    }

    fn write(&mut self, line: &Line<'_>) {
        let Some(log) = &mut self.log else { return };
        let written = serde_json::to_vec(line).map_err(io::Error::from).and_then(|mut bytes| {
            bytes.push(b'\n');
            log.write_all(&bytes)
        });
        if let Err(error) = written {
            self.log_failure = Some(error.to_string());
            self.log = None;
        }
    }
}
