//! The service as a whole, in process and under paused time.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::header;
use serde_json::Value;
use tokio::time::{Instant, advance, timeout};

use super::*;

const ID: &str = "da637551227677560813_-961444813";
const WALL: Timestamp = Timestamp::constant(1_795_000_000, 0);

fn sim_with(change: impl FnOnce(&mut Settings)) -> Sim {
    let mut settings = Settings::new(1);
    settings.plan = Plan::new(1, Mix::ALL_FOUND);
    change(&mut settings);
    Sim::new(settings, Clock::following_tokio(WALL))
}

fn sim() -> Sim {
    sim_with(|_| {})
}

/// Signs in as anyone and gives the header that calls need.
fn bearer(sim: &Sim) -> String {
    let form = "client_id=a&client_secret=b&grant_type=client_credentials&scope=x/.default";
    let reply = sim.handle(&Request::post("/t/oauth2/v2.0/token").body(form.into()).unwrap());
    let body: Value = serde_json::from_slice(reply.response.body()).unwrap();
    format!("Bearer {}", body["access_token"].as_str().unwrap())
}

fn get(path: &str, bearer: &str) -> Request<Bytes> {
    let request = Request::get(path).header(header::AUTHORIZATION, bearer).header(header::USER_AGENT, "one");
    request.body(Bytes::new()).unwrap()
}

fn ask(sim: &Sim, id: &str, bearer: &str) -> u16 {
    sim.handle(&get(&format!("/api/alerts/{id}/ips"), bearer)).response.status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn the_excess_call_is_refused_until_the_window_has_room() {
    let sim = sim_with(|settings| settings.limits = vec!["3 per 10s".parse().unwrap()]);
    let bearer = bearer(&sim);
    for _ in 0..3 {
        assert_eq!(ask(&sim, ID, &bearer), 200);
        advance(Duration::from_secs(2)).await;
    }
    let refused = sim.handle(&get(&format!("/api/alerts/{ID}/ips"), &bearer)).response;
    assert_eq!(refused.status(), 429);
    let body: Value = serde_json::from_slice(refused.body()).unwrap();
    assert_eq!(body["error"]["message"], "API calls quota exceeded! maximum allowed 3 per 00:00:10");
    let [violation] = &sim.violations()[..] else { panic!("one violation is expected") };
    assert_eq!(violation.what.to_string(), "over the limit of 3 per 10s: call 4 of its window");

    // The refused call counts too, so there is room when the second call leaves.
    assert_eq!(refused.headers()[header::RETRY_AFTER], "6");
    advance(Duration::from_secs(6)).await;
    assert_eq!(ask(&sim, ID, &bearer), 200);
    assert_eq!(sim.windows().iter().map(|window| (window.calls, window.worst)).collect::<Vec<_>>(), [(3, 4)]);
}

#[tokio::test(start_paused = true)]
async fn whatever_is_no_question_about_an_alert_is_a_violation() {
    let sim = sim();
    let bearer = bearer(&sim);
    let paths =
        ["/", "/api/alerts", "/api/alerts/../ips", "/api/alerts/a%2fb/ips", "/api/alerts//ips", "/api/alerts/a/ips/"];
    for path in paths {
        assert_eq!(sim.handle(&get(path, &bearer)).response.status(), 404, "{path}");
    }
    let posted = Request::post(format!("/api/alerts/{ID}/ips")).body(Bytes::new()).unwrap();
    assert_eq!(sim.handle(&posted).response.status(), 404);
    assert!(sim.violations().iter().all(|violation| violation.what == Wrong::UnexpectedPath));
    assert_eq!((sim.counts().violations, sim.windows()[0].calls), (7, 7));
}

#[tokio::test(start_paused = true)]
async fn calls_need_a_token_that_is_valid_now() {
    let sim = sim();
    assert_eq!(ask(&sim, ID, "Bearer made-up"), 401);
    let first = bearer(&sim);
    assert_eq!(ask(&sim, ID, &first), 200);
    advance(Duration::from_hours(1)).await;
    assert_eq!(ask(&sim, ID, &first), 401);
    let second = bearer(&sim);
    sim.revoke_tokens();
    assert_eq!(ask(&sim, ID, &second), 401);
    sim.with(|service| service.script_sign_in([SignInAnswer::WithoutRoles]));
    assert_eq!(ask(&sim, ID, &bearer(&sim)), 403);
    assert_eq!(sim.counts().sign_ins, 3);
}

#[tokio::test(start_paused = true)]
async fn switches_work_while_it_runs() {
    let sim = sim();
    let bearer = bearer(&sim);
    sim.switch(|switches| switches.forbid = true);
    assert_eq!(ask(&sim, ID, &bearer), 403);
    sim.switch(|switches| switches.forbid = false);
    sim.switch(|switches| switches.frozen_until = Some(BootTime::from_origin(Duration::from_secs(30))));
    assert_eq!(ask(&sim, ID, &bearer), 429);
    advance(Duration::from_secs(30)).await;
    assert_eq!(ask(&sim, ID, &bearer), 200);
    sim.switch(|switches| switches.outage = Some(Outage::Unavailable));
    assert_eq!(ask(&sim, ID, &bearer), 503);
    sim.switch(|switches| switches.outage = Some(Outage::Refused));
    let refused = sim.send(get(&format!("/api/alerts/{ID}/ips"), &bearer)).await;
    assert_eq!(refused.unwrap_err(), Failure::Refused);
    // What nobody took in counts nowhere.
    assert_eq!(sim.counts().calls, 4);
    sim.switch(|switches| switches.sign_in_outage = Some(Outage::Unavailable));
    let reply = sim.handle(&Request::post("/t/oauth2/v2.0/token").body(Bytes::new()).unwrap());
    assert_eq!(reply.response.status(), 503);
}

#[tokio::test(start_paused = true)]
async fn an_alert_gets_its_answers_in_order_and_pages_use_up_none() {
    let pages = || Answer::Pages { pages: vec![vec!["::1".into()], vec!["::2".into()]], next: NextPage::Follows };
    let script = vec![Answer::NotFound, pages(), Answer::Empty];
    let sim = sim_with(|settings| settings.plan = Plan::new(1, Mix::ALL_FOUND).script(ID, script));
    let bearer = bearer(&sim);
    let body = |path: &str| {
        let reply = sim.handle(&get(path, &bearer));
        serde_json::from_slice::<Value>(reply.response.body()).unwrap()
    };
    let path = format!("/api/alerts/{ID}/ips");
    assert_eq!(body(&path)["error"]["code"], "ResourceNotFound");
    let first = body(&path);
    assert_eq!(first["value"][0]["id"], "::1");
    let next = first["@odata.nextLink"].as_str().unwrap().strip_prefix("http://localhost").unwrap();
    assert_eq!(body(next)["value"][0]["id"], "::2");
    assert_eq!(body(&path)["value"], Value::Array(Vec::new()));
    assert_eq!((sim.counts().calls, sim.violations().len()), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_counts_when_it_arrives_also_if_its_sender_gave_up() {
    let sim = sim_with(|settings| settings.latency = Latency::Fixed(Duration::from_secs(8)));
    let bearer = bearer(&sim);
    let path = format!("/api/alerts/{ID}/ips");
    let start = Instant::now();
    sim.send(get(&path, &bearer)).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(8));
    assert_eq!(sim.calls()[0].at, BootTime::from_origin(Duration::from_secs(4)));

    assert!(timeout(Duration::from_secs(1), sim.send(get(&path, &bearer))).await.is_err());
    assert_eq!(sim.counts().calls, 1);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(sim.calls()[1].at, BootTime::from_origin(Duration::from_secs(12)));
}

#[tokio::test(start_paused = true)]
async fn every_request_is_a_line_of_the_log() {
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Shared::default();
    let sim = sim_with(|settings| {
        settings.limits = vec!["1 per 1m".parse().unwrap()];
        settings.log = Some(Box::new(log.clone()));
    });
    let bearer = bearer(&sim);
    assert_eq!((ask(&sim, ID, &bearer), ask(&sim, ID, &bearer)), (200, 429));

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["path"], "/t/oauth2/v2.0/token");
    assert_eq!(
        lines[2],
        serde_json::json!({
            "time": "2026-11-18T11:06:40Z",
            "path": format!("/api/alerts/{ID}/ips"),
            "instance": "one",
            "status": 429,
            "windows": [{"limit": "1 per 1m", "calls": 2}],
            "violations": ["over the limit of 1 per 1m: call 2 of its window"],
        })
    );
    assert!(!text.contains(&bearer));
}
