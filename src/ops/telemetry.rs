//! Logs: one JSON object a line where a machine reads, text where a person does, always on stderr.
//!
//! stdout belongs to what commands print. Whatever comes from outside is escaped in both formats, so that no alert and
//! no answer can forge a line or drive a terminal.

use std::{
    ffi::OsStr,
    fmt::{self, Write as _},
    io::{self, IsTerminal},
    str::FromStr,
};

use tracing::{Subscriber, field::Field};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::MakeExt,
    filter::LevelFilter,
    fmt::{
        MakeWriter,
        format::{Writer, debug_fn},
    },
    layer::SubscriberExt,
};

pub use super::log_writer::LogGuard;
use super::{
    escape::{self, Escaping},
    log_writer::LogWriter,
};

/// Libraries that say little of use below `warn`; a filter that names one of them overrides this.
const QUIET: &str = "librdkafka=warn,rdkafka=warn,hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,tower=warn";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text where stderr is a terminal, else JSON.
    #[default]
    Auto,
    Text,
    Json,
}

/// Why logging can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error(
        "there is no log level \"{level}\": give error, warn, info, debug or trace, or a filter such as \
         info,alert_ips::kafka=debug"
    )]
    Level { level: String },
    #[error("the thread that writes the log can't be started: {0}")]
    Thread(#[from] io::Error),
    #[error("logging is set up already")]
    Twice,
}

/// Sends the whole process's logs to stderr from now on, until the end of the program drops the guard.
///
/// `level` is a level or a filter (`info,alert_ips::kafka=debug`). `NO_COLOR` turns colours off.
pub fn init(level: &str, format: LogFormat) -> Result<LogGuard, TelemetryError> {
    let terminal = io::stderr().is_terminal();
    let as_json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let colour = wants_colour(terminal, std::env::var_os("NO_COLOR").as_deref());
    let filter = filter(level)?;
    let (writer, guard) = LogWriter::spawn(io::stderr(), as_json)?;
    tracing::subscriber::set_global_default(subscriber(filter, as_json, colour, writer))
        .map_err(|_| TelemetryError::Twice)?;
    Ok(guard)
}

/// Colour is for terminals, and not for those who set `NO_COLOR` to anything (<https://no-color.org>).
fn wants_colour(terminal: bool, no_color: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty)
}

fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    // EnvFilter would take an unknown word for a target, and so silence everything else.
    let known = |directive: &str| {
        let directive = directive.trim();
        directive.contains('=') || (!directive.is_empty() && LevelFilter::from_str(directive).is_ok())
    };
    let filter = level.split(',').all(known).then(|| EnvFilter::try_new(format!("{QUIET},{level}")).ok()).flatten();
    filter.ok_or_else(|| TelemetryError::Level { level: escape::line(level) })
}

fn subscriber<W>(filter: EnvFilter, as_json: bool, colour: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // With `log_internal_errors` a failed write would go to `eprintln!`, which panics when stderr is gone.
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let lines = if as_json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    } else {
        lines.with_ansi(colour).fmt_fields(debug_fn(write_field).delimited(" ")).boxed()
    };
    Registry::default().with(filter).with(lines)
}

/// `name=value`, the message without its name, all escaped.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(Escaping(writer), "{value:?}"),
        name => {
            write!(writer, "{name}=")?;
            write!(Escaping(writer), "{value:?}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
        sync::{Arc, Mutex},
    };

    use rstest::rstest;

    use super::*;

    /// What `log` writes, through the writer that the daemon uses.
    fn logged(level: &str, as_json: bool, log: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Buffer(Arc<Mutex<Vec<u8>>>);
        impl Write for Buffer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let buffer = Buffer::default();
        let (writer, guard) = LogWriter::spawn(buffer.clone(), as_json).unwrap();
        tracing::subscriber::with_default(subscriber(filter(level).unwrap(), as_json, false, writer), log);
        drop(guard);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const HOSTILE: [&str; 8] = [
        "a\u{1b}]0;owned\u{7}b",
        "a\r\nb",
        "a\nb",
        "a\0b",
        "a\u{7f}b",
        "a\u{9b}31mb",
        "a\u{2028}b\u{2029}c",
        "a\\ud800b\u{fffd}c",
    ];

    #[test]
    fn a_json_line_is_one_object_whatever_is_logged() {
        for hostile in HOSTILE {
            let text = logged("info", true, || tracing::warn!(shown = %hostile, raw = hostile, "refused {hostile}"));
            let body = text.strip_suffix('\n').unwrap();
            assert!(body.chars().all(|c| !c.is_control() && !('\u{2028}'..='\u{2029}').contains(&c)), "{body:?}");

            let line: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(line["message"], format!("refused {hostile}"));
            assert_eq!((&line["shown"], &line["raw"]), (&hostile.into(), &hostile.into()));
            assert_eq!((&line["level"], &line["target"]), (&"WARN".into(), &"alert_ips::ops::telemetry::tests".into()));
            assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        }
    }

    #[test]
    fn a_text_line_is_one_line_whatever_is_logged() {
        for hostile in HOSTILE {
            let path = std::path::Path::new(hostile);
            let text = logged("info", false, || {
                tracing::warn!(shown = %hostile, raw = hostile, ?path, "refused {hostile}");
            });
            let body = text.strip_suffix('\n').unwrap();
            assert!(body.chars().all(|c| !c.is_control() && !('\u{2028}'..='\u{2029}').contains(&c)), "{body:?}");
            assert!(body.contains("WARN alert_ips::ops::telemetry::tests: refused a"), "{body:?}");
            assert!(body.contains(" shown=a") && body.ends_with('"'), "{body:?}");
        }
    }

    #[test]
    fn an_errors_text_is_escaped_too() {
        let error = io::Error::other("a\u{1b}[31m\nb");
        let error = &error as &(dyn std::error::Error + 'static);
        let text = logged("info", false, || tracing::error!(error, "failed"));
        assert!(text.contains(r"error=a\u{1b}[31m\nb"), "{text:?}");
        assert_eq!(text.lines().count(), 1);
    }

    #[rstest]
    #[case::library_chatter("debug", 1)]
    #[case::asked_for("debug,hyper=debug", 2)]
    #[case::own_chatter("info", 0)]
    fn libraries_are_quiet_unless_asked_for(#[case] level: &str, #[case] lines: usize) {
        let text = logged(level, true, || {
            tracing::debug!("ours");
            tracing::debug!(target: "hyper::client", "theirs");
        });
        assert_eq!(text.lines().count(), lines, "{text}");
    }

    #[rstest]
    #[case::misspelt("inof")]
    #[case::empty("")]
    #[case::misspelt_for_a_target("info,hyper=loud")]
    #[case::hostile("\u{1b}[31m")]
    fn an_unknown_level_is_refused_in_words(#[case] level: &str) {
        let error = filter(level).unwrap_err().to_string();
        assert!(error.starts_with("there is no log level"), "{error}");
        assert!(!error.contains('\u{1b}'));
    }

    #[rstest]
    #[case::terminal(true, None, true)]
    #[case::file(false, None, false)]
    #[case::asked_not_to(true, Some("1"), false)]
    #[case::set_to_nothing(true, Some(""), true)]
    fn colour_is_for_terminals_that_want_it(
        #[case] terminal: bool,
        #[case] no_color: Option<&str>,
        #[case] colour: bool,
    ) {
        assert_eq!(wants_colour(terminal, no_color.map(OsStr::new)), colour);
    }

    const CHILD: &str = "ALERT_IPS_TEST_LOGS_TO_CLOSED_STDERR";

    #[test]
    #[ignore = "the child process of the test below"]
    fn logs_and_ends() {
        if std::env::var_os(CHILD).is_some() {
            let guard = init("info", LogFormat::Auto).unwrap();
            for line in 0..10_000 {
                tracing::warn!(line, "nobody reads this");
            }
            drop(guard);
        }
    }

    #[test]
    fn a_closed_stderr_does_not_end_the_process() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["ops::telemetry::tests::logs_and_ends", "--exact", "--ignored", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stderr.take());
        assert!(child.wait().unwrap().success());
    }
}
