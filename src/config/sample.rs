//! The sample file: every key with its default and what it means.

use super::keys::{Fallback, KEYS, Key, SECTIONS};

/// The account's name in the sample.
pub(super) const ACCOUNT: &str = "contoso";

const HEAD: &str = "\
# alert-ips: every key, its default, what it means.
#
# Fill in kafka.bootstrap_servers and the account's identity; everything else can go or stay.
# Then: alert-ips check --config FILE
#
# Durations and sizes carry their unit (\"30s\", \"5m\", \"1h\", \"30d\"; \"4MiB\"). Unknown keys are errors.
# The environment beats this file (ALERT_IPS_KAFKA__BOOTSTRAP_SERVERS sets kafka.bootstrap_servers), and flags
# (--set KEY=VALUE) beat both; `alert-ips config` shows what holds and where it comes from.
";

/// The text of the sample file, which is complete but for what has no default: the brokers and the account's identity.
pub fn sample() -> String {
    let mut text = HEAD.to_owned();
    for section in SECTIONS {
        text.push('\n');
        comment(&mut text, section.doc);
        let mut keys = String::new();
        let name = section.path.replacen("accounts.*", &format!("accounts.{ACCOUNT}"), 1);
        line(&mut keys, &format!("[{}]", name.replacen("outputs.*", "outputs.splunk", 1)));
        comment(&mut keys, section.examples);
        for key in KEYS.iter().filter(|key| key.section() == section.path) {
            if key.fallback != Fallback::Environment {
                comment(&mut keys, key.doc);
                value(&mut keys, key);
            }
        }
        // Where it stands, there is an output more.
        if section.path == "outputs.*" { comment(&mut text, &keys) } else { text.push_str(&keys) }
    }
    text
}

fn value(text: &mut String, key: &Key) {
    match key.fallback {
        Fallback::Value(value) => line(text, &format!("{} = {value}", key.name())),
        Fallback::Required(example) => line(text, &format!("{} = \"\" # for example {example}", key.name())),
        Fallback::HostName => line(text, &format!("# {} = \"host-1\"", key.name())),
        Fallback::Environment => {}
    }
}

fn comment(text: &mut String, doc: &str) {
    for doc_line in doc.lines() {
        line(text, format!("# {doc_line}").trim_end());
    }
}

fn line(text: &mut String, content: &str) {
    text.push_str(content);
    text.push('\n');
}
