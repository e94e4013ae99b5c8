//! An account over the simulated service in this process: no sockets, so that tokio's paused time drives both.

use std::{sync::Arc, time::Duration};

use alert_ips::{
    clock::Clock,
    defender::{
        account::{Account, AccountConfig, AccountHandle, Pending, Reporting},
        journal::MemoryJournal,
        token::SignIn,
        transport::{HttpFailure, HttpRequest, HttpResponse, Transport},
        wire::Api,
    },
    domain::{
        alert::{Alert, AlertId, Severity},
        backlog::Patience,
        outcome::{Outcome, Rejection},
        phase::Phase,
        retry::{Backoff, ReaskPlan},
        terms::Terms,
    },
    observe::{health::Health, metrics::Metrics},
    sim::{Failure, Mix, Plan, Settings, Sim},
};
use axum::http::{Request, Response, header};
use bytes::Bytes;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use tokio::sync::watch;
use url::Url;

pub(crate) const START: Timestamp = Timestamp::constant(1_800_000_000, 0);
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The simulated service as a transport.
pub(crate) struct SimTransport(pub(crate) Sim);

impl Transport for SimTransport {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpFailure> {
        let request = match request {
            HttpRequest::Get { url, bearer } => Request::get(url.as_str())
                .header(header::AUTHORIZATION, format!("Bearer {}", bearer.expose_secret()))
                .body(Bytes::new()),
            HttpRequest::PostForm { url, form } => Request::post(url.as_str())
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Bytes::copy_from_slice(form.expose_secret().as_bytes())),
        };
        let answer = tokio::time::timeout(CALL_TIMEOUT, self.0.send(request.unwrap())).await;
        match answer {
            Ok(Ok(response)) => Ok(read(&response)),
            Ok(Err(Failure::Refused)) => Err(HttpFailure::Connect("connection refused".into())),
            Ok(Err(Failure::Reset)) => Err(HttpFailure::Broken("connection reset".into())),
            Ok(Err(Failure::Truncated)) => Err(HttpFailure::Truncated("end of file".into())),
            Ok(Err(Failure::Endless)) => Err(HttpFailure::TooLarge),
            Err(_) => Err(HttpFailure::Timeout(CALL_TIMEOUT)),
        }
    }
}

pub(crate) fn read(response: &Response<Bytes>) -> HttpResponse {
    let text = |name: header::HeaderName| {
        response.headers().get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    HttpResponse {
        status: response.status().as_u16(),
        retry_after: text(header::RETRY_AFTER).collect(),
        date: text(header::DATE).next(),
        content_type: text(header::CONTENT_TYPE).next(),
        body: response.body().clone(),
    }
}

/// One account, its service, and the clock of both.
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) clock: Clock,
    pub(crate) account: AccountHandle,
    pub(crate) health: Health,
    pub(crate) phase: watch::Sender<Phase>,
}

impl World {
    /// With the service's own limits, the defaults of the configuration, and `plan` for the answers.
    pub(crate) fn new(seed: u64, plan: Plan, change: impl FnOnce(&mut AccountConfig, &mut Settings)) -> Self {
        let clock = Clock::following_tokio(START);
        let mut settings = Settings::new(seed);
        settings.plan = plan;
        let mut config = defaults(&settings);
        change(&mut config, &mut settings);
        // Its clock is its own: that of the host may be set.
        let sim = Sim::new(settings, Clock::following_tokio(START));
        let health = Health::new(clock.clone());
        let reporting = Reporting {
            metrics: Metrics::new(START, []).account("test"),
            health: health.part("account"),
            pulse: health.pulse("account"),
        };
        let journal = MemoryJournal::new(clock.clone());
        let transport = Arc::new(SimTransport(sim.clone()));
        let (task, account) = Account::new(config, clock.clone(), journal, transport, reporting, seed);
        let (phase, phases) = watch::channel(Phase::Running);
        tokio::spawn(task.run(phases));
        Self { sim, clock, account, health, phase }
    }

    pub(crate) fn all_found(seed: u64) -> Self {
        Self::new(seed, Plan::new(seed, Mix::ALL_FOUND), |_, _| {})
    }

    /// Asks about an alert created now.
    pub(crate) async fn ask(&self, id: &str, severity: Severity) -> Pending {
        let now = self.clock.wall();
        let alert =
            Alert { id: AlertId::parse(id).unwrap(), tenant: None, severity, updated: None, created: Some(now) };
        self.account.ask(alert, now).await.unwrap()
    }

    /// Asks, and waits for what becomes of it.
    pub(crate) async fn answer(&self, id: &str) -> Result<Outcome, Rejection> {
        self.ask(id, Severity::High).await.await.unwrap()
    }

    /// Asserts what the service counted by itself: no window over, nothing else wrong.
    pub(crate) fn assert_limits_kept(&self) {
        for window in self.sim.windows() {
            assert!(!window.was_exceeded(), "{} calls in one window of {}", window.worst, window.limit);
        }
        assert_eq!(self.sim.violations(), []);
    }
}

pub(crate) fn defaults(settings: &Settings) -> AccountConfig {
    let origin = Url::parse("http://127.0.0.1").unwrap();
    AccountConfig {
        instance: "host".into(),
        terms: Terms {
            limits: settings.limits.clone(),
            share: 1.0,
            reserve: 0.01,
            max_in_flight: 8,
            claim_ttl: Duration::from_secs(10),
            call_timeout: CALL_TIMEOUT,
            skew: Duration::ZERO,
        },
        patience: Patience::new(|severity| match severity {
            Severity::High => Duration::ZERO,
            Severity::Medium | Severity::Unspecified => Duration::from_mins(5),
            Severity::Low => Duration::from_mins(30),
            Severity::Informational => Duration::from_hours(1),
        }),
        reuse_for: Duration::from_mins(15),
        max_answers: 1000,
        reask: ReaskPlan { after: [1, 5, 15].map(Duration::from_mins).to_vec(), young_for: Duration::from_hours(24) },
        backoff: Backoff { first: Duration::from_secs(1), longest: Duration::from_mins(5) },
        poison_after: Duration::from_hours(24),
        bad_response_attempts: 5,
        api: Api::new(&origin),
        sign_in: SignIn::new(&origin, "tenant", "client", "https://api.securitycenter.microsoft.com/.default"),
        secret: Box::new(|| Ok("secret".into())),
    }
}
