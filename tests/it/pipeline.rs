//! The life of one record: which writes it leads to, and when.

use std::{sync::Arc, time::Duration};

use alert_ips::{
    decode::Decoder,
    defender::account::{AccountHandle, LetGo},
    domain::{
        alert::{AlertId, Severity},
        filter::Filter,
        format::InputFormat,
        outcome::Reason,
        output::Output,
        published::{Part, Published},
        record::{Destination, Epoch, Header, Partition, Receipt, Record},
    },
    observe::metrics::Metrics,
    pipeline::{Accounts, Decided, Early, MAX_OPEN_ALERTS, Outlet, Pipeline, RecordId, Write, Written},
    sim::{Answer, Latency, Mix, Plan},
};
use rstest::rstest;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::world::{START, World};

const TENANT: &str = "11111111-2222-3333-4444-555555555555";

fn record(payload: &str) -> Arc<Record> {
    let partition = Partition { topic: "in".into(), number: 3 };
    Arc::new(Record {
        receipt: Receipt { partition, offset: 42, epoch: Epoch(1) },
        key: None,
        payload: Some(payload.as_bytes().into()),
        headers: Vec::new(),
        timestamp: Some(START),
    })
}

fn pipeline(world: &World, accounts: impl IntoIterator<Item = (String, AccountHandle)>) -> Pipeline {
    Pipeline {
        accounts: Accounts::new(accounts),
        decoder: Decoder::default(),
        registry: None,
        outputs: vec![Output::default()],
        max_age: Duration::from_hours(24 * 30),
        clock: world.clock.clone(),
        metrics: Metrics::new(START, []),
        room: Semaphore::new(MAX_OPEN_ALERTS),
        spare_room: Semaphore::new(MAX_OPEN_ALERTS),
    }
}

fn outlet() -> (Outlet, mpsc::Receiver<Early>) {
    let (early, writes) = mpsc::channel(8);
    (Outlet { record: RecordId(7), early }, writes)
}

async fn process(world: &World, payload: &str) -> Result<Decided, LetGo> {
    let pipeline = Arc::new(pipeline(world, [(TENANT.to_owned(), world.account.clone())]));
    pipeline.process(record(payload), Some(outlet().0), None, CancellationToken::new()).await
}

fn json(write: &Write) -> Value {
    serde_json::from_slice(write.outgoing.payload.as_deref().unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_alert_does_not_wait_for_its_siblings() {
    let plan = Plan::new(1, Mix::ALL_FOUND).script("low", vec![Answer::NotFound]);
    let world = World::new(1, plan, |_, _| {});
    let pipeline = Arc::new(pipeline(&world, [(TENANT.to_owned(), world.account.clone())]));
    let (outlet, mut early) = outlet();
    let payload = r#"[{"id":"low","severity":"Low"},{"id":"high","severity":"High"}]"#;
    let living = tokio::spawn(pipeline.process(record(payload), Some(outlet), None, CancellationToken::new()));
    let early = tokio::time::timeout(Duration::from_secs(1), early.recv()).await.unwrap().unwrap();
    assert_eq!((early.record, &json(&early.writes[0])["alert_id"]), (RecordId(7), &Value::from("high")));
    assert_eq!((early.part, early.begins_anew), (part(1, "high"), false));
    let decided = living.await.unwrap().unwrap();
    assert_eq!((decided.early, decided.writes.len()), (1, 1));
    assert_eq!(json(&decided.writes[0])["status"], "not_found");
}

fn part(place: usize, id: &str) -> Part {
    Part::of(place, &AlertId::parse(id).unwrap()).unwrap()
}

fn published(parts: &[(usize, &str)]) -> Published {
    parts.iter().map(|(place, id)| part(*place, id)).collect()
}

/// The alerts of a message that are asked about and written, where some are published.
async fn written_beside(published: Published, payload: &str) -> (Vec<String>, bool) {
    let world = World::all_found(1);
    let pipeline = Arc::new(pipeline(&world, [(TENANT.to_owned(), world.account.clone())]));
    let (outlet, mut early) = outlet();
    let decided = pipeline
        .process(record(payload), Some(outlet), Some(Box::new(published)), CancellationToken::new())
        .await
        .unwrap();
    let (mut writes, mut begins_anew) = (decided.writes, Vec::new());
    while let Ok(early) = early.try_recv() {
        writes.extend(early.writes);
        begins_anew.push(early.begins_anew);
    }
    assert!(begins_anew.iter().skip(1).all(|anew| !anew), "{begins_anew:?}: said once");
    let mut ids: Vec<_> = writes.iter().map(|write| json(write)["alert_id"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    assert_eq!(world.sim.counts().calls, ids.len() as u64);
    (ids, begins_anew.first().copied().unwrap_or_default())
}

const FOUR: &str = r#"[{"id":"a"},{"id":"b"},{"id":"c"},{"id":"d"}]"#;

#[rstest]
#[case::nothing(&[], &["a", "b", "c", "d"])]
#[case::some(&[(1, "b"), (3, "d")], &["a", "c"])]
#[case::all_but_one(&[(0, "a"), (1, "b"), (3, "d")], &["c"])]
#[case::all(&[(0, "a"), (1, "b"), (2, "c"), (3, "d")], &[])]
#[tokio::test(start_paused = true)]
async fn what_is_published_is_neither_asked_nor_written_again(#[case] parts: &[(usize, &str)], #[case] left: &[&str]) {
    let (ids, begins_anew) = written_beside(published(parts), FOUR).await;
    assert_eq!((&ids[..], begins_anew), (&left.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()[..], false));
}

/// Another configuration or version may take another part of the message for its alerts.
#[tokio::test(start_paused = true)]
async fn what_is_published_of_others_says_nothing_of_these() {
    let (ids, begins_anew) = written_beside(published(&[(1, "b"), (2, "x")]), FOUR).await;
    assert_eq!((ids.len(), begins_anew), (4, true));
}

/// By its age, for example, which grows while others of the message wait.
#[tokio::test(start_paused = true)]
async fn what_the_filter_leaves_out_since_was_published_all_the_same() {
    let world = World::all_found(1);
    let mut pipeline = pipeline(&world, [(TENANT.to_owned(), world.account.clone())]);
    let filter = Filter { severities: vec![Severity::High], ..Filter::default() };
    pipeline.decoder = Decoder::new(InputFormat::Auto, None, filter);
    let message = record(
        r#"[{"id":"a","severity":"Low"},{"id":"b","severity":"High"},{"id":"c","severity":"High"},{"id":"d","severity":"Low"}]"#,
    );
    let published = published(&[(0, "a"), (1, "b")]);
    let decided = Arc::new(pipeline)
        .process(message, Some(outlet().0), Some(Box::new(published)), CancellationToken::new())
        .await
        .unwrap();
    assert_eq!((decided.early, json(&decided.writes[0])["alert_id"].as_str()), (0, Some("c")));
    assert_eq!((decided.writes.len(), world.sim.counts().calls), (1, 1));
}

/// While Kafka does not take the dead letter, the record stays open, and what it led to beside is published.
#[tokio::test(start_paused = true)]
async fn an_alert_beside_what_can_not_be_used_is_noted_as_published() {
    let world = World::all_found(1);
    let pipeline = Arc::new(pipeline(&world, [(TENANT.to_owned(), world.account.clone())]));
    let (outlet, mut early) = outlet();
    let message = record(r#"[{"id":"../x"},{"id":"a"}]"#);
    let decided = pipeline.process(message, Some(outlet), None, CancellationToken::new()).await.unwrap();
    assert_eq!(early.recv().await.unwrap().part, part(1, "a"));
    assert!(matches!(&decided.writes[..], [Write { what: Written::DeadLetter(_), .. }]), "{decided:?}");
}

#[tokio::test(start_paused = true)]
async fn of_a_message_that_is_let_go_what_is_on_the_wire_is_written() {
    let world = World::new(1, Plan::new(1, Mix::ALL_FOUND), |account, _| account.terms.max_in_flight = 1);
    world.sim.switch(|switches| switches.latency = Latency::Fixed(Duration::from_secs(5)));
    let pipeline = Arc::new(pipeline(&world, [(TENANT.to_owned(), world.account.clone())]));
    let (outlet, mut early) = outlet();
    let leaving = CancellationToken::new();
    let living = tokio::spawn(Arc::clone(&pipeline).process(record(FOUR), Some(outlet), None, leaving.clone()));
    while world.sim.counts().calls == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    leaving.cancel();
    pipeline.accounts.let_go_of_withdrawn();
    assert!(living.await.unwrap().is_err());
    assert_eq!(early.recv().await.unwrap().part, part(0, "a"));
    assert_eq!((early.recv().await.is_none(), world.sim.counts().calls), (true, 1));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_names_its_source_and_the_accounts_tenant() {
    let world = World::all_found(1);
    let decided = process(&world, r#"{"id":"a"}"#).await.unwrap();
    let outgoing = &decided.writes[0].outgoing;
    assert_eq!((outgoing.to, outgoing.key.as_deref()), (Destination::Output(0), Some(&b"a"[..])));
    assert_eq!(json(&decided.writes[0])["tenant_id"], TENANT);
    let id = outgoing.headers.iter().find(|header| &*header.name == "ce_id").unwrap();
    assert_eq!(id.value.as_deref(), Some(&b"in/3/42/0"[..]));
}

#[tokio::test(start_paused = true)]
async fn an_alert_older_than_max_age_is_expired_without_a_call() {
    let world = World::all_found(1);
    let decided = process(&world, r#"{"id":"da637551227677560813_-961444813"}"#).await.unwrap();
    assert_eq!(json(&decided.writes[0])["status"], "expired");
    assert_eq!(world.sim.counts().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_with_good_and_bad_alerts_gives_outputs_and_one_dead_letter() {
    let world = World::new(1, Plan::new(1, Mix::ALL_FOUND).script("refused", vec![Answer::status(400)]), |_, _| {});
    let payload = r#"[{"id":"good"},{"id":"../admin"},{"id":"refused"}]"#;
    let decided = process(&world, payload).await.unwrap();
    let [Write { what: Written::DeadLetter(rejection), outgoing }] = decided.writes.as_slice() else {
        panic!("{decided:?}");
    };
    assert_eq!((decided.early, outgoing.payload.as_deref()), (1, Some(payload.as_bytes())));
    assert_eq!(rejection.reason, Reason::InvalidAlertId);
    assert!(rejection.detail.contains("alert refused"), "{}", rejection.detail);
    assert_eq!(world.sim.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn alerts_without_room_wait_as_bytes_and_are_asked_about_later() {
    let world = World::all_found(1);
    let mut pipeline = pipeline(&world, [(TENANT.to_owned(), world.account.clone())]);
    pipeline.room = Semaphore::new(2);
    let pipeline = Arc::new(pipeline);
    let held = pipeline.room.acquire().await.unwrap();
    let living = tokio::spawn(pipeline.clone().process(
        record(r#"[{"id":"a"},{"id":"b"}]"#),
        Some(outlet().0),
        None,
        CancellationToken::new(),
    ));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.sim.counts().calls, 0);
    drop(held);
    let decided = living.await.unwrap().unwrap();
    assert_eq!((decided.early + decided.writes.len(), world.sim.counts().calls), (2, 2));
    assert_eq!(pipeline.room.available_permits(), 2);
}

/// It may wait for hours, and what comes in meanwhile does not.
#[tokio::test(start_paused = true)]
async fn what_was_sent_back_has_a_room_of_its_own() {
    let world = World::all_found(1);
    let mut pipeline = pipeline(&world, [(TENANT.to_owned(), world.account.clone())]);
    pipeline.spare_room = Semaphore::new(1);
    let pipeline = Arc::new(pipeline);
    let held = pipeline.spare_room.acquire().await.unwrap();
    let mut sent_back = Arc::unwrap_or_clone(record(r#"{"id":"sent-back"}"#));
    sent_back.headers.push(Header::new("alert-ips-attempt", "1"));
    let process = |record| pipeline.clone().process(record, Some(outlet().0), None, CancellationToken::new());
    let living = tokio::spawn(process(Arc::new(sent_back)));
    let decided = process(record(r#"{"id":"new"}"#)).await.unwrap();
    assert_eq!((decided.writes.len(), world.sim.counts().calls), (1, 1));
    assert_eq!(pipeline.room.available_permits(), MAX_OPEN_ALERTS);
    drop(held);
    assert_eq!((living.await.unwrap().unwrap().writes.len(), world.sim.counts().calls), (1, 2));
    assert_eq!(pipeline.spare_room.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_skipped_leads_to_no_write() {
    let world = World::all_found(1);
    let decided = process(&world, r#"{"value":[]}"#).await.unwrap();
    assert_eq!((decided.early, decided.writes.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn thousands_of_rejections_in_one_message_are_one_short_dead_letter() {
    let (one, other) = (World::all_found(1), World::all_found(2));
    let pipeline =
        Arc::new(pipeline(&one, [("t1".to_owned(), one.account.clone()), ("t2".to_owned(), other.account.clone())]));
    let ids: Vec<String> = (0..5_000).map(|n| format!(r#"{{"id":"q{n}"}}"#)).collect();
    let decided = pipeline
        .process(record(&format!("[{}]", ids.join(","))), Some(outlet().0), None, CancellationToken::new())
        .await
        .unwrap();
    let [Write { what: Written::DeadLetter(rejection), .. }] = &decided.writes[..] else { panic!("{decided:?}") };
    assert!(rejection.detail.ends_with("; and 4997 more") && rejection.detail.len() < 1_000, "{}", rejection.detail);
}

#[tokio::test(start_paused = true)]
async fn with_several_accounts_an_alert_goes_to_its_tenants() {
    let (one, other) = (World::all_found(1), World::all_found(2));
    let accounts = [("tenant-1".to_owned(), one.account.clone()), ("Tenant-2".to_owned(), other.account.clone())];
    let pipeline = Arc::new(pipeline(&one, accounts));
    let of = |tenant: &str| record(&format!(r#"{{"id":"a","severity":"Low","aadTenantId":"{tenant}"}}"#));
    let decided =
        Arc::clone(&pipeline).process(of("TENANT-2"), Some(outlet().0), None, CancellationToken::new()).await.unwrap();
    assert_eq!(json(&decided.writes[0])["tenant_id"], "tenant-2");
    assert_eq!((one.sim.counts().calls, other.sim.counts().calls), (0, 1));
    for unknown in [of("tenant-3"), record(r#"{"id":"a"}"#)] {
        let decided =
            Arc::clone(&pipeline).process(unknown, Some(outlet().0), None, CancellationToken::new()).await.unwrap();
        let Written::DeadLetter(rejection) = &decided.writes[0].what else { panic!("{decided:?}") };
        assert_eq!(rejection.reason, Reason::UnknownTenant);
    }
}
