//! What commands print: results to stdout, everything else to stderr.

use std::io::{self, IsTerminal, Write};

use super::Exit;

/// A command's two outputs. A reader that went away (`alert-ips config | head`) is no error.
pub(super) struct Printer {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    terminal: bool,
    /// Why the result could not be printed.
    failed: Option<io::Error>,
    reader_is_gone: bool,
}

impl Printer {
    pub(super) fn standard() -> Self {
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            terminal: io::stderr().is_terminal(),
            failed: None,
            reader_is_gone: false,
        }
    }

    /// Prints one line, or several, of the command's result.
    pub(super) fn say(&mut self, text: &str) {
        let printed = writeln!(self.out, "{}", text.trim_end_matches('\n')).and_then(|()| self.out.flush());
        match printed {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.reader_is_gone = true,
            Err(error) => drop(self.failed.get_or_insert(error)),
        }
    }

    /// Whether nobody reads the result any more: a command without an end of its own ends then.
    pub(super) fn reader_is_gone(&self) -> bool {
        self.reader_is_gone
    }

    /// What a command's exit becomes if its result could not be printed: a full disk is told, a reader that went away is
    /// not.
    pub(super) fn conclude(&mut self, exit: Exit) -> Exit {
        match self.failed.take() {
            None => exit,
            Some(error) => {
                self.complain(&format!("error: the result could not be printed: {error}"));
                if exit == Exit::Done { Exit::No } else { exit }
            }
        }
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

/// Rows of a table, each column as wide as its widest cell. All rows have as many cells as the first.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A text of others for one line of the screen: what is no visible character is escaped.
pub(super) fn readable(text: &str) -> String {
    let shown =
        |char: char| if matches!(char, '\'' | '"') { char.to_string() } else { char.escape_debug().to_string() };
    text.chars().map(shown).collect()
}
