//! Whole configurations: what loads, what does not, and in which words.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rstest::rstest;
use secrecy::ExposeSecret as _;

use super::{
    keys::{Fallback, KEYS},
    *,
};

mod broken;

const SECRET: &str = "s3cr3t~Value";

/// A configuration that lacks nothing.
const COMPLETE: &str = r#"
[kafka]
bootstrap_servers = "kafka-1:9092"

[accounts.contoso]
tenant_id = "11111111-2222-3333-4444-555555555555"
client_id = "66666666-7777-8888-9999-000000000000"
client_secret_file = "./client-secret"
"#;

/// A folder with a configuration file and a secret beside it.
struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn with(toml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("alert-ips.toml"), toml).unwrap();
        fs::write(folder.path().join("client-secret"), format!("{SECRET}\n")).unwrap();
        Self { folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("alert-ips.toml")
    }

    fn load(&self, flags: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<Loaded, Problems> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let flags: Vec<_> = flags.iter().map(owned).collect();
        let unknown = |name: &str, _: &str| (name == "no.such.property").then(|| "is unknown".to_owned());
        let loaded = Settings::load(Some(&self.file()), &flags, environment.iter().map(owned), unknown)?;
        match loaded.unusable_secrets {
            None => Ok(loaded),
            Some(problems) => Err(problems),
        }
    }

    /// The problems, with the folder's name left out.
    fn problems(&self, flags: &[(&str, &str)], environment: &[(&str, &str)]) -> String {
        let problems = self.load(flags, environment).expect_err("there is a problem");
        problems.to_string().replace(&format!("{}/", self.folder.path().display()), "")
    }
}

fn loaded(toml: &str) -> Loaded {
    Folder::with(toml).load(&[], &[]).unwrap()
}

fn effective<'a>(loaded: &'a Loaded, key: &str) -> &'a Effective {
    loaded.effective.iter().find(|effective| effective.key == key).unwrap()
}

#[test]
fn what_lacks_nothing_loads_with_the_defaults() {
    let folder = Folder::with(COMPLETE);
    let loaded = folder.load(&[], &[]).unwrap();
    assert_eq!(loaded.warnings, []);
    let settings = loaded.settings;
    let [account] = &settings.accounts[..] else { panic!("one account") };
    assert_eq!(account.limits.iter().map(ToString::to_string).collect::<Vec<_>>(), ["100 per 1m", "1500 per 1h"]);
    assert_eq!(account.max_in_flight.get(), 8);
    assert_eq!(account.journal_key(), "11111111-2222-3333-4444-555555555555/66666666-7777-8888-9999-000000000000");
    assert_eq!(account.client_secret.read().unwrap().expose_secret(), SECRET);
    assert_eq!(settings.priority.patience.of(crate::domain::alert::Severity::Low).as_secs(), 1800);
    assert_eq!(settings.input.max_open_bytes, 32 << 20);
    assert_eq!(settings.admin.listen.unwrap().to_string(), "127.0.0.1:9466");
    assert!(!settings.instance.name.is_empty());
    assert_eq!(settings.journal, Journal { kind: JournalKind::Kafka, assume_settings: false });
}

#[test]
fn environment_goes_before_the_file_and_flags_before_both() {
    let folder = Folder::with(&format!("{COMPLETE}[http]\nhead_timeout = \"11s\"\nconnect_timeout = \"1s\"\n"));
    let environment = [("ALERT_IPS_HTTP__HEAD_TIMEOUT", "12s"), ("ALERT_IPS_HTTP__TOTAL_TIMEOUT", "20s")];
    let loaded = folder.load(&[("http.total_timeout", "25s")], &environment).unwrap();
    let http = &loaded.settings.http;
    let seconds = [http.connect_timeout, http.head_timeout, http.total_timeout].map(|timeout| timeout.as_secs());
    assert_eq!(seconds, [1, 12, 25]);
    let source = |key: &str| effective(&loaded, key).source.to_string();
    assert_eq!(source("http.connect_timeout"), format!("{}:11", folder.file().display()));
    assert_eq!(source("http.head_timeout"), "environment variable ALERT_IPS_HTTP__HEAD_TIMEOUT");
    assert_eq!(source("http.total_timeout"), "flag --set");
    assert_eq!(source("http.proxy"), "default");
}

#[test]
fn the_environment_alone_is_enough() {
    let folder = Folder::with("");
    let environment = [
        ("ALERT_IPS_KAFKA__BOOTSTRAP_SERVERS", "kafka:9092"),
        ("ALERT_IPS_KAFKA__PROPERTIES__SASL_PASSWORD", SECRET),
        ("ALERT_IPS_TOPICS__INPUT", "a, b"),
        ("ALERT_IPS_INPUT__MAX_OPEN_RECORDS", "7"),
        ("ALERT_IPS_ACCOUNTS__CONTOSO__TENANT_ID", "contoso.example"),
        ("ALERT_IPS_ACCOUNTS__CONTOSO__CLIENT_ID", "1e5"),
        ("ALERT_IPS_ACCOUNTS__CONTOSO__CLIENT_SECRET", SECRET),
        ("ALERT_IPS_ACCOUNTS__CONTOSO__LIMITS", "20 per 1s, 60 per 10s"),
        ("ALERT_IPS_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    let loaded = folder.load(&[], &environment).unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.topics.input.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(settings.input.max_open_records, 7);
    assert_eq!(settings.kafka.properties.iter().collect::<Vec<_>>(), [("sasl.password", SECRET)]);
    let account = &settings.accounts[0];
    assert_eq!(account.client_id.as_ref(), "1e5");
    assert_eq!(account.client_secret.read().unwrap().expose_secret(), SECRET);
    assert_eq!(account.max_in_flight.get(), 5);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "default: accounts.contoso.max_in_flight: 5 is used instead of 8: a quarter of the smallest limit, which is 20 \
          calls"
        ]
    );
}

#[test]
fn secrets_are_never_shown() {
    let environment = [
        ("ALERT_IPS_ACCOUNTS__CONTOSO__CLIENT_SECRET", SECRET),
        ("ALERT_IPS_KAFKA__PROPERTIES__SASL_PASSWORD", SECRET),
    ];
    let toml =
        format!("{COMPLETE}[kafka.properties]\n\"ssl.key.password\" = \"{SECRET}\"\nsasl.jaas.config = \"{SECRET}\"\n");
    let loaded = Folder::with(&toml).load(&[], &environment).unwrap();
    let shown = format!("{loaded:?}{}{:?}", render_effective(&loaded), loaded.warnings);
    assert!(!shown.contains(SECRET), "{shown}");
    assert_eq!(effective(&loaded, "accounts.contoso.client_secret").value, "(secret)");
    assert_eq!(effective(&loaded, "kafka.properties.sasl.password").value, "(secret)");
    assert_eq!(loaded.settings.kafka.properties.iter().filter(|(_, value)| *value == SECRET).count(), 3);
    let unused = &loaded.warnings[0];
    assert_eq!(unused.key.as_deref(), Some("accounts.contoso.client_secret_file"));
}

#[rstest]
#[case::empty("", "is empty")]
#[case::two_lines("a\nb", "line break")]
fn an_unusable_secret_of_the_environment_is_told(#[case] secret: &str, #[case] words: &str) {
    let problems = Folder::with(COMPLETE).problems(&[], &[("ALERT_IPS_ACCOUNTS__CONTOSO__CLIENT_SECRET", secret)]);
    assert!(problems.contains("environment variable ALERT_IPS_ACCOUNTS__CONTOSO__CLIENT_SECRET"), "{problems}");
    assert!(problems.contains(words), "{problems}");
}

#[test]
fn a_bare_name_is_a_systemd_credential() {
    let folder = Folder::with(COMPLETE);
    let credentials = folder.folder.path().to_str().unwrap().to_owned();
    let flags = [("accounts.contoso.client_secret_file", "client-secret")];
    let loaded = folder.load(&flags, &[("CREDENTIALS_DIRECTORY", &credentials)]).unwrap();
    let secret = &loaded.settings.accounts[0].client_secret;
    assert_eq!(secret.path(), Some(folder.folder.path().join("client-secret").as_path()));
}

#[rstest]
#[case::host_name("http://localhost:8080")]
#[case::ipv4("http://127.9.9.9:8080")]
#[case::ipv6("http://[::1]:8080")]
fn a_simulated_service_on_loopback_may_speak_http(#[case] url: &str) {
    let loaded = Folder::with(COMPLETE).load(&[("accounts.contoso.api_url", url)], &[]).unwrap();
    assert_eq!(loaded.settings.accounts[0].api_url.scheme(), "http");
}

#[rstest]
#[case::of_the_file("[journal]\nkind = \"memory\"\nassume_settings = true", &[])]
#[case::of_the_environment("", &[("ALERT_IPS_JOURNAL__KIND", "memory"), ("ALERT_IPS_JOURNAL__ASSUME_SETTINGS", "true")])]
fn the_journal_can_be_chosen(#[case] added: &str, #[case] environment: &[(&str, &str)]) {
    let loaded = Folder::with(&format!("{COMPLETE}{added}\n")).load(&[], environment).unwrap();
    assert_eq!(loaded.settings.journal, Journal { kind: JournalKind::Memory, assume_settings: true });
}

#[test]
fn the_journals_key_is_the_same_however_its_ids_are_written() {
    let flags = [("accounts.contoso.tenant_id", "Contoso.Example"), ("accounts.contoso.client_id", "A1-B2")];
    let loaded = Folder::with(COMPLETE).load(&flags, &[]).unwrap();
    assert_eq!(loaded.settings.accounts[0].journal_key(), "contoso.example/a1-b2");
}

#[rstest]
#[case::quoted("\"2026-11-01T00:00:00Z\"")]
#[case::bare("2026-11-01T00:00:00Z")]
fn reading_may_start_at_a_time(#[case] time: &str) {
    let start = loaded(&format!("{COMPLETE}[input]\nstart = {time}\n")).settings.input.start;
    assert_eq!(start, Start::At("2026-11-01T00:00:00Z".parse().unwrap()));
}

#[test]
fn listening_beyond_loopback_is_a_warning() {
    let loaded = Folder::with(COMPLETE).load(&[("admin.listen", "0.0.0.0:9466")], &[]).unwrap();
    let warning = "flag --set: admin.listen: 0.0.0.0:9466 is reachable from other hosts, and there is no \
                   access control";
    assert_eq!(loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [warning]);
}

#[test]
fn admin_can_be_switched_off() {
    assert_eq!(loaded(&format!("{COMPLETE}[admin]\nlisten = \"\"\n")).settings.admin.listen, None);
}

/// Also shows that every default and every example can be read, which the code relies on.
#[test]
fn a_file_of_defaults_and_examples_alone_loads() {
    let folder = Folder::with("");
    let mut flags =
        vec![("accounts.contoso.client_secret_file", folder.folder.path().join("client-secret").display().to_string())];
    for key in KEYS {
        if let Fallback::Required(example) = key.fallback {
            flags.push((key.path, example.to_owned()));
        }
    }
    let flags: Vec<_> = flags.iter().map(|(path, value)| (path.replace('*', "contoso"), value.clone())).collect();
    let loaded = Settings::load(Some(&folder.file()), &flags, [], |_, _| None).unwrap();
    let listed: Vec<_> = loaded.effective.iter().map(|effective| effective.key.clone()).collect();
    let keys = KEYS.iter().filter(|key| key.fallback != Fallback::Environment);
    for key in keys {
        assert!(listed.contains(&key.path_for("contoso")), "{} is not listed", key.path);
    }
}

#[test]
fn every_known_key_is_read() {
    for key in KEYS.iter().filter(|key| key.path != "accounts.*.client_secret_file") {
        let path = key.path_for("contoso");
        let unreadable = [(path.as_str(), "\0")];
        assert!(Folder::with(COMPLETE).load(&unreadable, &[]).is_err(), "nobody reads {path}");
    }
}

#[test]
fn the_committed_sample_is_the_one_of_this_version() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/alert-ips.toml");
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == sample(),
        "config/alert-ips.toml is out of date; put this into it (`alert-ips config --sample` prints it):\n{}",
        sample()
    );
}

#[test]
fn the_sample_loads_with_every_value_at_its_default() {
    let identity = [
        ("kafka.bootstrap_servers", "kafka-1:9092"),
        ("accounts.contoso.tenant_id", "contoso.example"),
        ("accounts.contoso.client_id", "client"),
    ];
    let secret = ("ALERT_IPS_ACCOUNTS__CONTOSO__CLIENT_SECRET", SECRET);
    let values = |toml: &str| {
        let loaded = Folder::with(toml).load(&identity, &[secret]).unwrap();
        loaded.effective.into_iter().map(|effective| (effective.key, effective.value)).collect::<Vec<_>>()
    };
    assert_eq!(values(&sample()), values(""));
}

#[test]
fn effective_values_stand_beside_their_sources() {
    let loaded = Folder::with(COMPLETE).load(&[("log.level", "debug")], &[]).unwrap();
    let text = render_effective(&loaded);
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap();
    let (level, group) = (line("log.level"), line("kafka.group_id"));
    assert!(level.starts_with("log.level = \"debug\" ") && level.ends_with("  # flag --set"), "{level}");
    assert!(group.starts_with("kafka.group_id = \"alert-ips\" ") && group.ends_with("  # default"), "{group}");
    assert_eq!(level.find('#'), group.find('#'));
    assert!(line("kafka.bootstrap_servers").ends_with("alert-ips.toml:3"));
}
