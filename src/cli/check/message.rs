//! What the daemon would read from a message: for whoever maps a shape of their own.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use jiff::Timestamp;

use super::super::{
    Exit,
    print::{Printer, aligned},
    topics::counted,
};
use crate::{
    config::Settings,
    daemon,
    decode::{Decoded, Indexed, schema_id},
    domain::alert::Alert,
};

/// Tells of each alert in the file what is known of it. `-` is standard input.
pub(super) fn tell(file: &Path, settings: &Settings, now: Timestamp, printer: &mut Printer) -> Exit {
    let payload = if file == Path::new("-") {
        let mut payload = Vec::new();
        io::stdin().read_to_end(&mut payload).map(|_| payload)
    } else {
        fs::read(file)
    };
    let payload = match payload {
        Ok(payload) => payload,
        Err(error) => {
            printer.complain(&format!("error: the message {} can't be read: {error}", file.display()));
            return Exit::No;
        }
    };
    if let (Some(registry), Some((id, _))) = (&settings.input.registry, schema_id(&payload)) {
        printer.say(&format!(
            "it is written with the schema {id}, for which the daemon asks {}: what it says can't be shown here",
            registry.url
        ));
        return Exit::Done;
    }
    let decoded = daemon::decoder(settings).decode(Some(&payload), now);
    printer.say(&text(&decoded, settings, now));
    if decoded.rejection.is_none() { Exit::Done } else { Exit::No }
}

fn text(Decoded { alerts, skips, rejection, .. }: &Decoded, settings: &Settings, now: Timestamp) -> String {
    let mut text = vec![format!("the message holds {}", counted(alerts.len(), "alert"))];
    if !alerts.is_empty() {
        let head = ["PLACE", "ID", "SEVERITY", "TENANT", "UPDATED", "CREATED", "IS"].map(str::to_owned).to_vec();
        let rows = alerts.iter().map(|alert| row(alert, settings, now));
        text.push(aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    }
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for skip in skips {
        match counts.iter_mut().find(|(reason, _)| *reason == skip.as_str()) {
            Some((_, count)) => *count += 1,
            None => counts.push((skip.as_str(), 1)),
        }
    }
    text.extend(counts.iter().map(|(reason, count)| format!("{} skipped: {reason}", counted(*count, "item"))));
    if let Some(rejection) = rejection {
        let (reason, remedy) = (rejection.reason, rejection.reason.remedy());
        text.push(format!("it becomes a dead letter, {}: {}\n{remedy}", reason.as_str(), rejection.detail));
    }
    text.join("\n")
}

fn row(Indexed { index, alert, .. }: &Indexed, settings: &Settings, now: Timestamp) -> Vec<String> {
    let untold = || "-".to_owned();
    let time = |time: Option<Timestamp>| time.map_or_else(untold, |time| time.to_string());
    vec![
        index.to_string(),
        alert.id.as_str().to_owned(),
        alert.severity.to_string(),
        alert.tenant.as_deref().map_or_else(untold, str::to_owned),
        time(alert.updated),
        // What its age counts from where nothing else tells a time.
        time(alert.creation()),
        fate(alert, settings, now),
    ]
}

/// What becomes of it.
fn fate(alert: &Alert, settings: &Settings, now: Timestamp) -> String {
    let is_its = |tenant_id: &str| alert.tenant.as_deref().is_some_and(|tenant| tenant.eq_ignore_ascii_case(tenant_id));
    let account = match settings.accounts.as_slice() {
        [only] => Some(only),
        several => several.iter().find(|account| is_its(&account.tenant_id)),
    };
    match account {
        None => "a dead letter: unknown_tenant".to_owned(),
        Some(_) if alert.is_older_than(settings.input.max_age, now) => "expired (input.max_age)".to_owned(),
        Some(account) => format!("asked with {}", account.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-18T11:06:40Z.
    const NOW: Timestamp = Timestamp::constant(1_795_000_000, 0);

    /// What is said of a message, with a mapping and an account for each of these tenants.
    fn told(payload: &str, tenants: &[&str]) -> String {
        let accounts = tenants.iter().enumerate().flat_map(|(n, tenant)| {
            [("tenant_id", *tenant), ("client_id", *tenant), ("client_secret_file", "/none")]
                .map(|(key, value)| (format!("accounts.a{n}.{key}"), value.to_owned()))
        });
        let mapped = [("records", "/items"), ("id", "/alert/key"), ("severity", "/alert/prio"), ("tenant", "/org")];
        let mapped = mapped.map(|(key, value)| (format!("input.custom.{key}"), value.to_owned()));
        let brokers = [("kafka.bootstrap_servers".to_owned(), "kafka-1:9092".to_owned())];
        let flags: Vec<_> = accounts.chain(mapped).chain(brokers).collect();
        let settings = Settings::load(Some("/dev/null".as_ref()), &flags, [], |_, _| None).unwrap().settings;
        text(&daemon::decoder(&settings).decode(Some(payload.as_bytes()), NOW), &settings, NOW)
    }

    #[test]
    fn each_alert_is_shown_with_what_is_known_of_it_and_what_becomes_of_it() {
        let payload = r#"{"org":"22222222-0000-0000-0000-000000000000","items":[{"alert":{"key":"a","prio":"HIGH"}},
            {"alert":{"key":"da637551227677560813_-961444813","prio":"P1"}},{"alert":{"key":"fa637551227677560813_1"}}]}"#;
        let tenants = ["11111111-0000-0000-0000-000000000000", "22222222-0000-0000-0000-000000000000"];
        let text = told(payload, &tenants);
        let lines: Vec<Vec<_>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect())
            .collect();
        assert_eq!(lines[0], ["the message holds 2 alerts"]);
        assert_eq!(lines[2], ["0", "a", "high", tenants[1], "-", "-", "asked with a1"]);
        assert_eq!(
            lines[3][2..],
            ["unspecified", tenants[1], "-", "2021-04-27T12:19:27.7560813Z", "expired (input.max_age)"]
        );
        assert_eq!(lines[4], ["1 item skipped: other_product"]);
        assert!(
            told(payload, &["33333333-0000-0000-0000-000000000000", tenants[0]])
                .contains("a dead letter: unknown_tenant")
        );
    }

    #[test]
    fn what_can_not_be_used_is_told_with_its_remedy() {
        let text = told(r#"{"itemz":[]}"#, &["11111111-0000-0000-0000-000000000000"]);
        for words in [
            "holds 0 alerts",
            "it becomes a dead letter, unknown_shape",
            "`itemz`",
            "`/alert/key`",
            "`/items`",
            "[input.custom]",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
