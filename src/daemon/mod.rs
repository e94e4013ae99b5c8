//! Builds every part from the settings, starts them, and stops them in order: the only place that knows all parts.

pub mod journal;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use self::journal::KafkaJournal;
use crate::{
    clock::Clock,
    config::{self, AccountSettings, Delivery, JournalKind, SecretError, Settings},
    decode::Decoder,
    defender::{
        account::{Account, AccountConfig, AccountHandle, Reporting as AccountReporting},
        journal::{Journal, MemoryJournal},
        token::SignIn,
        transport::{self, HttpSetupError, HttpTransport, Timeouts, Transport},
        wire::Api,
    },
    dispatcher::{
        Dispatcher, Edge, InputHealth, OpenBounds, OutputHealth, Outputs, Reporting as DispatcherReporting, Unfinished,
    },
    domain::{
        backlog::Patience,
        phase::Phase,
        retry::{Backoff, ReaskPlan},
        terms::Terms,
    },
    kafka::{
        client::{InvalidKafkaConfig, KafkaConfig},
        journal::{Demands, OpenJournalError},
        sink::{self, SinkTopics},
        source::{self, Start, StartSourceError},
        transactor::{self, StartTransactorError},
    },
    observe::{health::Health, metrics::Metrics, snapshot::Watches},
    ops::admin::{self, Admin},
    pipeline::{Accounts, MAX_OPEN_ALERTS, MAX_SPARE_ALERTS, Pipeline},
    registry::Registry,
};

/// How long after its request to append it a claim may become a call.
const CLAIM_TTL: Duration = Duration::from_secs(10);

/// How much longer the journal's entries must stay than they count: a replay begins at a checkpoint before them, and a
/// broker's clock that is set forward makes them look older.
const JOURNAL_MARGIN: Duration = Duration::from_mins(10);

/// News from librdkafka that may wait for the dispatcher.
const NOTICES: usize = 256;

/// How long the accounts may take to end after the dispatcher has.
const ACCOUNTS_WITHIN: Duration = Duration::from_secs(1);

/// Why the daemon can't be started. Everything else is waited for.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Http(#[from] HttpSetupError),
    #[error("the certificate authorities in {path} can't be read: {error}")]
    CaFile { path: String, error: std::io::Error },
    #[error("input.schema_registry.password: {0}")]
    RegistryPassword(#[from] SecretError),
    #[error(transparent)]
    Kafka(#[from] InvalidKafkaConfig),
    #[error(transparent)]
    Source(#[from] StartSourceError),
    #[error(transparent)]
    Transactor(#[from] StartTransactorError),
    #[error(transparent)]
    Journal(#[from] OpenJournalError),
    #[error(
        "admin.listen: {address} can't be listened on: {error}; another program (or another alert-ips) has it: choose another address, \
         or \"\" for none"
    )]
    Admin { address: SocketAddr, error: std::io::Error },
}

/// The daemon at work.
pub struct Daemon {
    phase: watch::Sender<Phase>,
    watches: Watches,
    health: Health,
    metrics: Metrics,
    dispatcher: JoinHandle<Unfinished>,
    accounts: JoinSet<()>,
    /// By name, with what the journal was opened for.
    handles: Vec<(Arc<str>, AccountHandle, Demands)>,
    /// How long a call may take.
    call_timeout: Duration,
    admin: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts all parts. Fails only for what a change of the configuration must mend.
    pub async fn start(settings: &Settings) -> Result<Self, StartError> {
        // First: a second instance started by mistake ends here, before it takes partitions from the first.
        let listener = admin_listener(settings).await?;
        let connections = settings.accounts.iter().map(|account| account.max_in_flight.get() as usize).sum();
        let transport = Arc::new(http_transport(&settings.http, connections)?);
        let clock = Clock::machine();
        let health = Health::new(clock.clone());
        let metrics = Metrics::new(clock.wall(), settings.topics.input.iter().map(|topic| &**topic));
        let (phase, phases) = watch::channel(Phase::Starting);

        let mut accounts = JoinSet::new();
        let mut handles = Vec::new();
        for account in &settings.accounts {
            let reporting = AccountReporting {
                metrics: metrics.account(&account.name),
                health: health.part(&format!("account {}", account.name)),
                pulse: health.pulse(&format!("account {}", account.name)),
            };
            let (transport, phases) = (transport.clone(), phases.clone());
            let handle = match settings.journal.kind {
                JournalKind::Kafka => {
                    let journal = KafkaJournal::open(settings, account, &clock)?;
                    let (task, handle) = build_account(settings, account, journal, transport, &clock, reporting);
                    accounts.spawn(task.run(phases));
                    handle
                }
                JournalKind::Memory => {
                    let journal = MemoryJournal::new(clock.clone());
                    let (task, handle) = build_account(settings, account, journal, transport, &clock, reporting);
                    accounts.spawn(task.run(phases));
                    handle
                }
            };
            handles.push((account, handle));
        }
        let watches = Watches::new(
            phases.clone(),
            handles.iter().map(|(account, handle)| (account.name.clone(), handle.status())),
        );

        let by_tenant = handles.iter().map(|(account, handle)| (account.tenant_id.to_string(), handle.clone()));
        let pipeline = Pipeline {
            accounts: Accounts::new(by_tenant),
            decoder: decoder(settings),
            registry: registry(settings, &health)?,
            outputs: settings.output.outputs.clone(),
            max_age: settings.input.max_age,
            clock: clock.clone(),
            metrics: metrics.clone(),
            room: Semaphore::new(MAX_OPEN_ALERTS),
            spare_room: Semaphore::new(MAX_SPARE_ALERTS),
        };
        let reporting = DispatcherReporting {
            metrics: metrics.clone(),
            input: InputHealth::new(health.part("kafka input")),
            output: OutputHealth::new(health.part("kafka output"), health.part("kafka dead letters")),
            pulse: health.pulse("dispatcher"),
        };
        let edge = kafka_edge(settings, &clock)?;
        let bounds = OpenBounds {
            records: settings.input.max_open_records,
            bytes: settings.input.max_open_bytes,
            commit_metadata: settings.input.max_commit_metadata,
        };
        let pipeline = Arc::new(pipeline);
        let looks = Arc::clone(&pipeline);
        tokio::spawn(async move {
            if let Some(registry) = &looks.registry {
                registry.look().await;
            }
        });
        let dispatcher = Dispatcher::new(pipeline, edge, reporting, bounds, clock);
        let dispatcher = tokio::spawn(dispatcher.run(phases));

        let served = Admin { health: health.clone(), metrics: metrics.clone(), watches: watches.clone() };
        let admin = listener.map(|(listener, address)| serve_admin(listener, address, served, &phase));
        phase.send_replace(Phase::Running);
        let call_timeout = settings.http.total_timeout;
        let handles = handles
            .into_iter()
            .map(|(account, handle)| (account.name.clone(), handle, journal_demands(settings, account)))
            .collect();
        Ok(Self { phase, watches, health, metrics, dispatcher, accounts, handles, call_timeout, admin })
    }

    /// Where the present state can be read.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Lets the accounts hold themselves to other terms from now on. Names those that can't: their journal would have to
    /// be kept for longer than was checked when it was opened.
    pub fn hold_to(&self, settings: &Settings) -> Vec<Arc<str>> {
        let mut refused = Vec::new();
        for account in &settings.accounts {
            let Some((name, handle, opened_for)) = self.handles.iter().find(|(name, ..)| *name == account.name) else {
                continue;
            };
            if journal_demands(settings, account).retention > opened_for.retention {
                refused.push(name.clone());
            } else {
                // How long a call may take is decided by the transport, which stays as it was opened.
                handle.hold_to(Terms { call_timeout: self.call_timeout, ..terms(settings, account) });
            }
        }
        refused
    }

    /// Ends only if an owner ends by itself, which is a defect. Says which.
    pub async fn failed(&mut self) -> &'static str {
        tokio::select! {
            _ = &mut self.dispatcher => "the dispatcher",
            Some(_) = self.accounts.join_next() => "an account",
        }
    }

    /// Drains: no new calls, calls on the wire finish, outputs are acknowledged, the last commit is made. At most 30 s.
    pub async fn stop(mut self) -> Unfinished {
        self.phase.send_replace(Phase::Draining);
        let unfinished = (&mut self.dispatcher).await.unwrap_or_default();
        // Accounts end by themselves with their last call; one that takes longer has nobody left to answer.
        let ended = async { while self.accounts.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(ACCOUNTS_WITHIN, ended).await;
        self.phase.send_replace(Phase::Stopped);
        if let Some(admin) = self.admin {
            let _ = tokio::time::timeout(ACCOUNTS_WITHIN, admin).await;
        }
        unfinished
    }
}

/// What reads the messages.
pub fn decoder(settings: &Settings) -> Decoder {
    let is_embedded = settings.output.outputs.iter().any(|output| output.include_alert);
    let decoder = Decoder::new(settings.input.format, settings.input.mapping.clone(), settings.filter.clone());
    decoder.keeping_originals(is_embedded)
}

/// What asks for the schemas of messages.
pub fn registry(settings: &Settings, health: &Health) -> Result<Option<Registry>, StartError> {
    let Some(config::SchemaRegistry { url, user, ca_file }) = &settings.input.registry else { return Ok(None) };
    let ca_pem = ca_file.as_deref().map(read_authorities).transpose()?;
    let client = transport::builder(settings.http.connect_timeout, None, ca_pem.as_deref())?
        .timeout(settings.http.total_timeout)
        .user_agent(concat!("alert-ips/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| HttpSetupError::Client(error.to_string()))?;
    let user = user.as_ref().map(|(name, password)| password.read().map(|password| (name.clone(), password)));
    let health = health.part("schema registry");
    Ok(Some(Registry::new(client, url.clone(), user.transpose()?, health)))
}

fn read_authorities(path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|error| StartError::CaFile { path: path.display().to_string(), error })
}

/// The client for sign-in and API. `connections`: calls that may be on the wire at the same time.
pub fn http_transport(http: &config::Http, connections: usize) -> Result<HttpTransport, StartError> {
    let ca_pem = http.ca_file.as_deref().map(read_authorities).transpose()?;
    let timeouts = Timeouts { connect: http.connect_timeout, head: http.head_timeout, total: http.total_timeout };
    Ok(HttpTransport::new(timeouts, http.proxy.as_ref(), ca_pem.as_deref(), connections)?)
}

/// An account over a journal.
pub fn build_account<J: Journal, T: Transport>(
    settings: &Settings,
    account: &AccountSettings,
    journal: J,
    transport: Arc<T>,
    clock: &Clock,
    reporting: AccountReporting,
) -> (Account<J, T>, AccountHandle) {
    let secret = account.client_secret.clone();
    let config = AccountConfig {
        instance: settings.instance.name.as_str().into(),
        terms: terms(settings, account),
        patience: Patience::new(|severity| settings.priority.patience.of(severity)),
        reuse_for: settings.reuse.reuse_for,
        max_answers: settings.reuse.max_answers,
        reask: ReaskPlan { after: settings.not_found.reask_after.clone(), young_for: settings.not_found.young_for },
        backoff: Backoff { first: settings.retry.first, longest: settings.retry.longest },
        poison_after: settings.retry.poison_after,
        bad_response_attempts: settings.retry.bad_response_attempts.get(),
        api: Api::new(&account.api_url),
        sign_in: SignIn::new(&account.authority_url, &account.tenant_id, &account.client_id, &account.scope),
        secret: Box::new(move || secret.read().map_err(|error| error.to_string())),
    };
    Account::new(config, clock.clone(), journal, transport, reporting, rand::random())
}

/// What decides about an account's claims, where one clock stamps the journal's entries.
pub fn terms(settings: &Settings, account: &AccountSettings) -> Terms {
    Terms {
        limits: account.limits.clone(),
        share: account.share,
        reserve: settings.priority.reserve,
        max_in_flight: account.max_in_flight.get(),
        claim_ttl: CLAIM_TTL,
        call_timeout: settings.http.total_timeout,
        skew: Duration::ZERO,
    }
}

/// What the journal's topic must be like for an account: entries stay for as long as their calls hold slots and their
/// answers are reused, and a little longer, in whole minutes.
pub fn journal_demands(settings: &Settings, account: &AccountSettings) -> Demands {
    let counted = terms(settings, account).memory().max(settings.reuse.reuse_for) + JOURNAL_MARGIN;
    Demands {
        retention: Duration::from_mins(counted.as_secs().div_ceil(60)),
        assume_settings: settings.journal.assume_settings,
    }
}

/// How the settings address Kafka.
pub fn kafka_config(settings: &Settings) -> KafkaConfig {
    let properties = settings.kafka.properties.iter();
    let config = KafkaConfig {
        bootstrap_servers: settings.kafka.bootstrap_servers.clone(),
        group_id: settings.kafka.group_id.clone(),
        properties: properties.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        client_id: format!("alert-ips-{}", settings.instance.name),
        static_member: settings.instance.static_member.then(|| settings.instance.name.clone()),
    };
    config.compressing(settings.output.compression.as_str())
}

/// The name of this instance's transactions: the same after a restart, so that it ends what the process before left open,
/// and no other's.
pub fn transactional_id(settings: &Settings) -> String {
    format!("{}-{}", settings.kafka.group_id, settings.instance.name)
}

fn kafka_edge(settings: &Settings, clock: &Clock) -> Result<Edge, StartError> {
    let config = kafka_config(settings);
    let (notify, notices) = mpsc::channel(NOTICES);
    let topics = SinkTopics {
        outputs: settings.topics.outputs.iter().map(ToString::to_string).collect(),
        dead_letters: settings.topics.dead_letters.to_string(),
    };
    let input: Vec<_> = settings.topics.input.iter().map(ToString::to_string).collect();
    let (source, events) = source::start(&config, &input, Start::from(settings.input.start), notify.clone())?;
    let outputs = match settings.output.delivery {
        Delivery::AtLeastOnce => {
            let (sink, acks) = sink::start(&config, topics, notify)?;
            Outputs::AtLeastOnce { sink: Box::new(sink), acks }
        }
        Delivery::ExactlyOnce => {
            // The same after a restart, so that it ends what the process before left open; and no other's.
            let name = transactional_id(settings);
            let (transactor, transacted) =
                transactor::start(&config, topics, &name, source.stamper(), notify, clock.clone())?;
            Outputs::ExactlyOnce { transactor, transacted }
        }
    };
    Ok(Edge { source, events, outputs, notices })
}

async fn admin_listener(settings: &Settings) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    let Some(address) = settings.admin.listen else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|error| StartError::Admin { address, error })?;
    Ok(Some((listener, address)))
}

fn serve_admin(
    listener: TcpListener,
    address: SocketAddr,
    served: Admin,
    phase: &watch::Sender<Phase>,
) -> JoinHandle<()> {
    let mut stopped = phase.subscribe();
    let stopped = async move {
        // An error means that the daemon is gone.
        let _ = stopped.wait_for(|phase| *phase == Phase::Stopped).await;
    };
    tokio::spawn(async move {
        if let Err(error) = admin::serve(listener, &address.to_string(), served, stopped).await {
            tracing::error!(%error, "the admin server ended");
        }
    })
}

impl From<config::Start> for Start {
    fn from(start: config::Start) -> Self {
        match start {
            config::Start::Earliest => Self::Earliest,
            config::Start::Latest => Self::Latest,
            config::Start::At(time) => Self::At(time),
        }
    }
}
