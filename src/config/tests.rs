//! Whole configurations: what loads, what does not, and in which words.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rstest::rstest;
use secrecy::ExposeSecret as _;

use super::{keys::Fallback, keys::KEYS, *};

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
        Settings::load(Some(&self.file()), &flags, environment.iter().map(owned))
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
    let loaded = loaded(COMPLETE);
    assert_eq!(loaded.warnings, []);
    let settings = loaded.settings;
    let [account] = &settings.accounts[..] else { panic!("one account") };
    assert_eq!(account.limits.iter().map(ToString::to_string).collect::<Vec<_>>(), ["100 per 1m", "1500 per 1h"]);
    assert_eq!(account.max_in_flight.get(), 8);
    assert_eq!(account.key(), "11111111-2222-3333-4444-555555555555/66666666-7777-8888-9999-000000000000");
    assert_eq!(account.client_secret.read().unwrap().expose_secret(), SECRET);
    assert_eq!(settings.priority.patience.of(crate::domain::alert::Severity::Low).as_secs(), 1800);
    assert_eq!(settings.input.max_open_bytes, 32 << 20);
    assert_eq!(settings.admin.listen.unwrap().to_string(), "127.0.0.1:9466");
    assert!(!settings.instance.name.is_empty());
}

/// Each row: what is added to a complete configuration, and what is said about it. Added after a complete one, a
/// section of the account's (`[accounts.contoso]`) would be a second; those rows use flags below.
#[rstest]
#[case::unknown_key(
    "[http]\nhaed_timeout = \"1s\"",
    "alert-ips.toml:10: http.haed_timeout: unknown key; did you mean http.head_timeout?"
)]
#[case::key_of_another_section(
    "[http]\nreserve = 0.1",
    "alert-ips.toml:10: http.reserve: unknown key; did you mean priority.reserve?"
)]
#[case::strange_key(
    "[http]\nfrobnicate = 1",
    "alert-ips.toml:10: http.frobnicate: unknown key; `alert-ips config --sample` lists every key"
)]
#[case::unknown_section("[htpp]\nhead_timeout = \"1s\"", "alert-ips.toml:9: htpp: unknown section; did you mean http?")]
#[case::section_as_a_value(
    "priority.patience = \"5m\"",
    "alert-ips.toml:9: accounts.contoso.priority: unknown section; `alert-ips config --sample` lists every key"
)]
#[case::value_as_a_section(
    "[input.start]\nat = 1",
    "alert-ips.toml:9: input.start: is a section here, but must be a value"
)]
#[case::duration_without_unit(
    "[http]\nhead_timeout = 10",
    "alert-ips.toml:10: http.head_timeout: is a number here, but must be a duration in quotes, such as \"30s\""
)]
#[case::duration_in_words(
    "[http]\nhead_timeout = \"soon\"",
    "alert-ips.toml:10: http.head_timeout: \"soon\" is not a duration; write a number with its unit, such as \"30s\""
)]
#[case::duration_of_nothing(
    "[http]\nhead_timeout = \"0s\"",
    "alert-ips.toml:10: http.head_timeout: \"0s\" is out of range; from 100ms to 10m"
)]
#[case::total_before_head(
    "[http]\ntotal_timeout = \"5s\"",
    "alert-ips.toml:10: http.total_timeout: 5s is less than http.head_timeout (10s); make it at least as long"
)]
#[case::longest_before_first(
    "[retry]\nlongest = \"1s\"\nfirst = \"2s\"",
    "alert-ips.toml:10: retry.longest: 1s is less than retry.first (2s); make it at least as long"
)]
#[case::size_without_unit(
    "[input]\nmax_open_bytes = 4096",
    "alert-ips.toml:10: input.max_open_bytes: is a number here, but must be a size in quotes, such as \"4MiB\""
)]
#[case::size_too_small(
    "[input]\nmax_open_bytes = \"1KiB\"",
    "alert-ips.toml:10: input.max_open_bytes: \"1KiB\" is out of range; from 1.0 MiB to 64.0 GiB"
)]
#[case::no_records(
    "[input]\nmax_open_records = 0",
    "alert-ips.toml:10: input.max_open_records: 0 is out of range; it must be a whole number from 1 to 10000000"
)]
#[case::number_in_quotes(
    "[input]\nmax_open_records = \"5\"",
    "alert-ips.toml:10: input.max_open_records: is text here, but must be a whole number from 1 to 10000000, without quotes"
)]
#[case::start_in_words(
    "[input]\nstart = \"yesterday\"",
    "alert-ips.toml:10: input.start: \"yesterday\" is neither earliest nor latest nor a time such as \"2026-11-01T00:00:00Z\""
)]
#[case::planned_format(
    "[output]\nformat = \"splunk-hec\"",
    "alert-ips.toml:10: output.format: \"splunk-hec\" is not available in this version; available: json"
)]
#[case::unknown_format(
    "[output]\nformat = \"xml\"",
    "alert-ips.toml:10: output.format: \"xml\" is unknown; available: json"
)]
#[case::planned_delivery(
    "[output]\ndelivery = \"exactly-once\"",
    "alert-ips.toml:10: output.delivery: \"exactly-once\" is not available in this version; available: at-least-once"
)]
#[case::planned_journal(
    "[journal]\nkind = \"kafka\"",
    "alert-ips.toml:10: journal.kind: \"kafka\" is not available in this version; available: memory"
)]
#[case::greedy_reserve(
    "[priority]\nreserve = 0.6",
    "alert-ips.toml:10: priority.reserve: 0.6 is out of range; it must be a number from 0 to 0.5"
)]
#[case::listening_on_a_name(
    "[admin]\nlisten = \"localhost:9466\"",
    "alert-ips.toml:10: admin.listen: \"localhost:9466\" is no address with a port; write \"127.0.0.1:9466\" or \"[::1]:9466\""
)]
#[case::proxy_with_a_password(
    "[http]\nproxy = \"http://me:s3cr3t~Value@proxy:3128\"",
    "alert-ips.toml:10: http.proxy: holds a user name or a password; leave them out"
)]
#[case::proxy_of_another_kind(
    "[http]\nproxy = \"socks5://proxy:1080\"",
    "alert-ips.toml:10: http.proxy: must begin with http:// or https://"
)]
#[case::topic_with_a_space(
    "[topics]\noutput = \"a b\"",
    "alert-ips.toml:10: topics.output: \"a b\" holds a character that is none of a-z A-Z 0-9 . _ -"
)]
#[case::topic_of_dots("[topics]\noutput = \"..\"", "alert-ips.toml:10: topics.output: \"..\" is no name for a topic")]
#[case::no_input("[topics]\ninput = []", "alert-ips.toml:10: topics.input: is empty; name at least one topic")]
#[case::input_as_text(
    "[topics]\ninput = \"a\"",
    "alert-ips.toml:10: topics.input: is text here, but must be a list in brackets"
)]
#[case::loop_of_topics(
    "[topics]\noutput = \"defender.alerts\"",
    "alert-ips.toml:10: topics.output: topic defender.alerts is topics.input too; each must be another"
)]
#[case::input_twice(
    "[topics]\ninput = [\"a\", \"a\"]",
    "alert-ips.toml:10: topics.input: topic a is twice in it; each must be another"
)]
#[case::reask_at_once(
    "[not_found]\nreask_after = [\"1m\", \"0s\"]",
    "alert-ips.toml:10: not_found.reask_after: item 2: \"0s\" is out of range; from 1s to 1day"
)]
#[case::owned_property(
    "[kafka.properties]\n\"enable.auto.commit\" = true",
    "alert-ips.toml:10: kafka.properties.enable.auto.commit: can't be set here: the daemon commits itself, and only what is settled"
)]
#[case::owned_property_without_quotes(
    "[kafka.properties]\ngroup.id = \"x\"",
    "alert-ips.toml:10: kafka.properties.group.id: can't be set here: use kafka.group_id"
)]
#[case::property_list(
    "[kafka.properties]\n\"debug\" = []",
    "alert-ips.toml:10: kafka.properties.debug: must be text in quotes, a number, or true or false"
)]
#[case::account_in_upper_case(
    "[accounts.Fabrikam]\ntenant_id = \"aaaaaaaa-2222-3333-4444-555555555555\"\nclient_id = \"b\"\nclient_secret_file = \"./client-secret\"",
    "alert-ips.toml:9: accounts.Fabrikam: an account's name has 1 to 64 lower-case letters, digits, _ and -"
)]
#[case::registration_twice(
    "[accounts.twin]\ntenant_id = \"11111111-2222-3333-4444-555555555555\"\nclient_id = \"66666666-7777-8888-9999-000000000000\"\nclient_secret_file = \"./client-secret\"",
    "alert-ips.toml:10: accounts.twin.tenant_id: is the same app registration as accounts.contoso; leave one out"
)]
#[case::tenant_twice(
    "[accounts.twin]\ntenant_id = \"11111111-2222-3333-4444-555555555555\"\nclient_id = \"other\"\nclient_secret_file = \"./client-secret\"",
    "alert-ips.toml:10: accounts.twin.tenant_id: is the tenant of accounts.contoso too; one account for each tenant"
)]
#[case::tenant_by_domain_among_several(
    "[accounts.second]\ntenant_id = \"fabrikam.example\"\nclient_id = \"other\"\nclient_secret_file = \"./client-secret\"",
    "alert-ips.toml:10: accounts.second.tenant_id: must be the tenant's id (a GUID), not a domain: with several accounts an alert goes to the one of its tenant id"
)]
#[case::ca_file_missing(
    "[http]\nca_file = \"nowhere.pem\"",
    "alert-ips.toml:10: http.ca_file: file nowhere.pem can't be read: No such file or directory (os error 2)"
)]
fn a_broken_file_is_told_with_its_line(#[case] added: &str, #[case] problem: &str) {
    assert_eq!(Folder::with(&format!("{COMPLETE}{added}\n")).problems(&[], &[]), format!("error: {problem}"));
}

/// Each row: one key of the account, set to something broken, and what is said about it.
#[rstest]
#[case::plain_http(
    "api_url",
    "http://api.example",
    "must begin with https:// (http:// is accepted on loopback alone, for a simulated service): the token and the secret would cross the network readable"
)]
#[case::deceptive_loopback(
    "api_url",
    "http://localhost.example",
    "must begin with https:// (http:// is accepted on loopback alone, for a simulated service): the token and the secret would cross the network readable"
)]
#[case::loopback_as_a_user(
    "api_url",
    "http://127.0.0.1@api.example",
    "holds a user name or a password; leave them out"
)]
#[case::no_url("authority_url", "login", "is no URL: relative URL without a base")]
#[case::other_scheme("authority_url", "ftp://login.example", "must begin with https://")]
#[case::query("api_url", "https://api.example?a=b", "holds a query (?) or a fragment (#); leave it out")]
#[case::fragment("api_url", "https://api.example#a", "holds a query (?) or a fragment (#); leave it out")]
#[case::no_tenant("tenant_id", "", "is empty")]
#[case::tenant_that_leaves_its_path("tenant_id", "../x", "\"../x\" holds a character that is none of A-Z a-z 0-9 . -")]
#[case::tenant_of_dots("tenant_id", "..", "\"..\" is no id")]
#[case::common_tenant("tenant_id", "common", "\"common\" is no tenant; a daemon signs in to one tenant: write its id")]
#[case::client_with_a_space("client_id", "a b", "\"a b\" holds a character that is none of A-Z a-z 0-9 . -")]
#[case::no_limits("limits", "[]", "is empty; name the service's limits, or every call may be one too many")]
#[case::limit_in_other_words(
    "limits",
    "100/1m",
    "item 1: \"100/1m\" is no limit: a limit is written like \"100 per 1m\""
)]
#[case::limit_without_calls(
    "limits",
    "[{ per = \"1m\" }]",
    "item 1: has no calls; a limit is { calls = 100, per = \"1m\" }"
)]
#[case::limit_with_an_unknown_key(
    "limits",
    "[{ calls = 1, each = \"1m\" }]",
    "item 1: unknown key \"each\"; a limit is { calls = 100, per = \"1m\" }"
)]
#[case::limit_in_an_instant(
    "limits",
    "[{ calls = 1, per = \"10ms\" }]",
    "item 1: per: \"10ms\" is out of range; from 1s to 1month 13h 29m 48s"
)]
#[case::no_share("share", "0", "0 is out of range; it must be a number above 0 and up to 1")]
#[case::share_over_all("share", "1.1", "1.1 is out of range; it must be a number above 0 and up to 1")]
#[case::share_that_is_no_number("share", "nan", "NaN is out of range; it must be a number above 0 and up to 1")]
#[case::share_in_words("share", "half", "is text here, but must be a number above 0 and up to 1, without quotes")]
#[case::nothing_in_flight("max_in_flight", "0", "0 is out of range; it must be a whole number from 1 to 1024")]
#[case::scope_with_a_space("scope", "a b", "\"a b\" holds a character that is none of printable ASCII")]
#[case::no_secret(
    "client_secret_file",
    "",
    "is missing; name the file that holds the client secret, or, under systemd, the credential"
)]
#[case::credential_without_systemd(
    "client_secret_file",
    "client-secret",
    "\"client-secret\" is a bare name and so a systemd credential, but $CREDENTIALS_DIRECTORY is not set; run it under systemd with LoadCredential=client-secret:FILE, or write the path of the file (./client-secret for one beside this configuration)"
)]
#[case::secret_file_missing(
    "client_secret_file",
    "/nowhere/secret",
    "file /nowhere/secret can't be read: No such file or directory (os error 2); create it with the client secret's value in it"
)]
#[case::secret_as_a_flag(
    "client_secret",
    "s3cr3t~Value",
    "is accepted from the environment alone (ALERT_IPS_ACCOUNTS__CONTOSO__CLIENT_SECRET); put the secret into a file that only the daemon can read, and that file's path into client_secret_file"
)]
fn a_broken_account_is_told_by_its_key(#[case] key: &str, #[case] value: &str, #[case] message: &str) {
    let key = format!("accounts.contoso.{key}");
    let problems = Folder::with(COMPLETE).problems(&[(&key, value)], &[]);
    assert_eq!(problems, format!("error: flag --set {key}: {key}: {message}"));
}

#[test]
fn limits_that_starve_minor_alerts_are_refused() {
    let problems = Folder::with(COMPLETE).problems(&[("accounts.contoso.limits", "2 per 1s, 60 per 10s")], &[]);
    insta::assert_snapshot!(problems, @"");
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let folder = Folder::with(
        "[kafka]\ngroup_id = 5\n[http]\nhead_timeout = \"soon\"\ntotal_timeout = \"5s\"\n[accounts.contoso]\n\
         tenant_id = \"\"\nclient_secret = \"s3cr3t~Value\"\nshare = 2\n",
    );
    let environment = [("ALERT_IPS_ADMIN__LISTEN", "nowhere"), ("ALERT_IPS_LOG__LEVLE", "debug")];
    let problems = folder.problems(&[("retry.first", "never"), ("lgo.level", "info")], &environment);
    assert!(!problems.contains(SECRET));
    insta::assert_snapshot!(problems, @"");
}

#[test]
fn syntax_errors_are_told_with_line_and_column_but_not_the_line_itself() {
    let folder = Folder::with("[kafka]\nbootstrap_servers = \"a:1\n[accounts.contoso]\nclient_secret = s3cr3t~Value\n");
    let problems = folder.problems(&[], &[("ALERT_IPS_LOG__LEVEL", "loud")]);
    assert!(!problems.contains("s3cr3t"), "{problems}");
    insta::assert_snapshot!(problems, @"");
}

#[test]
fn a_missing_file_says_how_to_begin() {
    let error = Settings::load(Some(Path::new("/nowhere/alert-ips.toml")), &[], []).unwrap_err().to_string();
    insta::assert_snapshot!(error, @"");
}

#[test]
fn an_empty_file_lacks_the_brokers_and_an_account() {
    insta::assert_snapshot!(Folder::with("").problems(&[], &[]), @"");
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
    assert_eq!(source("http.total_timeout"), "flag --set http.total_timeout");
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
#[case::quoted("\"2026-11-01T00:00:00Z\"")]
#[case::bare("2026-11-01T00:00:00Z")]
fn reading_may_start_at_a_time(#[case] time: &str) {
    let start = loaded(&format!("{COMPLETE}[input]\nstart = {time}\n")).settings.input.start;
    assert_eq!(start, Start::At("2026-11-01T00:00:00Z".parse().unwrap()));
}

#[test]
fn listening_beyond_loopback_is_a_warning() {
    let loaded = Folder::with(COMPLETE).load(&[("admin.listen", "0.0.0.0:9466")], &[]).unwrap();
    let warning = "flag --set admin.listen: admin.listen: 0.0.0.0:9466 is reachable from other hosts, and there is no \
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
    let loaded = Settings::load(Some(&folder.file()), &flags, []).unwrap();
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
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("kafka.bootstrap_servers").starts_with("kafka.bootstrap_servers = \"kafka-1:9092\" "));
    let column = |line: &str| line.find("  # ").unwrap();
    assert!(line("log.level = \"debug\"").ends_with("  # flag --set log.level"));
    assert_eq!(line("log.level").rfind('#'), line("kafka.group_id").rfind('#'), "{}", column(&line("log.level")));
}
