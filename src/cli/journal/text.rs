//! The journal for people: a line for each call and freeze, then the period in numbers.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use jiff::Timestamp;

use super::{super::topics::counted, history::Unreadable};
use crate::{
    domain::{
        audit::{Audit, Call, Cause, Declared, Free, Limited, Pause, Summary, Yield},
        budget::Room,
        limit::Limit,
        terms::Terms,
        time::JournalTime,
    },
    ops::escape,
};

/// Columns are never wider than this; what is longer pushes the rest of its line.
const WIDEST: usize = 44;

/// How wide the columns are whose content is not known beforehand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    instance: usize,
    alert: usize,
}

impl Columns {
    /// Wide enough for the calls of the period.
    pub(super) fn fitting(audit: &Audit) -> Self {
        let calls = audit.calls();
        let widest = |of: fn(&Call) -> usize, title: &str| {
            calls.iter().map(|call| of(call)).chain([title.len()]).max().unwrap_or_default().min(WIDEST)
        };
        Self {
            instance: widest(|call| instance(call.instance.as_deref()).chars().count(), "INSTANCE"),
            alert: widest(|call| call.alert.as_str().len(), "ALERT"),
        }
    }

    fn row(self, when: &str, instance: &str, alert: &str, severity: &str, why: &str, result: &str) -> String {
        let (instances, alerts) = (self.instance, self.alert);
        format!("{when:24}  {instance:instances$}  {alert:alerts$}  {severity:13}  {why:21}  {result}")
            .trim_end()
            .to_owned()
    }
}

/// All of the period of one account.
pub(super) fn history(
    account: &str,
    audit: &Audit,
    columns: Columns,
    summary: &Summary,
    unreadable: &Unreadable,
) -> String {
    let mut rows: Vec<(JournalTime, String)> =
        audit.calls().into_iter().map(|told| (told.at(), call(None, told, columns))).collect();
    let freezes = audit.pauses().map(|told| (told.from.unwrap_or(summary.since), pause(None, told, columns)));
    rows.extend(freezes);
    rows.sort_by_key(|(at, _)| *at);
    let mut text = String::new();
    if !rows.is_empty() {
        text = columns.row("CLAIMED", "INSTANCE", "ALERT", "SEVERITY", "WHY", "RESULT");
        for (_, row) in &rows {
            line(&mut text, row);
        }
        text.push('\n');
    }
    line(&mut text, &self::summary(account, summary, unreadable));
    text
}

/// One call; `label`: the account, where there are several.
pub(super) fn call(label: Option<&str>, call: &Call, columns: Columns) -> String {
    let severity = call.severity.map_or("-", |severity| severity.as_str());
    let mut row = columns.row(
        &when(call.at()),
        &instance(call.instance.as_deref()),
        call.alert.as_str(),
        severity,
        why(call.cause),
        &result(call),
    );
    if call.divergent {
        row.push_str(" (DIVERGENT: its claim was refused)");
    }
    labelled(label, row)
}

/// One freeze, or the end of one.
pub(super) fn pause(label: Option<&str>, pause: &Pause, columns: Columns) -> String {
    let from = pause.from.map_or_else(|| "before".to_owned(), when);
    let (who, why) = pause.by.as_ref().map_or(("-", ""), |(who, why)| (who, why));
    let what = if pause.is_end() { "UNFROZEN".to_owned() } else { format!("FROZEN until {}", when(pause.until)) };
    let why = if why.is_empty() { String::new() } else { format!(": {}", escape::line(why)) };
    labelled(label, format!("{from:24}  {:width$}  {what}{why}", instance(Some(who)), width = columns.instance))
}

/// One freeze in a sentence.
pub(super) fn freeze_words(pause: &Pause) -> String {
    let (who, why) = pause.by.as_ref().map_or(("-", "before what was read"), |(who, why)| (who, why));
    format!("the pause until {} ({}: {})", when(pause.until), escape::line(who), escape::line(why))
}

fn labelled(label: Option<&str>, row: String) -> String {
    match label {
        Some(label) => format!("{label}  {row}"),
        None => row,
    }
}

fn instance(name: Option<&str>) -> String {
    name.map_or_else(|| "-".to_owned(), escape::line)
}

const fn why(cause: Cause) -> &'static str {
    match cause {
        Cause::First => "first question",
        Cause::AfterNotFound => "again after a 404",
        Cause::AfterFailure => "again after a failure",
        Cause::AfterUnfinished => "goes on after a 2xx",
        Cause::Repeat => "repeat",
        Cause::Unknown => "-",
    }
}

fn result(call: &Call) -> String {
    let status = call.status().map_or_else(|| "broken off".to_owned(), |status| status.to_string());
    let took = call.took().map(|took| format!(" in {}", short(took))).unwrap_or_default();
    match call.led_to() {
        Yield::Outcome(outcome) => format!("{status} {}{took}", outcome.as_str()),
        Yield::NotYet | Yield::Failed => format!("{status}{took}"),
        Yield::Unfinished => format!("{status} unfinished{took}"),
        Yield::Unknown => format!("no answer{took}; the service may have counted it"),
        Yield::GivenUp => "never heard of again; the service may have counted it".to_owned(),
        Yield::Open => "on the wire".to_owned(),
        Yield::Never => format!("not reached{took}; not counted"),
        Yield::Unused => format!("permit not used{took}; not counted"),
    }
}

/// The period in numbers.
fn summary(account: &str, summary: &Summary, unreadable: &Unreadable) -> String {
    let mut text = format!("account {account}, {} to {}", when(summary.since), when(summary.until));
    let mut say = |label: &str, words: String| {
        line(&mut text, format!("  {label:15}  {words}").trim_end());
    };
    for (index, limited) in summary.limits.iter().enumerate() {
        say(if index == 0 { "fullest windows" } else { "" }, fullest(limited));
    }
    say("calls", calls(summary));
    if summary.calls > 0 {
        say("by instance", listed(&summary.instances, |name| instance(name.as_deref())));
    }
    let (not_counted, known): (Vec<Yield>, Vec<Yield>) =
        summary.results.keys().partition(|result| matches!(result, Yield::Never | Yield::Unused));
    for (label, which) in [("results", known), ("not counted", not_counted)] {
        if !which.is_empty() {
            say(label, results(summary, &which));
        }
    }
    say("refused claims", refused(summary));
    for (label, lines) in [("free now", free(summary)), ("terms", declared(&summary.terms))] {
        for (index, words) in lines.into_iter().enumerate() {
            say(if index == 0 { label } else { "" }, words);
        }
    }
    let copies = if summary.copies > 0 { format!(", {} copies of entries", summary.copies) } else { String::new() };
    say("journal", format!("{}{copies}", counted(summary.checkpoints, "checkpoint")));
    for words in remarks(summary, unreadable) {
        say("NOTE", words);
    }
    text
}

fn fullest(limited: &Limited) -> String {
    let Limit { calls, per } = limited.limit;
    let Some(fullest) = limited.fullest else { return format!("no call of {}", limited.limit) };
    let beyond = if fullest.calls > calls.get() as usize { ": MORE THAN THE LIMIT THAT IS IN FORCE NOW" } else { "" };
    format!("at most {} of {calls} calls in {}, up to {}{beyond}", fullest.calls, short(per), when(fullest.until))
}

fn calls(summary: &Summary) -> String {
    let causes = listed(&summary.causes, |cause| match cause {
        Cause::First => "for the first time".to_owned(),
        Cause::AfterNotFound => "again after a 404".to_owned(),
        Cause::AfterFailure => "again after a failure".to_owned(),
        Cause::AfterUnfinished => "to go on after a 2xx".to_owned(),
        Cause::Repeat => "repeated".to_owned(),
        Cause::Unknown => "claimed before what was read".to_owned(),
    });
    if summary.calls == 0 { "none".to_owned() } else { format!("{}: {causes}", summary.calls) }
}

fn results(summary: &Summary, which: &[Yield]) -> String {
    let failures = || {
        listed(&summary.failures, |status| {
            status.map_or_else(|| "broken off".to_owned(), |status| format!("x {status}"))
        })
    };
    let which = which.iter().map(|result| (*result, summary.results[result])).collect();
    listed(&which, |result| match result {
        Yield::Outcome(outcome) => outcome.as_str().to_owned(),
        Yield::NotYet => "not there yet (404)".to_owned(),
        Yield::Unfinished => "unfinished (2xx)".to_owned(),
        Yield::Failed => format!("failed ({})", failures()),
        Yield::Unknown => "without an answer".to_owned(),
        Yield::GivenUp => "never heard of again".to_owned(),
        Yield::Open => "on the wire".to_owned(),
        Yield::Never => "did not reach the service".to_owned(),
        Yield::Unused => "unused".to_owned(),
    })
}

fn refused(summary: &Summary) -> String {
    if summary.refused == 0 { "none".to_owned() } else { summary.refused.to_string() }
}

fn free(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    for limited in &summary.limits {
        if let Some((taken, high, others)) = limited.now {
            lines.push(format!("{}: {taken} taken; {high} for high alerts, {others} for others", limited.limit));
        }
    }
    let Some(Free { in_flight, frozen_until, next }) = summary.free else { return lines };
    match (frozen_until, next) {
        (Some(until), _) => {
            let left = short(until.saturating_since(summary.until));
            lines.push(format!("nothing: frozen until {} (for {left} more)", when(until)));
        }
        (None, Some((high, others))) => {
            let [high, others] = [high, others].map(|room| room_words(room, summary.until));
            lines.push(format!("next slot: for high alerts {high}, for others {others}"));
        }
        (None, None) => lines.push("nothing: no instance has declared what it holds itself to".to_owned()),
    }
    lines.push(format!("{in_flight} in flight"));
    lines
}

fn room_words(room: Room, now: JournalTime) -> String {
    match room {
        Room::Now => "now".to_owned(),
        Room::At(free) => format!("in {}", short(free.saturating_since(now))),
        Room::AfterAnEntry => "after the next answer".to_owned(),
    }
}

/// Instances with the same terms share a line.
fn declared(terms: &[Declared]) -> Vec<String> {
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for declared in terms {
        let since = declared.superseded.map(|since| format!(" (until {} or later)", when(since))).unwrap_or_default();
        let words = format!("{}{since}", terms_words(&declared.terms));
        let who = declared.instance.as_deref().map_or_else(|| format!("writer {}", declared.writer), escape::line);
        match lines.iter_mut().find(|(known, _)| *known == words) {
            Some((_, known)) if known.contains(&who) => {}
            Some((_, known)) => known.push(who),
            None => lines.push((words, vec![who])),
        }
    }
    if lines.is_empty() {
        return vec!["none are in force: no instance has declared any".to_owned()];
    }
    lines.into_iter().map(|(words, who)| format!("{}: {words}", who.join(", "))).collect()
}

fn terms_words(terms: &Terms) -> String {
    let limits: Vec<_> = terms.limits.iter().map(ToString::to_string).collect();
    let share = if terms.share < 1.0 { format!(", share {}", terms.share) } else { String::new() };
    format!("{}{share}, reserve {}, {} in flight", limits.join(" and "), terms.reserve, terms.max_in_flight)
}

/// What someone should know of.
fn remarks(summary: &Summary, unreadable: &Unreadable) -> Vec<String> {
    let mut remarks = Vec::new();
    match summary.begins {
        None => remarks.push("the journal holds no entry of this account".to_owned()),
        Some(begins) if begins > summary.since => remarks.push(format!(
            "the journal was read from {} on; what was spent before is not in these numbers",
            when(begins)
        )),
        Some(_) => {}
    }
    if summary.carried > 0 {
        remarks.push(
            "the journal was created anew while instances were at work, and they carried over what they knew: calls before \
             that are in the budget, but neither told nor counted here"
                .to_owned(),
        );
    }
    if summary.free.is_none() {
        remarks.push(
            "no checkpoint was read, so it is not known which claims were granted, nor what is free: what is told are the \
             claims that were answered"
                .to_owned(),
        );
    }
    if summary.unruled > 0 {
        remarks.push(format!("{} before the first checkpoint were not answered", counted(summary.unruled, "claim")));
    }
    if summary.divergent > 0 {
        remarks.push(format!(
            "{} on a claim that was refused: an instance of another version rules otherwise; run the same version \
             everywhere",
            made(summary.divergent)
        ));
    }
    if let Some((offset, why)) = &unreadable.first {
        remarks.push(format!("{} can't be read; the first, {offset}: {why}", counted(unreadable.count, "message")));
    }
    if let Some(version) = unreadable.newest_version {
        remarks.push(format!(
            "what messages of version {version} decide this program can't know, so what is told above may be wrong; update \
             this alert-ips"
        ));
    }
    remarks
}

fn made(calls: usize) -> String {
    if calls == 1 { "1 call was made".to_owned() } else { format!("{calls} calls were made") }
}

/// `3 these, 4 those`.
fn listed<T>(counts: &BTreeMap<T, usize>, words: impl Fn(&T) -> String) -> String {
    let mut listed = String::new();
    for (of, count) in counts {
        let separator = if listed.is_empty() { "" } else { ", " };
        // Writing to a string can't fail.
        let _ = write!(listed, "{separator}{count} {}", words(of));
    }
    listed
}

fn line(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(line);
}

/// As the journal's clock says, to the millisecond.
pub(super) fn when(time: JournalTime) -> String {
    let nanos = i128::try_from(time.since_origin().as_nanos()).unwrap_or(i128::MAX);
    format!("{:.3}", Timestamp::from_nanosecond(nanos).unwrap_or(Timestamp::MAX))
}

/// To the millisecond, and from ten seconds on to the second.
fn short(duration: Duration) -> String {
    let precise = Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    let shown = if precise.as_secs() >= 10 { Duration::from_secs(precise.as_secs()) } else { precise };
    humantime::format_duration(shown).to_string()
}
