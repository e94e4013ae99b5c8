//! What commands print: results to stdout, everything else to stderr.

use std::io::{self, IsTerminal, Write};

/// A command's two outputs. A reader that went away (`alert-ips config | head`) is no error.
pub(super) struct Printer {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    terminal: bool,
}

impl Printer {
    pub(super) fn standard() -> Self {
        Self { out: Box::new(io::stdout()), err: Box::new(io::stderr()), terminal: io::stderr().is_terminal() }
    }

    /// Prints one line, or several, of the command's result.
    pub(super) fn say(&mut self, text: &str) {
        let _ = writeln!(self.out, "{}", text.trim_end_matches('\n')).and_then(|()| self.out.flush());
    }

    /// Prints a problem.
    pub(super) fn complain(&mut self, text: &str) {
        let _ = writeln!(self.err, "{}", text.trim_end_matches('\n'));
    }

    /// Shows where the command stands, on one line that the next call replaces; nothing where no person looks.
    pub(super) fn progress(&mut self, text: &str) {
        if self.terminal {
            let _ = write!(self.err, "\r\x1b[2K{text}").and_then(|()| self.err.flush());
        }
    }
}
