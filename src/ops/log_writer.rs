//! Takes log lines off the daemon's hands, so that a slow, full or closed stderr never holds it up.
//!
//! Lines go through a bounded queue to a thread of their own. When the queue is full they are dropped and counted, and
//! the count is logged once there is room. Errors of the output are ignored: there is nowhere left to report them.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait. At some 300 bytes each this is about a megabyte.
const QUEUE: usize = 4096;

/// How long the end of the program waits for the last lines.
const PATIENCE_AT_END: Duration = Duration::from_secs(1);

/// Where the formatting layer writes its lines: each call of `write` is one whole line.
#[derive(Clone, Debug)]
pub(super) struct LogWriter {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
    as_json: bool,
}

#[derive(Debug)]
enum Entry {
    Line(Box<str>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// Waits, when dropped, until the lines logged so far are written; at most a second.
#[must_use = "dropping it at once flushes at once: keep it until the program ends"]
#[derive(Debug)]
pub struct LogGuard(SyncSender<Entry>);

impl LogWriter {
    /// Starts the thread that writes to `output`. `as_json`: the lines are JSON, which is escaped in its own way.
    pub(super) fn spawn(output: impl Write + Send + 'static, as_json: bool) -> io::Result<(Self, LogGuard)> {
        let (queue, entries) = mpsc::sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Self { queue: queue.clone(), lost: lost.clone(), as_json };
        thread::Builder::new().name("log".into()).spawn(move || write_all(output, &entries, &lost))?;
        Ok((writer, LogGuard(queue)))
    }
}

fn write_all(mut output: impl Write, entries: &Receiver<Entry>, lost: &AtomicU64) {
    for entry in entries {
        match entry {
            Entry::Line(line) => {
                let _ = output.write_all(line.as_bytes());
            }
            Entry::Flush(done) => {
                let _ = output.flush();
                let _ = done.try_send(());
            }
        }
        let lines = lost.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(lines, "log lines were lost: stderr was too slow to take them");
        }
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let body = text.strip_suffix('\n').unwrap_or(&text);
        // Text lines were escaped field by field already: what is left of control characters is colour.
        let body = if self.as_json { super::escape::json(body) } else { body.to_owned() };
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Entry::Line((body + "\n").into())) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        const STEP: Duration = Duration::from_millis(10);
        let (done, finished) = mpsc::sync_channel(1);
        let mut flush = Entry::Flush(done);
        let mut waited = Duration::ZERO;
        while let Err(TrySendError::Full(back)) = self.0.try_send(flush) {
            if waited >= PATIENCE_AT_END {
                return;
            }
            thread::sleep(STEP);
            waited += STEP;
            flush = back;
        }
        let _ = finished.recv_timeout(PATIENCE_AT_END.saturating_sub(waited));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Lets nothing through until it is opened.
    struct Gate {
        opened: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error means the gate was opened for good.
            let _ = self.opened.recv();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_output_loses_lines_but_never_blocks() {
        let (open, opened) = mpsc::sync_channel(0);
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut writer, guard) = LogWriter::spawn(Gate { opened, written: written.clone() }, false).unwrap();

        // One line is in the thread's hands at most, the queue holds the others.
        for _ in 0..QUEUE + 10 {
            writer.write_all(b"line\n").unwrap();
        }
        let lost = writer.lost.load(Ordering::Relaxed);
        assert!((9..=10).contains(&lost), "{lost} lost");

        drop(open);
        drop(guard);
        let lines = written.lock().unwrap().len() / b"line\n".len();
        assert_eq!(lines as u64 + lost, QUEUE as u64 + 10);
    }

    #[test]
    fn a_closed_output_is_no_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let (mut writer, guard) = LogWriter::spawn(Closed, true).unwrap();
        writer.write_all(b"{}\n").unwrap();
        drop(guard);
        writer.write_all(b"{}\n").unwrap();
    }
}
