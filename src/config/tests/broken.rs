//! Broken configurations, and the exact words about each.

use rstest::rstest;

use super::*;

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
#[case::key_of_an_account(
    "[http]\nscope = \"x\"",
    "alert-ips.toml:10: http.scope: unknown key; did you mean accounts.contoso.scope?"
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
#[case::mapping_without_an_id(
    "[input]\nformat = \"custom\"\ncustom.severity = \"/level\"",
    "default: input.custom.id: is empty; say where an alert has its id, such as \"/alert/id\""
)]
#[case::no_pointer(
    "[input]\ncustom.id = \"$.alert.id\"",
    "alert-ips.toml:10: input.custom.id: \"$.alert.id\" is no JSON pointer: a JSON pointer begins with `/`, as in \"/alert/id\""
)]
#[case::pointer_from_the_message(
    "[input]\ncustom.records = \"/data/alerts\"\ncustom.id = \"/data/alerts/id\"",
    "alert-ips.toml:10: input.custom.records: /data/alerts and /data/alerts/id begin in the same way, but /data/alerts is looked for in a message and /data/alerts/id in one alert of that list; write where it is within the alert"
)]
#[case::unknown_severity(
    "[filter]\nseverities = [\"high\", \"severe\"]",
    "alert-ips.toml:10: filter.severities: item 2: \"severe\" is unknown; available: high, medium, unspecified, low, informational"
)]
#[case::output_without_a_topic(
    "[outputs.splunk]\nformat = \"splunk-hec\"",
    "alert-ips.toml: outputs.splunk.topic: is missing; for example \"defender.alert-ips.splunk\""
)]
#[case::two_outputs_to_one_topic(
    "[outputs.splunk]\ntopic = \"defender.alert-ips\"",
    "alert-ips.toml:10: outputs.splunk.topic: topic defender.alert-ips is topics.output too; each must be another"
)]
#[case::scope_that_is_none(
    "[output]\nscopes = [\"internet\"]",
    "alert-ips.toml:10: output.scopes: item 1: \"internet\" is unknown; available: public, private, shared, loopback, link_local, documentation, multicast, unspecified, reserved"
)]
#[case::unknown_format(
    "[output]\nformat = \"xml\"",
    "alert-ips.toml:10: output.format: \"xml\" is unknown; available: json, splunk-hec, sentinel, ocsf, ecs, cloudevents"
)]
#[case::unknown_delivery(
    "[output]\ndelivery = \"at-most-once\"",
    "alert-ips.toml:10: output.delivery: \"at-most-once\" is unknown; available: at-least-once, exactly-once"
)]
#[case::unknown_journal(
    "[journal]\nkind = \"redis\"",
    "alert-ips.toml:10: journal.kind: \"redis\" is unknown; available: kafka, memory"
)]
#[case::assumption_in_quotes(
    "[journal]\nassume_settings = \"yes\"",
    "alert-ips.toml:10: journal.assume_settings: is text here, but must be true or false, without quotes"
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
#[case::journal_among_the_output(
    "[topics]\njournal = \"defender.alert-ips\"",
    "alert-ips.toml:10: topics.journal: topic defender.alert-ips is topics.output too; each must be another"
)]
#[case::reask_at_once(
    "[not_found]\nreask_after = [\"1m\", \"0s\"]",
    "alert-ips.toml:10: not_found.reask_after: item 2: \"0s\" is out of range; from 1s to 1d"
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
#[case::property_outside_its_section(
    "[http]\nca_file = \"\"\n[kafka.security]\nprotocol = \"SSL\"",
    "alert-ips.toml:11: kafka.security: unknown section; librdkafka's own properties stand in [kafka.properties]"
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
#[case::no_tenant("tenant_id", "", "is empty; fill it in")]
#[case::tenant_that_leaves_its_path("tenant_id", "../x", "\"../x\" holds a character that is none of A-Z a-z 0-9 . -")]
#[case::tenant_of_dots("tenant_id", "..", "\"..\" is no id")]
#[case::common_tenant("tenant_id", "common", "\"common\" is no tenant; a daemon signs in to one tenant: write its id")]
#[case::client_with_a_space("client_id", "a b", "\"a b\" holds a character that is none of A-Z a-z 0-9 . -")]
#[case::no_limits("limits", "[]", "is empty; name the service's limits, or every call may be one too many")]
#[case::two_limits_for_a_period(
    "limits",
    "100 per 1m, 200 per 60s",
    "names two limits for the same period; leave the larger one out"
)]
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
#[case::each_of_two_wrong_limits(
    "limits",
    "[\"100/1m\", \"60 per 1m\", { calls = 1 }]",
    "item 1: \"100/1m\" is no limit: a limit is written like \"100 per 1m\"; item 3: has no per; a limit is { calls = 100, per = \"1m\" }"
)]
#[case::limit_in_an_instant(
    "limits",
    "[{ calls = 1, per = \"10ms\" }]",
    "item 1: per: \"10ms\" is out of range; from 1s to 30d"
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
    "is missing; name the file that holds the secret, or, under systemd, the credential"
)]
#[case::credential_without_systemd(
    "client_secret_file",
    "client-secret",
    "\"client-secret\" is a bare name and so a systemd credential, but $CREDENTIALS_DIRECTORY is not set; run it under systemd with LoadCredential=client-secret:FILE, or write the path of the file (./client-secret for one beside this configuration)"
)]
#[case::secret_file_missing(
    "client_secret_file",
    "/nowhere/secret",
    "file /nowhere/secret can't be read: No such file or directory (os error 2); create it with the secret's value in it"
)]
#[case::secret_as_a_flag(
    "client_secret",
    "s3cr3t~Value",
    "is accepted from the environment alone (ALERT_IPS_ACCOUNTS__CONTOSO__CLIENT_SECRET); put the secret into a file that only the daemon can read, and that file's path into client_secret_file"
)]
fn a_broken_account_is_told_by_its_key(#[case] key: &str, #[case] value: &str, #[case] message: &str) {
    let key = format!("accounts.contoso.{key}");
    let problems = Folder::with(COMPLETE).problems(&[(&key, value)], &[]);
    assert_eq!(problems, format!("error: flag --set: {key}: {message}"));
}

#[test]
fn limits_that_starve_minor_alerts_are_refused() {
    let problems = Folder::with(COMPLETE).problems(&[("accounts.contoso.limits", "2 per 1s, 60 per 10s")], &[]);
    insta::assert_snapshot!(problems, @r#"
    error: flag --set: accounts.contoso.limits: 2 per 1s leaves no call for alerts below high severity: 2 by share 1, less 1 in flight and 1 in reserve; raise the limit or the share, or lower priority.reserve
    "#);
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let folder = Folder::with(
        "[kafka]\ngroup_id = 5\n[http]\nhead_timeout = \"soon\"\ntotal_timeout = \"5s\"\n[accounts.contoso]\n\
         tenant_id = \"\"\nclient_secret = \"s3cr3t~Value\"\nshare = 2\n",
    );
    let environment = [
        ("ALERT_IPS_ADMIN__LISTEN", "nowhere"),
        ("ALERT_IPS_LOG__LEVLE", "debug"),
        ("ALERT_IPS_KAFKA__PROPERTIES__NO_SUCH_PROPERTY", "1"),
    ];
    let problems = folder.problems(&[("retry.first", "never"), ("lgo.level", "info")], &environment);
    assert!(!problems.contains(SECRET));
    insta::assert_snapshot!(problems, @r#"
    error: alert-ips.toml: accounts.contoso.client_id: is missing; for example "66666666-7777-8888-9999-000000000000"
    error: alert-ips.toml: kafka.bootstrap_servers: is missing; for example "kafka-1:9092,kafka-2:9092"
    error: alert-ips.toml:2: kafka.group_id: is a number here, but must be text in quotes
    error: alert-ips.toml:4: http.head_timeout: "soon" is not a duration; write a number with its unit, such as "30s"
    error: alert-ips.toml:7: accounts.contoso.tenant_id: is empty; fill it in
    error: alert-ips.toml:8: accounts.contoso.client_secret: is accepted from the environment alone (ALERT_IPS_ACCOUNTS__CONTOSO__CLIENT_SECRET); put the secret into a file that only the daemon can read, and that file's path into client_secret_file
    error: alert-ips.toml:9: accounts.contoso.share: 2 is out of range; it must be a number above 0 and up to 1
    error: environment variable ALERT_IPS_ADMIN__LISTEN: admin.listen: "nowhere" is no address with a port; write "127.0.0.1:9466" or "[::1]:9466"
    error: environment variable ALERT_IPS_KAFKA__PROPERTIES__NO_SUCH_PROPERTY: kafka.properties.no.such.property: is unknown
    error: environment variable ALERT_IPS_LOG__LEVLE: log.levle: unknown key; did you mean log.level?
    error: flag --set: lgo: unknown section; did you mean log?
    error: flag --set: retry.first: "never" is not a duration; write a number with its unit, such as "30s"
    "#);
}

#[test]
fn a_secret_that_cannot_be_read_is_a_problem_only_for_those_who_need_it() {
    let folder = Folder::with(COMPLETE);
    std::fs::remove_file(folder.file().with_file_name("client-secret")).unwrap();
    let loaded = Settings::load(Some(&folder.file()), &[], [], |_, _| None).unwrap();
    let words = loaded.unusable_secrets.unwrap().to_string();
    assert!(words.contains("accounts.contoso.client_secret_file") && words.contains("create it"), "{words}");
    // Beside another problem both are told.
    assert_eq!(folder.problems(&[("retry.first", "never")], &[]).lines().count(), 2);
}

#[test]
fn syntax_errors_are_told_with_line_and_column_but_not_the_line_itself() {
    let folder = Folder::with("[kafka]\nbootstrap_servers = \"a:1\n[accounts.contoso]\nclient_secret = s3cr3t~Value\n");
    let problems = folder.problems(&[], &[("ALERT_IPS_LOG__LEVEL", "loud")]);
    assert!(!problems.contains("s3cr3t"), "{problems}");
    insta::assert_snapshot!(problems, @r#"
    error: alert-ips.toml:2: column 25: not valid TOML: invalid basic string, expected `"`
    error: alert-ips.toml:4: column 17: not valid TOML: string values must be quoted, expected literal string
    error: environment variable ALERT_IPS_LOG__LEVEL: log.level: "loud" is unknown; available: error, warn, info, debug, trace
    "#);
}

#[test]
fn a_missing_file_says_how_to_begin() {
    let error =
        Settings::load(Some(Path::new("/nowhere/alert-ips.toml")), &[], [], |_, _| None).unwrap_err().to_string();
    insta::assert_snapshot!(error, @r#"
    error: /nowhere/alert-ips.toml: there is no such file; `alert-ips config --sample` prints one to begin with, --config FILE names another place
    "#);
}

#[test]
fn an_empty_file_lacks_the_brokers_and_an_account() {
    insta::assert_snapshot!(Folder::with("").problems(&[], &[]), @r#"
    error: alert-ips.toml: accounts: there is no account; add a section [accounts.NAME] with tenant_id, client_id and client_secret_file
    error: alert-ips.toml: kafka.bootstrap_servers: is missing; for example "kafka-1:9092,kafka-2:9092"
    "#);
}
