//! Three brokers that are their own controllers, each a process of its own with a small heap.
//!
//! `tools/kafka` starts one broker; this starts three on the Kafka that it fetches, with the same settings but for what
//! makes them a cluster: every topic on all three, and two of them must have a write.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::harness::{LONG, eventually};

pub(crate) const BROKERS: usize = 3;

/// Below the ports that the system hands out by itself, so that a broker finds its own free when it comes back.
const FIRST_PORT: u16 = 21_000;
const LAST_PORT: u16 = 32_000;

const SETTINGS: &str = "process.roles=broker,controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLUSTER
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
unclean.leader.election.enable=false
offsets.topic.replication.factor=3
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=10000
group.consumer.min.heartbeat.interval.ms=200
group.consumer.heartbeat.interval.ms=1000
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
log.retention.hours=720
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
metadata.log.segment.bytes=16777216
log.cleaner.dedupe.buffer.size=8388608
";

const JAVA: [&str; 8] = [
    "-Xmx320m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+PerfDisableSharedMem",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
];

pub(crate) struct Broker {
    /// For clients that are not disturbed.
    pub address: SocketAddr,
    /// Behind the proxy of each instance.
    pub behind: Vec<SocketAddr>,
    jars: PathBuf,
    folder: PathBuf,
    child: Option<Child>,
}

/// What a broker is made of.
struct Ports {
    cluster: SocketAddr,
    controller: SocketAddr,
    behind: Vec<SocketAddr>,
}

/// Starts the brokers. `proxies` are the addresses under which each instance knows each broker.
pub(crate) fn start(folder: &Path, proxies: &[Vec<SocketAddr>], seed: u64) -> Vec<Broker> {
    let jars = jars();
    let mut free = free_addresses(seed);
    let ports: Vec<Ports> = (0..BROKERS)
        .map(|_| Ports {
            cluster: free.next().unwrap(),
            controller: free.next().unwrap(),
            behind: free.by_ref().take(proxies.len()).collect(),
        })
        .collect();
    let voters: Vec<_> = (1..).zip(&ports).map(|(id, ports)| format!("{id}@{}", ports.controller)).collect();
    let brokers = ports.iter().enumerate().map(|(index, ports)| {
        let folder = folder.join(format!("broker-{}", index + 1));
        fs::create_dir_all(&folder).unwrap();
        let known: Vec<_> = proxies.iter().map(|addresses| addresses[index]).collect();
        fs::write(folder.join("server.properties"), properties(index + 1, ports, &known, &voters, &folder)).unwrap();
        Broker { address: ports.cluster, behind: ports.behind.clone(), jars: jars.clone(), folder, child: None }
    });
    let mut brokers: Vec<_> = brokers.collect();
    brokers.iter().for_each(Broker::format);
    brokers.iter_mut().for_each(Broker::start);
    for broker in &brokers {
        eventually(&format!("the broker at {} listens", broker.address), LONG, || broker.listens().then_some(()));
    }
    brokers
}

fn properties(id: usize, ports: &Ports, known: &[SocketAddr], voters: &[String], folder: &Path) -> String {
    let listener = |(index, address): (usize, &SocketAddr)| format!(",INSTANCE{index}://{address}");
    let behind: String = ports.behind.iter().enumerate().map(listener).collect();
    let advertised: String = known.iter().enumerate().map(listener).collect();
    let plaintext: Vec<_> = (0..known.len()).map(|index| format!("INSTANCE{index}:PLAINTEXT")).collect();
    let Ports { cluster, controller, .. } = ports;
    format!(
        "{SETTINGS}node.id={id}\n\
         controller.quorum.voters={}\n\
         listeners=CLUSTER://{cluster},CONTROLLER://{controller}{behind}\n\
         advertised.listeners=CLUSTER://{cluster}{advertised}\n\
         listener.security.protocol.map=CLUSTER:PLAINTEXT,CONTROLLER:PLAINTEXT,{}\n\
         log.dirs={}\n",
        voters.join(","),
        plaintext.join(","),
        folder.join("data").display()
    )
}

impl Broker {
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = self.java("kafka.Kafka");
        command.arg(self.folder.join("server.properties")).stdin(Stdio::null());
        self.child = Some(command.stderr(log.try_clone().unwrap()).stdout(log).spawn().unwrap());
    }

    pub(crate) fn listens(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn terminate(&self) {
        let child = self.child.as_ref().unwrap();
        kill_process(Pid::from_child(child), Signal::TERM).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    fn format(&self) {
        let mut command = self.java("kafka.tools.StorageTool");
        command.args(["format", "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAA", "--config"]);
        let output = command.arg(self.folder.join("server.properties")).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "a broker can't be formatted: {output:?}");
    }

    fn java(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        command.args(JAVA).arg("-cp").arg(self.jars.join("*")).arg(class);
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where `tools/kafka` has put Kafka's jars.
fn jars() -> PathBuf {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/kafka");
    let output = Command::new(tool).arg("fetch").stdin(Stdio::null()).output().expect("tools/kafka runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// Campaigns of different seeds may run at the same time, and a broker that is away has left its ports.
fn free_addresses(seed: u64) -> impl Iterator<Item = SocketAddr> {
    let first = FIRST_PORT + 500 * u16::try_from(seed % 18).unwrap() + u16::try_from(std::process::id() % 400).unwrap();
    (first..LAST_PORT)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .filter(|address| TcpListener::bind(address).is_ok())
}
