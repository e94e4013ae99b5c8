//! What an account makes of everything the service and its sign-in can answer.

use std::time::Duration;

use alert_ips::{
    domain::{
        alert::{Alert, AlertId, Severity},
        outcome::{Reason, Status},
        phase::Phase,
    },
    observe::health::Condition,
    sim::{Answer, BAIT, Fault, Latency, Mix, NextPage, Outage, Plan, RetryAfter, SignInAnswer},
};
use bytes::Bytes;
use rstest::rstest;
use tokio::time::{Instant, sleep};

use crate::world::{START, World};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

fn scripted(answers: Vec<Answer>) -> World {
    World::new(1, Plan::new(1, Mix::ALL_FOUND).script("a", answers), |_, _| {})
}

fn found(ips: &[&str]) -> Answer {
    Answer::Found(ips.iter().map(ToString::to_string).collect())
}

fn body(code: u16, content_type: &str, body: impl Into<Bytes>) -> Answer {
    Answer::Raw { code, headers: vec![("content-type".into(), content_type.into())], body: body.into() }
}

fn json(text: &'static str) -> Answer {
    body(200, "application/json", text)
}

impl World {
    /// When the API was called about an alert, since the start.
    fn called(&self, id: &str) -> Vec<Duration> {
        let path = format!("/api/alerts/{id}/ips");
        let calls = self.sim.calls();
        calls.iter().filter(|call| *call.path == path).map(|call| call.at.since_origin()).collect()
    }

    fn condition(&self) -> Condition {
        self.health.report()[0].condition.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_gives_its_addresses_in_order() {
    let world = scripted(vec![found(&["23.203.232.228\t", "10.0.0.1", "::1", "10.0.0.1", "1.2.3.4:80"])]);
    let outcome = world.answer("a").await.unwrap();
    assert_eq!((outcome.status, outcome.ips.to_string().as_str()), (Status::Found, "23.203.232.228, 10.0.0.1, ::1"));
    assert_eq!(outcome.ips.invalid_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_known_alert_without_addresses_is_empty() {
    let world = scripted(vec![Answer::Empty]);
    assert_eq!(world.answer("a").await.unwrap().status, Status::Empty);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_alert_is_asked_again_after_1_5_and_15_minutes() {
    let world = scripted(vec![Answer::NotFound]);
    assert_eq!(world.answer("a").await.unwrap().status, Status::NotFound);
    let called = world.called("a");
    let waits: Vec<_> = called.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(waits, [60, 300, 900]);
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_becomes_visible_is_found() {
    let world = scripted(vec![Answer::NotFound, Answer::NotFound, found(&["10.0.0.1"])]);
    assert_eq!(world.answer("a").await.unwrap().status, Status::Found);
    assert_eq!(world.called("a").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_old_alert_that_is_unknown_is_not_asked_again() {
    let world = scripted(vec![Answer::NotFound]);
    let created = Some(START - Duration::from_hours(25));
    let alert =
        Alert { id: AlertId::parse("a").unwrap(), tenant: None, severity: Severity::Low, updated: None, created };
    let outcome = world.account.ask(alert, START).await.unwrap().await.unwrap().unwrap();
    assert_eq!((outcome.status, world.called("a").len()), (Status::NotFound, 1));
}

#[tokio::test(start_paused = true)]
async fn reasks_hold_up_nobody() {
    let world = scripted(vec![Answer::NotFound]);
    let _waiting = world.ask("a", Severity::High).await;
    sleep(SECOND).await;
    let asked = Instant::now();
    world.answer("b").await.unwrap();
    assert!(asked.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn one_call_answers_everyone_who_asks_the_same() {
    let world = World::new(1, Plan::new(1, Mix::ALL_FOUND), |_, settings| settings.latency = Latency::Fixed(SECOND));
    let first = world.ask("a", Severity::Low).await;
    let second = world.ask("a", Severity::High).await;
    sleep(SECOND / 2).await;
    let third = world.ask("a", Severity::Medium).await;
    let answers = [first.await, second.await, third.await];
    assert!(answers.iter().all(|answer| answer == &answers[0]));
    assert_eq!(world.called("a").len(), 1);
}

#[rstest]
#[case::no_update_time_soon(None, 14, 1)]
#[case::no_update_time_late(None, 16, 2)]
#[case::not_updated_since(Some(-10), 600, 1)]
#[case::updated_since(Some(5), 6, 2)]
#[tokio::test(start_paused = true)]
async fn fresh_answers_are_reused(#[case] updated_at_minute: Option<i64>, #[case] minute: u64, #[case] calls: usize) {
    let world = World::all_found(1);
    world.answer("a").await.unwrap();
    asked_again(&world, updated_at_minute, minute).await;
    assert_eq!(world.called("a").len(), calls);
}

#[rstest]
#[case::behind_and_not_updated_since(-60, Some(-10), 600, 1)]
#[case::ahead_and_updated_since(60, Some(5), 6, 2)]
#[case::behind_and_soon(-60, None, 14, 1)]
#[case::ahead_and_late(60, None, 16, 2)]
#[tokio::test(start_paused = true)]
async fn a_host_whose_clock_is_wrong_reuses_what_the_others_do(
    #[case] minutes_ahead: i64,
    #[case] updated_at_minute: Option<i64>,
    #[case] minute: u64,
    #[case] calls: usize,
) {
    let world = World::all_found(1);
    world.clock.step_wall(jiff::SignedDuration::from_mins(minutes_ahead));
    let answered = world.answer("a").await.unwrap();
    assert!(answered.retrieved_at.duration_since(START) < jiff::SignedDuration::from_secs(1), "{answered:?}");
    asked_again(&world, updated_at_minute, minute).await;
    assert_eq!(world.called("a").len(), calls);
}

/// Set after the answer, it makes that neither older nor younger.
#[rstest]
#[case::back_and_late(-60, 65, 2)]
#[case::forward_and_soon(60, 14, 1)]
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_between_two_questions_changes_nothing(
    #[case] by_minutes: i64,
    #[case] minute: u64,
    #[case] calls: usize,
) {
    let world = World::all_found(1);
    world.answer("a").await.unwrap();
    world.clock.step_wall(jiff::SignedDuration::from_mins(by_minutes));
    asked_again(&world, None, minute).await;
    assert_eq!(world.called("a").len(), calls);
}

/// An answer that was long on its way says what was true when it was given, whatever the clock shows when it comes.
#[tokio::test(start_paused = true)]
async fn a_slow_answer_hides_no_update_that_came_after_it() {
    let world =
        World::new(1, Plan::new(1, Mix::ALL_FOUND), |_, settings| settings.latency = Latency::Fixed(25 * SECOND));
    world.clock.step_wall(jiff::SignedDuration::from_mins(60));
    world.answer("a").await.unwrap();
    asked_again(&world, Some(5), 6).await;
    assert_eq!(world.called("a").len(), 2);
}

/// Asks about it again, in this minute; it was updated in that one.
async fn asked_again(world: &World, updated_at_minute: Option<i64>, minute: u64) {
    sleep(MINUTE * u32::try_from(minute).unwrap()).await;
    let updated = updated_at_minute.map(|minute| START + jiff::SignedDuration::from_mins(minute));
    let alert =
        Alert { id: AlertId::parse("a").unwrap(), tenant: None, severity: Severity::Low, updated, created: None };
    world.account.ask(alert, world.clock.wall()).await.unwrap().await.unwrap().unwrap();
}

#[rstest]
#[case::seconds(RetryAfter::Seconds(120), 120..=121)]
#[case::date(RetryAfter::DateIn(90), 89..=91)]
#[case::longer_of_two(RetryAfter::Twice("10".into(), "40".into()), 40..=41)]
#[case::at_most_an_hour(RetryAfter::Text("1000000000".into()), 3600..=3601)]
#[case::nothing(RetryAfter::None, 2..=5)]
#[case::junk(RetryAfter::Text("abc".into()), 2..=5)]
#[case::negative(RetryAfter::Text("-1".into()), 2..=5)]
#[case::past(RetryAfter::DateIn(-30), 2..=5)]
#[tokio::test(start_paused = true)]
async fn a_429_freezes_the_whole_account(
    #[case] retry_after: RetryAfter,
    #[case] pause: std::ops::RangeInclusive<u64>,
) {
    let throttled = Answer::TooManyRequests { retry_after, window: None };
    let world = scripted(vec![throttled, found(&["10.0.0.1"])]);
    let first = world.ask("a", Severity::High).await;
    sleep(SECOND / 10).await;
    let others: Vec<_> = [world.ask("b", Severity::High).await, world.ask("c", Severity::Low).await].into();
    assert_eq!(first.await.unwrap().unwrap().status, Status::Found);
    let resumed = world.called("a")[1].as_secs();
    assert!(pause.contains(&resumed), "resumed after {resumed} s");
    for other in others {
        other.await.unwrap().unwrap();
    }
    let early = world.sim.calls().iter().filter(|call| call.at.since_origin() < world.called("a")[1]).count();
    assert_eq!(early, 1, "calls before the pause was over");
}

#[rstest]
#[case::seconds(RetryAfter::Seconds(120), 120)]
#[case::date(RetryAfter::DateIn(60), 59)]
#[tokio::test(start_paused = true)]
async fn a_503_may_ask_for_a_pause_too(#[case] retry_after: RetryAfter, #[case] at_least: u64) {
    let world = scripted(vec![Answer::Status { code: 503, retry_after }, found(&["10.0.0.1"])]);
    world.answer("a").await.unwrap();
    assert!(world.called("a")[1].as_secs() >= at_least);
}

/// Someone else spends from the same registration: the message names the window, our own count has room.
#[tokio::test(start_paused = true)]
async fn a_429_against_our_own_count_backs_off_and_says_so() {
    let throttled = Answer::TooManyRequests { retry_after: RetryAfter::None, window: "1500 per 1h".parse().ok() };
    let world = scripted(vec![throttled.clone(), throttled.clone(), throttled, found(&["10.0.0.1"])]);
    let pending = world.ask("a", Severity::High).await;
    sleep(SECOND).await;
    let Condition::Degraded(words) = world.condition() else { panic!("{:?}", world.condition()) };
    assert!(words.contains("another tool"), "{words}");
    pending.await.unwrap().unwrap();
    let waits: Vec<_> = world.called("a").windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    for (wait, doubled) in waits.iter().zip([5.0, 10.0, 20.0]) {
        assert!((doubled / 2.0..=doubled).contains(wait), "{waits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_401_fetches_one_new_token() {
    let world = World::all_found(1);
    world.answer("a").await.unwrap();
    world.sim.revoke_tokens();
    let asked = Instant::now();
    world.answer("b").await.unwrap();
    assert!(asked.elapsed() < SECOND);
    assert_eq!((world.called("b").len(), world.sim.counts().sign_ins), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn fresh_tokens_that_are_refused_hold_the_account() {
    let world = scripted(vec![Answer::status(401)]);
    let _pending = world.ask("a", Severity::High).await;
    sleep(MINUTE * 10).await;
    assert!(world.called("a").len() <= 13, "{} calls", world.called("a").len());
    assert!(world.sim.counts().sign_ins <= 13);
    let Condition::Waiting(words) = world.condition() else { panic!("{:?}", world.condition()) };
    assert!(words.contains("scope"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn a_403_holds_the_account_probes_and_recovers() {
    let world = World::all_found(1);
    world.sim.switch(|switches| switches.forbid = true);
    let pending = world.ask("a", Severity::High).await;
    let other = world.ask("b", Severity::High).await;
    sleep(MINUTE * 30).await;
    let calls = world.sim.counts().calls;
    assert!((5..=9).contains(&calls), "{calls} calls in half an hour");
    let Condition::Waiting(words) = world.condition() else { panic!("{:?}", world.condition()) };
    assert!(words.contains("Ip.Read.All"), "{words}");
    world.sim.switch(|switches| switches.forbid = false);
    let allowed = Instant::now();
    pending.await.unwrap().unwrap();
    other.await.unwrap().unwrap();
    assert!(allowed.elapsed() <= MINUTE * 5 + SECOND * 2);
    sleep(SECOND).await;
    assert_eq!(world.condition(), Condition::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_is_tried_once_a_minute_and_told() {
    let world = World::all_found(1);
    world.sim.with(|service| service.script_sign_in(vec![SignInAnswer::WrongSecret; 5]));
    let pending = world.ask("a", Severity::High).await;
    sleep(MINUTE * 3 + SECOND).await;
    assert_eq!((world.sim.counts().sign_ins, world.sim.counts().calls), (4, 0));
    let Condition::Waiting(words) = world.condition() else { panic!("{:?}", world.condition()) };
    assert!(words.contains("client_secret_file") && words.contains("AADSTS7000215"), "{words}");
    // Once it is right, it goes on by itself.
    pending.await.unwrap().unwrap();
}

#[rstest]
#[case::unavailable(SignInAnswer::Status(503))]
#[case::hangs(SignInAnswer::Broken(Fault::Hang))]
#[case::refused(SignInAnswer::Broken(Fault::Refused))]
#[case::not_json(SignInAnswer::Raw { code: 200, body: "<html>".into() })]
#[case::no_token(SignInAnswer::Raw { code: 200, body: r#"{"expires_in":3599}"#.into() })]
#[case::line_breaks(SignInAnswer::Raw { code: 200, body: r#"{"access_token":"a\r\nb","expires_in":3599}"#.into() })]
#[case::no_life(SignInAnswer::Raw { code: 200, body: r#"{"access_token":"a","expires_in":0}"#.into() })]
#[case::negative_life(SignInAnswer::Raw { code: 200, body: r#"{"access_token":"a","expires_in":-1}"#.into() })]
#[case::endless_life(SignInAnswer::Raw { code: 200, body: r#"{"access_token":"a","expires_in":1e18}"#.into() })]
#[tokio::test(start_paused = true)]
async fn a_failing_sign_in_is_tried_again(#[case] answer: SignInAnswer) {
    let world = World::all_found(1);
    world.sim.with(|service| service.script_sign_in([answer.clone(), answer]));
    let outcome = tokio::time::timeout(MINUTE * 3, world.answer("a")).await.unwrap();
    assert_eq!(outcome.unwrap().status, Status::Found);
    assert_eq!(world.sim.counts().sign_ins, 3);
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_that_is_throttled_waits_as_asked() {
    let world = World::all_found(1);
    world.sim.with(|service| service.script_sign_in([SignInAnswer::TooManyRequests(RetryAfter::Seconds(45))]));
    world.answer("a").await.unwrap();
    assert!((45..=46).contains(&world.called("a")[0].as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_expires() {
    let world = World::all_found(1);
    world.answer("a").await.unwrap();
    sleep(Duration::from_hours(12)).await;
    assert!((12..=15).contains(&world.sim.counts().sign_ins), "{} sign-ins", world.sim.counts().sign_ins);
    world.answer("b").await.unwrap();
    world.assert_limits_kept();
}

#[rstest]
#[case::status_500(Answer::status(500))]
#[case::status_408(Answer::status(408))]
#[case::status_503(Answer::status(503))]
#[case::hang(Answer::Broken(Fault::Hang))]
#[case::reset(Answer::Broken(Fault::Reset))]
#[case::refused(Answer::Broken(Fault::Refused))]
#[case::truncated_body(Answer::Broken(Fault::Truncated))]
#[case::endless_body(Answer::Broken(Fault::Endless))]
#[case::redirect_elsewhere(Answer::Redirect { code: 302, location: "http://192.0.2.1/api/alerts/a/ips".into() })]
#[case::redirect_here(Answer::Redirect { code: 307, location: "/api/alerts/b/ips".into() })]
#[case::published_example(body(200, "application/json", include_str!("data/published_example.txt")))]
#[case::html(body(200, "text/html", "<html>sign in</html>"))]
#[case::html_said_to_be_json(json("<html>"))]
#[case::plain_text(body(200, "text/plain", r#"{"value":[{"id":"192.0.2.66"}]}"#))]
#[case::other_charset(body(200, "application/json; charset=utf-16", r#"{"value":[{"id":"192.0.2.66"}]}"#))]
#[case::no_body(json(""))]
#[case::array(json("[]"))]
#[case::no_value(json("{}"))]
#[case::null_value(json(r#"{"value":null}"#))]
#[case::two_values(json(r#"{"value":[],"value":[{"id":"192.0.2.66"}]}"#))]
#[case::number_as_address(json(r#"{"value":[{"id":3232235777}]}"#))]
#[case::not_utf8(body(200, "application/json", &b"{\"value\":[{\"id\":\"\xff\"}]}"[..]))]
#[tokio::test(start_paused = true)]
async fn what_is_no_answer_is_asked_again(#[case] bad: Answer) {
    let world = scripted(vec![bad.clone(), bad, found(&["10.0.0.1"])]);
    let outcome = world.answer("a").await.unwrap();
    assert_eq!((outcome.status, outcome.ips.to_string().as_str()), (Status::Found, "10.0.0.1"));
    world.assert_limits_kept();
}

#[rstest]
#[case::html(body(200, "text/html", "<html>"))]
#[case::null_value(json(r#"{"value":null}"#))]
#[case::redirect(Answer::Redirect { code: 301, location: "http://192.0.2.1/".into() })]
#[case::next_page_elsewhere(Answer::Pages {
    pages: vec![vec![BAIT.into()], vec![]],
    next: NextPage::Elsewhere("http://192.0.2.1/api/alerts/a/ips".into())
})]
#[case::pages_without_end(Answer::Pages { pages: vec![vec![BAIT.into()]; 2], next: NextPage::Itself })]
#[tokio::test(start_paused = true)]
async fn a_question_that_only_gets_bad_answers_is_given_up_while_others_are_answered(#[case] bad: Answer) {
    let world = scripted(vec![bad]);
    let pending = world.ask("a", Severity::High).await;
    for n in 0..30 {
        sleep(SECOND).await;
        world.answer(&format!("other{n}")).await.unwrap();
    }
    let rejection = pending.await.unwrap().unwrap_err();
    assert_eq!(rejection.reason, Reason::BadResponse, "{}", rejection.detail);
    world.assert_limits_kept();
}

#[rstest]
#[case(400)]
#[case(405)]
#[case(410)]
#[case(413)]
#[case(414)]
#[case(422)]
#[tokio::test(start_paused = true)]
async fn a_refused_question_is_a_dead_letter_at_once(#[case] code: u16) {
    let world = scripted(vec![Answer::status(code)]);
    let rejection = world.answer("a").await.unwrap_err();
    assert_eq!((rejection.reason, world.called("a").len()), (Reason::Refused, 1));
    assert!(rejection.detail.contains(&code.to_string()), "{}", rejection.detail);
}

#[tokio::test(start_paused = true)]
async fn pages_are_one_answer_and_each_is_a_call() {
    let pages = vec![vec!["10.0.0.1".into()], vec!["10.0.0.2".into()], vec!["10.0.0.1".into()]];
    let world = scripted(vec![Answer::Pages { pages, next: NextPage::Follows }]);
    let outcome = world.answer("a").await.unwrap();
    assert_eq!(outcome.ips.to_string(), "10.0.0.1, 10.0.0.2");
    assert_eq!(world.sim.counts().calls, 3);
    assert_eq!(world.sim.violations(), []);
}

#[rstest]
#[case::a_gateway_answers(Outage::Unavailable)]
#[case::nobody_listens(Outage::Refused)]
#[tokio::test(start_paused = true)]
async fn an_outage_gives_no_dead_letter_and_ends_by_itself(#[case] outage: Outage) {
    let world = World::all_found(1);
    world.answer("before").await.unwrap();
    world.sim.switch(|switches| switches.outage = Some(outage));
    let mut waiting = Vec::new();
    for n in 0..40 {
        waiting.push(world.ask(&format!("a{n}"), Severity::High).await);
    }
    sleep(Duration::from_hours(30)).await;
    let Condition::Waiting(words) = world.condition() else { panic!("{:?}", world.condition()) };
    assert!(words.contains("failing"), "{words}");
    if outage == Outage::Unavailable {
        // Probes only: two a minute, and what it took to notice.
        assert!(world.sim.counts().calls < 30 * 120 + 60, "{} calls", world.sim.counts().calls);
    }
    world.sim.switch(|switches| switches.outage = None);
    let back = Instant::now();
    for pending in waiting {
        pending.await.unwrap().expect("an outage must not give a dead letter");
    }
    assert!(back.elapsed() <= MINUTE, "resumed after {:?}", back.elapsed());
    world.assert_limits_kept();
}

/// A gateway that answers everything with a page of its own: nothing tells that it is not the service that fails.
#[tokio::test(start_paused = true)]
async fn bad_answers_to_the_only_question_give_no_dead_letter() {
    let mut answers = vec![body(200, "text/html", "<html>maintenance</html>"); 20];
    answers.push(found(&["10.0.0.1"]));
    let world = scripted(answers);
    for n in 0..100 {
        world.answer(&format!("before{n}")).await.unwrap();
    }
    sleep(SECOND).await;
    assert_eq!(world.answer("a").await.unwrap().status, Status::Found);
    assert_eq!(world.called("a").len(), 21);
}

#[tokio::test(start_paused = true)]
async fn many_calls_with_one_stale_token_fetch_one_new_token() {
    let world = World::new(1, Plan::new(1, Mix::ALL_FOUND), |_, settings| settings.latency = Latency::Fixed(SECOND));
    world.answer("a").await.unwrap();
    world.sim.revoke_tokens();
    let mut pending = Vec::new();
    for n in 0..8 {
        pending.push(world.ask(&format!("b{n}"), Severity::High).await);
    }
    let asked = Instant::now();
    for pending in pending {
        pending.await.unwrap().unwrap();
    }
    assert!(asked.elapsed() <= SECOND * 4, "{:?}", asked.elapsed());
    assert_eq!(world.sim.counts().sign_ins, 2);
}

#[tokio::test(start_paused = true)]
async fn calls_throttled_together_double_the_wait_once() {
    let throttled = Answer::TooManyRequests { retry_after: RetryAfter::None, window: "1500 per 1h".parse().ok() };
    let mut plan = Plan::new(1, Mix::ALL_FOUND);
    for n in 0..8 {
        plan = plan.script(&format!("a{n}"), vec![throttled.clone(), found(&["10.0.0.1"])]);
    }
    let world = World::new(1, plan, |_, settings| settings.latency = Latency::Fixed(SECOND));
    let mut pending = Vec::new();
    for n in 0..8 {
        pending.push(world.ask(&format!("a{n}"), Severity::High).await);
    }
    let asked = Instant::now();
    for pending in pending {
        pending.await.unwrap().unwrap();
    }
    assert!(asked.elapsed() <= SECOND * 9, "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_single_question_notices_within_a_minute_that_the_service_is_back() {
    let world = World::all_found(1);
    world.sim.switch(|switches| switches.outage = Some(Outage::Unavailable));
    let pending = world.ask("a", Severity::Low).await;
    sleep(Duration::from_hours(2)).await;
    world.sim.switch(|switches| switches.outage = None);
    let back = Instant::now();
    pending.await.unwrap().unwrap();
    assert!(back.elapsed() <= MINUTE, "resumed after {:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_failing_question_does_not_keep_an_outage_going() {
    let world = scripted(vec![Answer::status(500)]);
    world.sim.switch(|switches| switches.outage = Some(Outage::Unavailable));
    // The oldest and most severe: every probe would be its.
    let _failing = world.ask("a", Severity::High).await;
    let mut others = Vec::new();
    for n in 0..7 {
        others.push(world.ask(&format!("other{n}"), Severity::High).await);
    }
    sleep(SECOND * 10).await;
    world.sim.switch(|switches| switches.outage = None);
    let back = Instant::now();
    for other in others {
        other.await.unwrap().unwrap();
    }
    assert!(back.elapsed() <= MINUTE, "{:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_failed_during_an_outage_does_not_speak_against_a_question() {
    let script = vec![Answer::status(500), Answer::Found(Vec::new())];
    let plan = Plan::new(1, Mix::ALL_FOUND).script("a", script);
    let world = World::new(1, plan, |config, _| config.poison_after = MINUTE);
    world.sim.switch(|switches| switches.outage = Some(Outage::Unavailable));
    let mut pending = vec![world.ask("a", Severity::Low).await];
    for n in 0..7 {
        pending.push(world.ask(&format!("other{n}"), Severity::High).await);
    }
    sleep(MINUTE * 5).await;
    world.sim.switch(|switches| switches.outage = None);
    for pending in pending {
        pending.await.unwrap().expect("no dead letter for one ordinary failure after an outage");
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_question_that_can_not_be_asked_is_told_within_seconds() {
    let world = World::all_found(1);
    world.answer("before").await.unwrap();
    world.sim.switch(|switches| switches.outage = Some(Outage::Refused));
    let _waiting = world.ask("a", Severity::High).await;
    sleep(SECOND * 10).await;
    let report = world.health.report();
    let words = report[0].condition.words().expect("it is told");
    assert!(words.contains("connection refused"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn a_poisonous_question_is_given_up_after_a_day_while_others_are_answered() {
    let world = scripted(vec![Answer::status(500)]);
    let poison = world.ask("a", Severity::High).await;
    for n in 0..2_900 {
        world.answer(&format!("other{n}")).await.unwrap();
        sleep(SECOND * 30).await;
    }
    let rejection = poison.await.unwrap().unwrap_err();
    assert_eq!(rejection.reason, Reason::Poison, "{}", rejection.detail);
    assert!(world.called("a").len() < 700, "{} calls", world.called("a").len());
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_waiting_lookups_go_and_finishes_calls() {
    let world =
        World::new(1, Plan::new(1, Mix::ALL_FOUND), |_, settings| settings.latency = Latency::Fixed(SECOND * 4));
    let mut pending = Vec::new();
    for n in 0..30 {
        pending.push(world.ask(&format!("a{n}"), Severity::High).await);
    }
    // The sign-in takes as long as a call does.
    sleep(SECOND * 5).await;
    world.phase.send_replace(Phase::Draining);
    let asked = Instant::now();
    let mut answered = 0;
    for pending in pending {
        answered += usize::from(pending.await.is_ok());
    }
    assert_eq!(answered, 8, "the calls on the wire");
    assert!(asked.elapsed() <= SECOND * 4);
    assert_eq!(world.sim.counts().calls, 8);
}
