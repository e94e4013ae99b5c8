//! What the person at the demo sees: a live view on a terminal, plain lines elsewhere.

use std::{io, time::Duration};

use super::{
    checks::seconds,
    screen::{Screen, is_asked_to_end},
};
use crate::{
    cli::print::Printer,
    domain::{alert::Severity, outcome::Status},
    observe::status::AccountStatus,
    sim::{Counts, Window},
};

/// Outputs that are printed as examples of each status, where there is no live view.
const EXAMPLES: usize = 1;
/// Dead letters that are.
const DEAD_LETTERS_TOLD: usize = 6;

/// The demo at one moment.
pub(super) struct Picture<'a> {
    pub(super) elapsed: Duration,
    pub(super) total: Duration,
    /// What goes on, in words.
    pub(super) act: &'a str,
    /// Whether alerts are coming.
    pub(super) begun: bool,
    pub(super) account: &'a AccountStatus,
    /// As the simulated service counts.
    pub(super) windows: &'a [Window],
    pub(super) counts: &'a Counts,
    pub(super) tally: &'a Tally,
}

/// What came out so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// By [`Status::ALL`].
    pub(super) outputs: [usize; Status::ALL.len()],
    pub(super) dead_letters: usize,
}

/// One record that came out.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// `None` where no single alert is meant.
    pub(super) severity: Option<Severity>,
    pub(super) about: String,
    pub(super) became: Became,
    pub(super) ips: Vec<std::net::IpAddr>,
    /// From the message's Kafka timestamp on.
    pub(super) waited: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Became {
    Output(String),
    /// For this reason.
    DeadLetter(String),
}

impl Tally {
    pub(super) fn count(&mut self, became: &Became) {
        match became {
            Became::Output(status) => {
                if let Some(at) = Status::ALL.iter().position(|known| known.as_str() == status) {
                    self.outputs[at] += 1;
                }
            }
            Became::DeadLetter(_) => self.dead_letters += 1,
        }
    }

    fn of(&self, became: &Became) -> usize {
        match became {
            Became::Output(status) => {
                let at = Status::ALL.iter().position(|known| known.as_str() == status);
                at.map_or(0, |at| self.outputs[at])
            }
            Became::DeadLetter(_) => self.dead_letters,
        }
    }
}

/// Where the demo is shown.
pub(super) enum Show<'p> {
    Live(Box<Screen>),
    Plain(Lines<'p>),
}

impl<'p> Show<'p> {
    /// `live`: stdout is a terminal that can be drawn on.
    pub(super) fn open(live: bool, total: Duration, printer: &'p mut Printer) -> io::Result<Self> {
        if live {
            return Ok(Self::Live(Box::new(Screen::open()?)));
        }
        let every = (total / 12).clamp(Duration::from_secs(2), Duration::from_secs(30));
        Ok(Self::Plain(Lines { printer, every, next: Duration::ZERO }))
    }

    /// Shows the present.
    pub(super) fn draw(&mut self, picture: &Picture<'_>) -> io::Result<()> {
        match self {
            Self::Live(screen) => screen.draw(picture),
            Self::Plain(lines) => {
                lines.draw(picture);
                Ok(())
            }
        }
    }

    /// Something begins: what `draw` shows as `act` from now on.
    pub(super) fn announce(&mut self, elapsed: Duration, words: &str) {
        if let Self::Plain(lines) = self {
            lines.printer.say(&format!("{}  {words}", clock_face(elapsed)));
        }
    }

    /// A record came out; `tally` counts it already.
    pub(super) fn record(&mut self, elapsed: Duration, shown: Shown, tally: &Tally) {
        match self {
            Self::Live(screen) => screen.record(shown),
            Self::Plain(lines) => lines.record(elapsed, &shown, tally),
        }
    }

    /// Whether the person pressed a key that ends the demo.
    pub(super) fn is_asked_to_end(&self) -> io::Result<bool> {
        match self {
            Self::Live(_) => is_asked_to_end(),
            Self::Plain(_) => Ok(false),
        }
    }
}

/// A line every few seconds, and one for what is worth it in between.
pub(super) struct Lines<'p> {
    printer: &'p mut Printer,
    every: Duration,
    next: Duration,
}

impl Lines<'_> {
    fn draw(&mut self, picture: &Picture<'_>) {
        if picture.elapsed < self.next || !picture.begun {
            return;
        }
        self.next = picture.elapsed + self.every;
        let spent =
            picture.account.windows.iter().map(|window| {
                format!("{}/{} per {}", window.used, window.calls, humantime::format_duration(window.per))
            });
        let out: usize = picture.tally.outputs.iter().sum();
        self.printer.say(&format!(
            "{}  calls {}; {}; {}, {}",
            clock_face(picture.elapsed),
            spent.collect::<Vec<_>>().join(", "),
            waiting_words(picture.account),
            counted(out, "output"),
            counted(picture.tally.dead_letters, "dead letter"),
        ));
    }

    fn record(&mut self, elapsed: Duration, shown: &Shown, tally: &Tally) {
        let told = match shown.became {
            Became::Output(_) => EXAMPLES,
            Became::DeadLetter(_) => DEAD_LETTERS_TOLD,
        };
        if tally.of(&shown.became) > told {
            return;
        }
        let words = match &shown.became {
            Became::Output(status) => {
                let ips =
                    if shown.ips.is_empty() { String::new() } else { format!(": {}", ips(&shown.ips, usize::MAX)) };
                format!("the first {status} came out: alert {}{ips}", shown.about)
            }
            Became::DeadLetter(reason) => format!("dead letter: {reason} ({})", shown.about),
        };
        self.printer.say(&format!("{}  {words}", clock_face(elapsed)));
    }
}

fn waiting_words(account: &AccountStatus) -> String {
    let waiting = Severity::ALL.iter().zip(&account.backlog).filter(|(_, backlog)| backlog.waiting > 0);
    let waiting: Vec<_> = waiting.map(|(severity, backlog)| format!("{} {severity}", backlog.waiting)).collect();
    let oldest = account.backlog.iter().map(|backlog| backlog.oldest).max().unwrap_or_default();
    let words = match waiting.as_slice() {
        [] => "nothing waits".to_owned(),
        some => format!("{} wait (oldest {})", some.join(", "), seconds(oldest)),
    };
    match &account.paused {
        Some(pause) => format!("{words}; paused: {}", pause.why),
        None => words,
    }
}

/// As many addresses as fit into `width` characters, and how many more there are.
pub(super) fn ips(ips: &[std::net::IpAddr], width: usize) -> String {
    let mut text = String::new();
    for (n, ip) in ips.iter().enumerate() {
        let left = ips.len() - n - 1;
        let separator = if n == 0 { "" } else { ", " };
        let one = format!("{separator}{ip}");
        let more = if left > 0 { format!(" +{left}") } else { String::new() };
        if n > 0 && text.len() + one.len() + more.len() > width {
            return format!("{text} +{}", left + 1);
        }
        text += &one;
    }
    text
}

/// `1 call`, `2 calls`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `01:23`.
pub(super) fn clock_face(time: Duration) -> String {
    format!("{:02}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::all(100, "10.0.0.1, 10.0.0.2, 10.0.0.3")]
    #[case::two(23, "10.0.0.1, 10.0.0.2 +1")]
    #[case::one(12, "10.0.0.1 +2")]
    #[case::at_least_one(1, "10.0.0.1 +2")]
    fn addresses_are_cut_to_what_fits(#[case] width: usize, #[case] text: &str) {
        let addresses: Vec<_> = (1..=3).map(|n| format!("10.0.0.{n}").parse().unwrap()).collect();
        assert_eq!(ips(&addresses, width), text);
    }
}
