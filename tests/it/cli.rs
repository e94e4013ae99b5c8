//! The program as its users run it: arguments in, words and exit codes out.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use alert_ips::{
    clock::Clock,
    sim::{Answer, Client, Mix, Outage, Plan, Settings, SignInAnswer, Sim, http::Server},
};
use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext, types::RDKafkaRespErr};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Far longer than anything takes; reached only by a failure.
const LONG: Duration = Duration::from_mins(1);

/// Must be in no output.
const SECRET: &str = "canary-7f3a~secret";
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "66666666-7777-8888-9999-000000000000";

/// What a command left behind.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
        let ended = Self {
            code: output.status.code().expect("it was not killed"),
            out: text(output.stdout),
            err: text(output.stderr),
        };
        assert!(!ended.all().contains(SECRET), "the secret is shown: {}", ended.all());
        ended
    }
}

impl Ended {
    fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// The one line of stdout that begins with `mark`, then `about`.
    fn line(&self, mark: &str, about: &str) -> &str {
        let of = |line: &&str| line.strip_prefix(mark).is_some_and(|rest| rest.trim_start().starts_with(about));
        let mut lines = self.out.lines().filter(of);
        let line = lines.next().unwrap_or_else(|| panic!("no line {mark} {about} in\n{}", self.all()));
        assert_eq!(lines.next(), None, "{}", self.out);
        line
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alert-ips"));
    command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn alert_ips(arguments: &[&str]) -> Ended {
    timeout(LONG, command(arguments).output()).await.expect("it ends").unwrap().into()
}

/// A configuration file with its secret beside it.
struct Config {
    folder: tempfile::TempDir,
}

impl Config {
    /// For an account at `service` and brokers at `brokers`.
    fn new(service: &str, brokers: &str) -> Self {
        Self::of(&format!(
            "[kafka]\nbootstrap_servers = \"{brokers}\"\n\
             [accounts.contoso]\ntenant_id = \"{TENANT}\"\nclient_id = \"{CLIENT}\"\n\
             client_secret_file = \"./client-secret\"\napi_url = \"{service}\"\nauthority_url = \"{service}\"\n"
        ))
    }

    fn of(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("alert-ips.toml"), text).unwrap();
        std::fs::write(folder.path().join("client-secret"), SECRET).unwrap();
        Self { folder }
    }

    fn file(&self) -> String {
        self.path("alert-ips.toml").display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn run(&self, command: &str, arguments: &[&str]) -> Ended {
        let file = self.file();
        alert_ips(&[&[command, "--config", &file], arguments].concat()).await
    }
}

/// A service that knows the account, and answers about `da1_1` and `da2_2` as the tests expect.
async fn service() -> (Sim, String) {
    let mut settings = Settings::new(1);
    settings.plan = Plan::new(1, Mix::ALL_FOUND)
        .script("da1_1", vec![Answer::Found(vec!["104.80.104.128".into(), "::1".into()])])
        .script("da2_2", vec![Answer::NotFound])
        .script("da3_3", vec![Answer::status(400)])
        .script("da000000000000000000_0", vec![Answer::NotFound]);
    settings.clients =
        vec![Client { tenant_id: TENANT.into(), client_id: CLIENT.into(), client_secret: SECRET.into() }];
    let sim = Sim::new(settings, Clock::machine());
    let server = Server::bind(sim.clone(), SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let origin = server.origin();
    tokio::spawn(server.run(CancellationToken::new()));
    (sim, origin)
}

/// An address where nobody listens.
fn nobody() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn brokers(topics: &[&str]) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    for topic in topics {
        cluster.create_topic(topic, 3, 1).unwrap();
    }
    cluster
}

const TOPICS: [&str; 4] =
    ["defender.alerts", "defender.alert-ips", "defender.alert-ips.dead-letters", "defender.alert-ips.journal"];

/// The embedded broker does not tell the settings of its topics.
const ASSUMED: &str = "journal.assume_settings=true";

#[rstest]
#[case::no_command(&[])]
#[case::unknown_command(&["serve"])]
#[case::unknown_flag(&["check", "--offline"])]
#[case::no_assignment(&["check", "--set", "kafka"])]
#[case::no_id(&["lookup"])]
#[case::no_limit(&["simulate", "--limits", "100/1m"])]
#[case::no_address(&["simulate", "--listen", "everywhere"])]
#[tokio::test]
async fn a_wrong_command_line_ends_with_64(#[case] arguments: &[&str]) {
    let ended = alert_ips(arguments).await;
    assert_eq!((ended.code, ended.out.as_str()), (64, ""), "{}", ended.err);
    assert!(ended.err.contains("Usage:") || ended.err.contains("error:"), "{}", ended.err);
}

#[rstest]
#[case::help(&["--help"], "check")]
#[case::version(&["--version"], env!("CARGO_PKG_VERSION"))]
#[case::check_names_its_price(&["check", "--help"], "one call of each account's limits")]
#[case::topics_names_its_codes(&["topics", "--help"], "78")]
#[tokio::test]
async fn help_goes_to_stdout_and_ends_with_0(#[case] arguments: &[&str], #[case] expected: &str) {
    let ended = alert_ips(arguments).await;
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    assert!(ended.out.split_whitespace().collect::<Vec<_>>().join(" ").contains(expected), "{}", ended.out);
}

#[tokio::test]
async fn every_problem_is_told_at_once_with_its_place() {
    let config = Config::of("[kafka]\nbootstrap_server = \"a:1\"\n[retry]\nfirst = \"soon\"\n");
    let ended = config.run("check", &["--set", "log.level=loud"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (78, ""), "{}", ended.err);
    let file = config.file();
    for expected in [
        format!("error: {file}:2: kafka.bootstrap_server: "),
        format!("error: {file}:4: retry.first: "),
        "error: flag --set: log.level: ".to_owned(),
        "there is no account".to_owned(),
    ] {
        assert!(ended.err.contains(&expected), "no {expected} in\n{}", ended.err);
    }
}

#[tokio::test]
async fn a_property_that_librdkafka_does_not_know_is_told_with_its_line() {
    let config = Config::new("http://127.0.0.1:1", "localhost:9092");
    let text = std::fs::read_to_string(config.file()).unwrap();
    std::fs::write(config.file(), format!("{text}[kafka.properties]\n\"security.protokol\" = \"SSL\"\n")).unwrap();
    for command in ["check", "run"] {
        let ended = config.run(command, &[]).await;
        assert_eq!(ended.code, 78);
        let expected = format!("{}:10: kafka.properties.security.protokol: ", config.file());
        assert!(ended.err.contains(&expected), "{}", ended.err);
    }
}

/// Nothing is begun: there are no brokers, and it does not wait for any.
#[tokio::test]
async fn a_crash_point_that_does_not_exist_is_told_with_those_that_do() {
    let config = Config::new(&format!("http://{}", nobody()), &nobody());
    let file = config.file();
    let mut run = command(&["run", "--config", &file]);
    run.env("ALERT_IPS_CRASH_AT", "claim.taken:1");
    let ended: Ended = timeout(LONG, run.output()).await.expect("it ends").unwrap().into();
    assert_eq!(ended.code, 78, "{}", ended.all());
    assert!(ended.err.contains("\"claim.taken:1\"") && ended.err.contains("claim.granted"), "{}", ended.err);
}

#[rstest]
#[case::check("check")]
#[case::config("config")]
#[case::topics("topics")]
#[case::run("run")]
#[tokio::test]
async fn a_missing_file_is_a_configuration_error(#[case] command: &str) {
    let ended = alert_ips(&[command, "--config", "/nowhere/alert-ips.toml"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (78, ""));
    assert!(ended.err.contains("/nowhere/alert-ips.toml: there is no such file"), "{}", ended.err);
}

#[tokio::test]
async fn a_valid_configuration_is_summed_up_and_nothing_is_tried() {
    let (sim, origin) = service().await;
    let config = Config::new(&origin, &nobody());
    let ended = config.run("check", &["--set", "accounts.contoso.share=0.2"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out.starts_with(&format!("ok: {}: ", config.file())), "{}", ended.out);
    for expected in [
        TENANT,
        "100 per 1m and 1500 per 1h (share 0.2)",
        "5 in flight",
        "group alert-ips",
        TOPICS[0],
        TOPICS[2],
        TOPICS[3],
    ] {
        assert!(ended.out.contains(expected), "no {expected} in\n{}", ended.out);
    }
    assert!(ended.err.contains("warning: default: accounts.contoso.max_in_flight: 5 is used"), "{}", ended.err);
    assert_eq!((sim.counts().sign_ins, sim.counts().calls), (0, 0));
}

#[tokio::test]
async fn the_effective_configuration_shows_where_values_come_from_and_no_secret() {
    let config = Config::new("https://api.example", "localhost:9092");
    let file = config.file();
    let mut command = command(&["config", "--config", &file, "--set", "log.level=debug"]);
    command
        .env("ALERT_IPS_ACCOUNTS__CONTOSO__CLIENT_SECRET", SECRET)
        .env("ALERT_IPS_KAFKA__PROPERTIES__SASL_PASSWORD", SECRET)
        .env("ALERT_IPS_KAFKA__GROUP_ID", "second");
    let ended = Ended::from(command.output().await.unwrap());
    assert_eq!(ended.code, 0, "{}", ended.err);
    let lines: Vec<Vec<&str>> = ended.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let place = format!("{file}:2");
    for expected in [
        ["kafka.bootstrap_servers", "=", "\"localhost:9092\"", "#", &place].as_slice(),
        &["kafka.group_id", "=", "\"second\"", "#", "environment", "variable", "ALERT_IPS_KAFKA__GROUP_ID"],
        &["log.level", "=", "\"debug\"", "#", "flag", "--set"],
        &["log.format", "=", "\"auto\"", "#", "default"],
    ] {
        assert!(lines.iter().any(|line| line == expected), "no {expected:?} in\n{}", ended.out);
    }
    assert!(ended.out.contains("kafka.properties.sasl.password = (secret)"), "{}", ended.out);
}

#[tokio::test]
async fn the_printed_sample_is_a_file_to_begin_with() {
    let sample = alert_ips(&["config", "--sample"]).await;
    let config = Config::of(&sample.out);
    let ended = config.run("check", &[]).await;
    assert_eq!(ended.code, 78);
    // What is left to fill in, and nothing else.
    let keys: Vec<&str> = ended.err.lines().filter_map(|line| line.split(": ").nth(2)).collect();
    let expected = ["bootstrap_servers", "tenant_id", "client_id", "client_secret_file"];
    assert_eq!(keys.len(), expected.len(), "{}", ended.err);
    assert!(keys.iter().zip(expected).all(|(key, expected)| key.ends_with(expected)), "{}", ended.err);
}

#[tokio::test]
async fn what_works_is_said_to_and_costs_one_call() {
    let (sim, origin) = service().await;
    let cluster = brokers(&TOPICS);
    let ended = Config::new(&origin, &cluster.bootstrap_servers()).run("check", &["--online", "--set", ASSUMED]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    ended.line("ok", "brokers: ");
    assert!(ended.line("ok", "input topic defender.alerts: ").contains("3 partitions, 1 replica"));
    ended.line("ok", "output topic defender.alert-ips: ");
    ended.line("ok", "dead letters topic defender.alert-ips.dead-letters: ");
    ended.line("ok", "journal topic defender.alert-ips.journal: ");
    assert!(
        ended.line("warning", "journal topic ").contains("it is taken to have cleanup.policy delete, retention of")
    );
    let journal = format!("entries of {TENANT}/{CLIENT} can be read and appended");
    assert!(ended.line("ok", "account contoso, journal: ").contains(&journal));
    assert!(ended.line("ok", "group alert-ips: ").contains("0 of 3 partitions"));
    ended.line("ok", "account contoso, sign-in: ");
    assert!(ended.line("ok", "account contoso, role: ").contains("Ip.Read.All"));
    ended.line("ok", "account contoso, API: ");
    assert_eq!((sim.counts().sign_ins, sim.counts().calls), (1, 1));
    assert!(ended.out.contains("one call of each account's limits is spent"), "{}", ended.out);
}

#[tokio::test]
async fn everything_is_tried_even_if_the_first_fails() {
    let (sim, origin) = service().await;
    sim.switch(|switches| switches.forbid = true);
    let brokers = nobody();
    let ended = Config::new(&origin, &brokers).run("check", &["--online"]).await;
    assert_eq!(ended.code, 78);
    let words = ended.line("FAILED", "brokers: ");
    assert!(words.contains("Connection refused") && words.contains(&brokers), "{words}");
    assert!(!words.contains("tried again"), "a command ends: {words}");
    ended.line("skipped", "input topic defender.alerts: ");
    ended.line("skipped", "journal topic defender.alert-ips.journal: ");
    ended.line("skipped", "account contoso, journal: ");
    ended.line("ok", "account contoso, sign-in: ");
    assert!(ended.line("FAILED", "account contoso, API: ").contains("403"));
    assert!(ended.out.ends_with("2 things do not work\n"), "{}", ended.out);
}

#[tokio::test]
async fn a_missing_topic_is_told_with_the_command_that_creates_it() {
    let (_sim, origin) = service().await;
    let cluster = brokers(&TOPICS);
    cluster.topic_error(TOPICS[1], RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let config = Config::new(&origin, &cluster.bootstrap_servers());
    let ended = config.run("check", &["--online"]).await;
    assert_eq!(ended.code, 78);
    assert!(ended.line("FAILED", "output topic defender.alert-ips: ").contains("`alert-ips topics --create`"));
    let ended = config.run("topics", &["--set", ASSUMED]).await;
    assert_eq!(ended.code, 1, "{}", ended.all());
    assert!(ended.line("defender.alert-ips ", "output").contains("missing"), "{}", ended.out);
    assert!(ended.out.contains("topics --create"), "{}", ended.out);
}

#[rstest]
#[case::missing(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, "`alert-ips topics --create`")]
#[case::denied(
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    "grant read, write, describe and describe_configs on its topic"
)]
#[tokio::test]
async fn a_journal_that_cannot_be_used_is_told_unless_it_is_in_memory(
    #[case] error: RDKafkaRespErr,
    #[case] remedy: &str,
) {
    let (_sim, origin) = service().await;
    let cluster = brokers(&TOPICS);
    cluster.topic_error(TOPICS[3], error).unwrap();
    let config = Config::new(&origin, &cluster.bootstrap_servers());
    let ended = config.run("check", &["--online", "--set", ASSUMED]).await;
    assert_eq!(ended.code, 78);
    let words = ended.line("FAILED", "journal topic defender.alert-ips.journal: ");
    assert!(words.contains(remedy), "{words}");
    ended.line("skipped", "account contoso, journal: needs the journal topic");
    let ended = config.run("check", &["--online", "--set", "journal.kind=memory"]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    assert!(!ended.out.contains(TOPICS[3]), "{}", ended.out);
}

#[tokio::test]
async fn settings_that_the_broker_does_not_tell_are_a_failure_with_the_way_out() {
    let (_sim, origin) = service().await;
    let cluster = brokers(&TOPICS);
    let config = Config::new(&origin, &cluster.bootstrap_servers());
    for arguments in [["check", "--online"].as_slice(), &["topics"], &["topics", "--create"]] {
        let ended = config.run(arguments[0], &arguments[1..]).await;
        assert_eq!(ended.code, 78, "{arguments:?}: {}", ended.all());
        assert!(ended.out.contains("set journal.assume_settings = true"), "{arguments:?}: {}", ended.out);
    }
}

#[rstest]
#[case::no_role(SignInAnswer::WithoutRoles, "role", "grant admin consent")]
#[case::wrong_secret(SignInAnswer::WrongSecret, "sign-in", "the client secret is wrong")]
#[case::failing(SignInAnswer::Status(503), "sign-in", "503")]
#[tokio::test]
async fn a_sign_in_that_is_no_use_is_told_with_what_to_do(
    #[case] answer: SignInAnswer,
    #[case] what: &str,
    #[case] remedy: &str,
) {
    let (sim, origin) = service().await;
    sim.with(|service| service.script_sign_in([answer]));
    let ended = Config::new(&origin, &nobody()).run("check", &["--online"]).await;
    assert_eq!(ended.code, 78);
    let words = ended.line("FAILED", &format!("account contoso, {what}: "));
    assert!(words.contains(remedy), "{words}");
}

#[rstest]
#[case::unauthorized(Answer::status(401), "FAILED", "scope belongs to its api_url")]
#[case::failing(Answer::status(503), "FAILED", "try again later")]
#[case::refused(Answer::status(400), "FAILED", "check api_url")]
#[case::throttled(Answer::throttled(7), "warning", "asks to wait 7s")]
#[tokio::test]
async fn an_api_that_does_not_answer_as_it_should_is_explained(
    #[case] answer: Answer,
    #[case] mark: &str,
    #[case] remedy: &str,
) {
    let mut settings = Settings::new(1);
    settings.plan = Plan::new(1, Mix::ALL_FOUND).script("da000000000000000000_0", vec![answer]);
    let server = Server::bind(Sim::new(settings, Clock::machine()), SocketAddr::from(([127, 0, 0, 1], 0)));
    let server = server.await.unwrap();
    let config = Config::new(&server.origin(), &nobody());
    tokio::spawn(server.run(CancellationToken::new()));
    let ended = config.run("check", &["--online"]).await;
    let words = ended.line(mark, "account contoso, API: ");
    assert!(words.contains(remedy), "{words}");
}

#[tokio::test]
async fn topics_need_a_broker() {
    let ended = Config::new("http://127.0.0.1:1", &nobody()).run("topics", &["--create"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    assert!(ended.err.starts_with("error: no kafka broker can be reached: "), "{}", ended.err);
}

#[tokio::test]
async fn looked_up_alerts_are_told_in_a_table() {
    let (_sim, origin) = service().await;
    let ended = Config::new(&origin, "localhost:1").run("lookup", &["da1_1", "da2_2"]).await;
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    let expected = ["ALERT  STATUS     RELATED IPS", "da1_1  found      104.80.104.128, ::1", "da2_2  not_found"];
    assert_eq!(ended.out.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn looked_up_alerts_are_told_as_json_lines() {
    let (_sim, origin) = service().await;
    let config = Config::new(&origin, "localhost:1");
    let ended = config.run("lookup", &["da2_2", "--json", "da1_1", "da3_3"]).await;
    assert_eq!(ended.code, 1, "one was refused: {}", ended.all());
    let mut lines: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["retrieved_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{}", lines[0]);
    for line in &mut lines {
        line.as_object_mut().unwrap().remove("retrieved_at");
    }
    assert_eq!(lines[0], json!({"alert_id": "da2_2", "status": "not_found", "ips": []}));
    assert_eq!(lines[1], json!({"alert_id": "da1_1", "status": "found", "ips": ["104.80.104.128", "::1"]}));
    assert_eq!((&lines[2]["alert_id"], &lines[2]["status"]), (&json!("da3_3"), &json!("error")));
    assert!(lines[2]["error"].as_str().is_some_and(|words| words.contains("400")), "{}", lines[2]);
}

#[rstest]
#[case::path("../../secrets")]
#[case::query("da1_1?x=y")]
#[case::control("da1_1\u{1b}[31m")]
#[case::empty("")]
#[tokio::test]
async fn hostile_ids_end_with_64_and_reach_nobody(#[case] id: &str) {
    let (sim, origin) = service().await;
    let ended = Config::new(&origin, "localhost:1").run("lookup", &[id]).await;
    assert_eq!((ended.code, ended.out.as_str()), (64, ""));
    assert!(ended.err.starts_with("error: ") && !ended.err.contains('\u{1b}'), "{}", ended.err);
    assert_eq!((sim.counts().sign_ins, sim.counts().calls), (0, 0));
}

#[tokio::test]
async fn a_lookup_gives_up_where_the_secret_is_wrong() {
    let (sim, origin) = service().await;
    let config = Config::new(&origin, "localhost:1");
    std::fs::write(config.path("client-secret"), format!("{SECRET}-wrong")).unwrap();
    let ended = config.run("lookup", &["da1_1"]).await;
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("the client secret is wrong"), "{}", ended.out);
    assert_eq!(sim.counts().calls, 0);
}

#[tokio::test]
async fn a_lookup_gives_up_where_the_call_is_forbidden() {
    let (sim, origin) = service().await;
    sim.with(|service| service.script_sign_in([SignInAnswer::WithoutRoles]));
    let ended = Config::new(&origin, "localhost:1").run("lookup", &["da1_1", "--json"]).await;
    assert_eq!(ended.code, 1);
    let line: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&line["alert_id"], &line["status"]), (&json!("da1_1"), &json!("error")));
    assert!(line["error"].as_str().is_some_and(|words| words.contains("grant admin consent")), "{line}");
}

#[tokio::test]
async fn a_lookup_outlasts_an_outage_and_says_what_it_waits_for() {
    let (sim, origin) = service().await;
    sim.switch(|switches| switches.sign_in_outage = Some(Outage::Unavailable));
    let config = Config::new(&origin, "localhost:1");
    let file = config.file();
    let mut child =
        command(&["lookup", "--config", &file, "da1_1"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut words = String::new();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    timeout(LONG, err.read_line(&mut words)).await.expect("it says why").unwrap();
    assert!(words.contains("503"), "{words}");
    sim.switch(|switches| switches.sign_in_outage = None);
    let ended = Ended::from(timeout(LONG, child.wait_with_output()).await.expect("it ends").unwrap());
    assert_eq!(ended.code, 0);
    assert!(ended.out.contains("104.80.104.128"), "{}", ended.out);
}

#[tokio::test]
async fn ids_are_read_from_stdin() {
    use tokio::io::AsyncWriteExt;
    let (_sim, origin) = service().await;
    let config = Config::new(&origin, "localhost:1");
    let file = config.file();
    let mut child = command(&["lookup", "--config", &file, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"da1_1\n\n  da2_2\n").await.unwrap();
    let ended = Ended::from(timeout(LONG, child.wait_with_output()).await.expect("it ends").unwrap());
    assert_eq!((ended.code, ended.out.lines().count()), (0, 3), "{}", ended.all());
}

#[tokio::test]
async fn the_simulated_service_answers_until_it_is_asked_to_stop() {
    let log = tempfile::tempdir().unwrap();
    let log = log.path().join("calls");
    let log = log.to_str().unwrap();
    let mut child = command(&["simulate", "--listen", "127.0.0.1:0", "--mix", "all-found", "--log", log])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    timeout(LONG, out.read_line(&mut first)).await.expect("it says where").unwrap();
    let origin = first.split_whitespace().last().unwrap().to_owned();

    let ended = Config::new(&origin, "localhost:1").run("lookup", &["da7_7"]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    assert!(ended.out.contains("da7_7  found"), "{}", ended.out);

    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut rest = String::new();
    timeout(LONG, out.read_to_string(&mut rest)).await.expect("it ends").unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    assert!(rest.contains("1 calls, 1 sign-ins, 0 violations"), "{rest}");
    assert_eq!(std::fs::read_to_string(log).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn an_address_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = alert_ips(&["simulate", "--listen", &address]).await;
    assert_eq!(ended.code, 64);
    assert!(ended.err.contains(&address), "{}", ended.err);
}
