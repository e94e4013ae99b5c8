//! The live view: both windows, who waits, what is answered, and the records as they come out.

use std::{collections::VecDeque, io, time::Duration};

use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{
    checks::seconds,
    show::{Became, Picture, Shown, clock_face, ips},
};
use crate::{
    domain::{alert::Severity, outcome::Status},
    observe::status::AccountStatus,
    sim::{Counts, Window},
};

/// Records kept to be shown: more than any terminal has lines.
const KEPT: usize = 200;

/// Widths of the record columns before the addresses.
const BEFORE_IPS: usize = 8 + 8 + 35 + 11;

/// The terminal, taken over until this is dropped.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    records: VecDeque<Shown>,
    palette: Palette,
}

/// Colours, or none.
#[derive(Clone, Copy)]
struct Palette {
    coloured: bool,
}

impl Screen {
    /// Takes the terminal over. It is given back also where the program panics.
    pub(super) fn open() -> io::Result<Self> {
        let coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let terminal = ratatui::try_init()?;
        Ok(Self { terminal, records: VecDeque::new(), palette: Palette { coloured } })
    }

    pub(super) fn draw(&mut self, picture: &Picture<'_>) -> io::Result<()> {
        let (records, palette) = (&self.records, self.palette);
        self.terminal.draw(|frame| draw(frame, picture, records, palette)).map(|_| ())
    }

    pub(super) fn record(&mut self, shown: Shown) {
        if self.records.len() == KEPT {
            self.records.pop_front();
        }
        self.records.push_back(shown);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Whether q, Esc or Ctrl-C was pressed on the terminal. Never waits.
pub(super) fn is_asked_to_end() -> io::Result<bool> {
    let mut asked = false;
    while event::poll(Duration::ZERO)? {
        if let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            asked |=
                matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || (control && key.code == KeyCode::Char('c'));
        }
    }
    Ok(asked)
}

impl Palette {
    fn style(self, color: Color) -> Style {
        if self.coloured { Style::new().fg(color) } else { Style::new() }
    }

    fn faint(self) -> Style {
        self.style(Color::DarkGray)
    }

    fn bold() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn severity(self, severity: Severity) -> Style {
        match severity {
            Severity::High => self.style(Color::Red).add_modifier(Modifier::BOLD),
            Severity::Medium => self.style(Color::Yellow),
            Severity::Unspecified => self.style(Color::Magenta),
            Severity::Low => self.style(Color::Cyan),
            Severity::Informational => self.style(Color::Blue),
        }
    }

    fn status(self, status: &str) -> Style {
        match status {
            "found" => self.style(Color::Green),
            "empty" => self.faint(),
            _ => self.style(Color::Yellow),
        }
    }
}

fn draw(frame: &mut Frame<'_>, picture: &Picture<'_>, records: &VecDeque<Shown>, palette: Palette) {
    let rows = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Length(u16::try_from(picture.windows.len().max(2)).unwrap_or(2)),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(6),
        Constraint::Length(1),
        Constraint::Min(2),
    ]);
    let [head, _, windows, pace, _, titles, figures, _, feed] = rows.areas(frame.area());
    draw_head(frame, head, picture);
    draw_windows(frame, windows, picture, palette);
    frame.render_widget(Paragraph::new(pace_line(picture.account, palette)), pace);
    draw_figures(frame, titles, figures, picture, palette);
    draw_records(frame, feed, records, palette);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, picture: &Picture<'_>) {
    let time = format!("{} of {}", clock_face(picture.elapsed), clock_face(picture.total));
    let end = "q ends it";
    let title = "alert-ips demo";
    let gap = usize::from(area.width).saturating_sub(title.len() + 2 + time.len() + end.len());
    let first =
        Line::from(vec![Span::styled(title, Palette::bold()), Span::raw(format!("  {time}{}{end}", " ".repeat(gap)))]);
    frame.render_widget(Paragraph::new(vec![first, Line::from(picture.act.to_owned())]), area);
}

fn draw_windows(frame: &mut Frame<'_>, area: Rect, picture: &Picture<'_>, palette: Palette) {
    let lines: Vec<_> = picture
        .windows
        .iter()
        .enumerate()
        .map(|(n, window)| {
            let used = picture.account.windows.get(n).map_or(0, |window| window.used);
            window_line(window, used, area.width, palette)
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn window_line(window: &Window, used: u32, width: u16, palette: Palette) -> Line<'static> {
    let calls = window.limit.calls.get();
    let name = format!("{:13}", window.limit.to_string());
    let figures = format!(" {used:3} of {calls} slots taken, fullest {}", window.worst);
    let room = usize::from(width).saturating_sub(name.len() + figures.len()).min(40);
    let colour = if window.was_exceeded() {
        Color::Red
    } else if u64::from(used) * 10 >= u64::from(calls) * 9 {
        Color::Yellow
    } else {
        Color::Green
    };
    let (full, empty) = bar(used as usize, calls as usize, room);
    Line::from(vec![
        Span::raw(name),
        Span::styled(full, palette.style(colour)),
        Span::styled(empty, palette.faint()),
        Span::raw(figures),
    ])
}

fn bar(part: usize, whole: usize, width: usize) -> (String, String) {
    let full = (part * width).div_ceil(whole.max(1)).min(width);
    ("█".repeat(full), "░".repeat(width - full))
}

fn pace_line(account: &AccountStatus, palette: Palette) -> Line<'static> {
    if let Some(pause) = &account.paused {
        let left = pause.remaining.map_or_else(String::new, |left| format!(", {} left", seconds(left)));
        return Line::styled(format!("paused: {}{left}", pause.why), palette.style(Color::Yellow));
    }
    let slot = match account.next_slot_in {
        Some(wait) => format!("next slot in {}", seconds(wait)),
        None => "a slot is free".to_owned(),
    };
    let mut words = vec![format!("{} on the wire", account.in_flight), slot];
    if account.time_to_empty >= Duration::from_secs(1) {
        words.push(format!("backlog empty in about {} s", account.time_to_empty.as_secs()));
    }
    if account.reask_waiting > 0 {
        words.push(format!("{} to be asked again", account.reask_waiting));
    }
    Line::from(words.join(", "))
}

fn draw_figures(frame: &mut Frame<'_>, titles: Rect, figures: Rect, picture: &Picture<'_>, palette: Palette) {
    let widths = [Constraint::Min(42), Constraint::Length(20), Constraint::Length(16)];
    let columns: [Rect; 3] = Layout::horizontal(widths).areas(figures);
    let heads: [Rect; 3] = Layout::horizontal(widths).areas(titles);
    for (area, title) in heads.into_iter().zip(["waiting          alerts  oldest", "came out", "API answers"]) {
        frame.render_widget(Paragraph::new(Line::styled(title, Palette::bold())), area);
    }
    let most = picture.account.backlog.iter().map(|backlog| backlog.waiting).max().unwrap_or_default().max(20);
    let waiting = Severity::ALL.iter().zip(&picture.account.backlog).map(|(severity, backlog)| {
        let oldest = if backlog.waiting > 0 { seconds(backlog.oldest) } else { String::new() };
        let room = usize::from(columns[0].width).saturating_sub(34).min(30);
        let (full, _) = bar(backlog.waiting, most, room);
        Line::from(vec![
            Span::styled(format!("{:15}", severity.as_str()), palette.severity(*severity)),
            Span::raw(format!("{:8}  {oldest:>6}  ", backlog.waiting)),
            Span::styled(full, palette.severity(*severity)),
        ])
    });
    frame.render_widget(Paragraph::new(waiting.collect::<Vec<_>>()), columns[0]);
    let outputs = Status::ALL.iter().zip(picture.tally.outputs);
    let mut out: Vec<_> =
        outputs.map(|(status, count)| Line::from(format!("{:12}{count:5}", status.as_str()))).collect();
    out.push(Line::from(format!("{:12}{:5}", "dead letters", picture.tally.dead_letters)));
    frame.render_widget(Paragraph::new(out), columns[1]);
    frame.render_widget(Paragraph::new(call_lines(picture.counts)), columns[2]);
}

fn call_lines(counts: &Counts) -> Vec<Line<'static>> {
    let mut lines: Vec<_> =
        counts.by_status.iter().map(|(status, count)| Line::from(format!("{status:<7}{count:5}"))).collect();
    if counts.broken > 0 {
        lines.push(Line::from(format!("{:7}{:5}", "broken", counts.broken)));
    }
    lines
}

fn draw_records(frame: &mut Frame<'_>, area: Rect, records: &VecDeque<Shown>, palette: Palette) {
    let room = usize::from(area.height).saturating_sub(1);
    let head = format!("{:>6}  {:8}{:35}{:11}{}", "waited", "severity", " alert", "became", "addresses");
    let mut lines = vec![Line::styled(head, Palette::bold())];
    let newest = records.iter().skip(records.len().saturating_sub(room));
    lines.extend(newest.map(|shown| record_line(shown, area.width, palette)));
    frame.render_widget(Paragraph::new(lines), area);
}

fn record_line(shown: &Shown, width: u16, palette: Palette) -> Line<'static> {
    let waited = shown.waited.map_or_else(String::new, seconds);
    let (name, severity) = match shown.severity {
        Some(severity) => (short(severity), palette.severity(severity)),
        None => ("", Style::new()),
    };
    let mut spans = vec![
        Span::styled(format!("{waited:>6}  "), palette.faint()),
        Span::styled(format!("{name:8}"), severity),
        Span::raw(format!(" {:34}", shown.about)),
    ];
    match &shown.became {
        Became::Output(status) => {
            spans.push(Span::styled(format!("{status:11}"), palette.status(status)));
            spans.push(Span::raw(ips(&shown.ips, usize::from(width).saturating_sub(BEFORE_IPS))));
        }
        Became::DeadLetter(reason) => {
            spans.push(Span::styled(format!("dead letter: {reason}"), palette.style(Color::Red)));
        }
    }
    Line::from(spans)
}

/// At most eight letters.
fn short(severity: Severity) -> &'static str {
    match severity {
        Severity::Unspecified => "unspec.",
        Severity::Informational => "info",
        other => other.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend, buffer::Cell};
    use rstest::rstest;

    use super::*;
    use crate::{
        cli::demo::show::Tally,
        observe::status::{BacklogStatus, Pause, WindowStatus},
    };

    fn drawn(width: u16, height: u16, paused: Option<Pause>) -> Vec<String> {
        let per = Duration::from_secs(20);
        let account = AccountStatus {
            windows: vec![WindowStatus { per, calls: 160, used: 151, left: 5 }],
            backlog: [BacklogStatus { waiting: 50, oldest: Duration::from_millis(9_800) }; 5],
            next_slot_in: Some(Duration::from_millis(300)),
            time_to_empty: Duration::from_secs(21),
            paused,
            ..AccountStatus::default()
        };
        let shown = |became, ips: &[&str]| Shown {
            severity: Some(Severity::Informational),
            about: "da637551227677560813_-961444813".to_owned(),
            became,
            ips: ips.iter().map(|text| text.parse().unwrap()).collect(),
            waited: Some(Duration::from_millis(12_300)),
        };
        let records = VecDeque::from([
            shown(Became::Output("found".to_owned()), &["104.80.104.128", "23.203.232.228"]),
            Shown { severity: None, waited: None, ..shown(Became::DeadLetter("not_json".to_owned()), &[]) },
        ]);
        let counts = Counts { by_status: [(200, 133), (429, 2)].into(), ..Counts::default() };
        let picture = Picture {
            elapsed: Duration::from_secs(23),
            total: Duration::from_mins(1),
            act: "a storm",
            begun: true,
            account: &account,
            windows: &[Window { limit: "160 per 20s".parse().unwrap(), calls: 151, worst: 153 }],
            counts: &counts,
            tally: &Tally { outputs: [127, 10, 1, 0], dead_letters: 5 },
        };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &picture, &records, Palette { coloured: false })).unwrap();
        let cells = terminal.backend().buffer().content();
        let lines = cells.chunks(usize::from(width)).map(|line| line.iter().map(Cell::symbol).collect());
        lines.map(|line: String| line.trim_end().to_owned()).collect()
    }

    #[test]
    fn eighty_columns_hold_every_figure() {
        let lines = drawn(80, 24, None);
        for whole in [
            "160 per 20s  ██████████████████████████████░ 151 of 160 slots taken, fullest 153",
            "0 on the wire, next slot in 0.3 s, backlog empty in about 21 s",
            "high                 50   9.8 s  ██████████ found         127   200      133",
            "informational        50   9.8 s  ██████████ dead letters    5",
            "12.3 s  info     da637551227677560813_-961444813   found      104.80.104.128 +1",
            "                 da637551227677560813_-961444813   dead letter: not_json",
        ] {
            assert!(lines.iter().any(|line| line == whole), "no line {whole:?} in:\n{}", lines.join("\n"));
        }
    }

    #[test]
    fn a_pause_says_why_and_for_how_long() {
        let pause =
            Pause { why: "the API is throttling".to_owned(), remaining: Some(Duration::from_secs(3)), lasting: false };
        let lines = drawn(80, 24, Some(pause));
        assert!(lines.contains(&"paused: the API is throttling, 3.0 s left".to_owned()), "{}", lines.join("\n"));
    }

    #[rstest]
    #[case::tiny(1, 1)]
    #[case::narrow(20, 50)]
    #[case::flat(200, 3)]
    fn any_size_is_drawn(#[case] width: u16, #[case] height: u16) {
        assert_eq!(drawn(width, height, None).len(), usize::from(height));
    }
}
