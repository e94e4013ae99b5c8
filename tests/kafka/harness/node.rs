//! A broker as `tools/kafka` starts none: the second of a cluster, or one that withholds rights. It runs on the Java and the
//! Kafka of a broker that `tools/kafka` has started, with its settings but for a few.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Broker, LONG, Proxy, broker::next_port, eventually};

/// How the folder of a cluster of one node is made.
const ALONE: [&str; 3] = ["--standalone", "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAA"];

pub struct Node {
    pub bootstrap: String,
    java: Java,
    properties: PathBuf,
    /// `None` while it is stopped.
    child: Option<Child>,
    folder: TempDir,
}

/// How a broker's process was started: Java, its options, and Kafka's jars.
struct Java(Vec<String>);

impl Node {
    /// A second broker in the cluster of `first`, which is its controller.
    pub fn second(first: &Broker) -> Self {
        let meta = fs::read_to_string(first.folder().join("data/meta.properties")).unwrap();
        let cluster = meta.lines().find_map(|line| line.strip_prefix("cluster.id=")).unwrap();
        let address = format!("PLAINTEXT://127.0.0.1:{}", first.port() + 2);
        let settings =
            format!("process.roles=broker\nnode.id=2\nlisteners={address}\nadvertised.listeners={address}\n");
        Self::format_and_start(first, first.port() + 2, &settings, &["--cluster-id", cluster])
    }

    /// A cluster of its own in which everything is allowed that [`acl`](Self::acl) does not deny.
    pub fn with_rights(model: &Broker) -> Self {
        let port = next_port();
        let (address, controller) = (format!("PLAINTEXT://127.0.0.1:{port}"), format!("127.0.0.1:{}", port + 1));
        let settings = format!(
            "listeners={address},CONTROLLER://{controller}\nadvertised.listeners={address}\n\
             controller.quorum.bootstrap.servers={controller}\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             allow.everyone.if.no.acl.found=true\n"
        );
        Self::format_and_start(model, port, &settings, &ALONE)
    }

    /// A cluster of its own with a second listener, [`encrypted`](Self::encrypted), where clients sign in by SCRAM-SHA-256.
    /// `identity`: its key and certificate, read at each start.
    pub fn with_sign_in(model: &Broker, identity: &Path) -> Self {
        let port = next_port();
        let (plain, controller) = (format!("PLAINTEXT://127.0.0.1:{port}"), format!("127.0.0.1:{}", port + 1));
        let encrypted = format!("SASL_SSL://127.0.0.1:{}", port + 2);
        let settings = format!(
            "listeners={plain},CONTROLLER://{controller},{encrypted}\nadvertised.listeners={plain},{encrypted}\n\
             controller.quorum.bootstrap.servers={controller}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL\n\
             sasl.enabled.mechanisms=SCRAM-SHA-256\n\
             listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
             ssl.keystore.type=PEM\nssl.keystore.location={}\n",
            identity.display()
        );
        Self::format_and_start(model, port, &settings, &ALONE)
    }

    /// The listener of a broker [with sign-in](Self::with_sign_in).
    pub fn encrypted(&self) -> String {
        let plain: SocketAddr = self.bootstrap.parse().unwrap();
        format!("127.0.0.1:{}", plain.port() + 2)
    }

    /// Lets a user sign in with this password, or not any more.
    pub fn user(&self, name: &str, password: Option<&str>) {
        let change = match password {
            Some(password) => ["--add-config".to_owned(), format!("SCRAM-SHA-256=[password={password}]")],
            None => ["--delete-config".to_owned(), "SCRAM-SHA-256".to_owned()],
        };
        let user = ["--bootstrap-server", &self.bootstrap, "--alter", "--entity-type", "users", "--entity-name", name];
        self.java.run("kafka.admin.ConfigCommand", &[&user[..], &change.each_ref().map(String::as_str)].concat());
    }

    /// A cluster of its own that each of these proxies leads to, under an address of its own. What a transaction that is
    /// open for too long left is ended soon after.
    pub fn behind(model: &Broker, proxies: &mut [Proxy], runtime: &Runtime) -> Self {
        let port = next_port();
        let ways = (port + 2..).zip(proxies.iter());
        let ways: Vec<_> = ways.map(|(port, proxy)| (port, proxy.addresses()[0])).collect();
        let each = |write: fn(&(u16, SocketAddr)) -> String| ways.iter().map(write).collect::<String>();
        let settings = format!(
            "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{}{}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}{}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{}\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{}\n\
             transaction.abort.timed.out.transaction.cleanup.interval.ms=1000\n",
            port + 1,
            each(|(port, _)| format!(",WAY{port}://127.0.0.1:{port}")),
            each(|(port, proxy)| format!(",WAY{port}://{proxy}")),
            each(|(port, _)| format!(",WAY{port}:PLAINTEXT")),
            port + 1,
        );
        let node = Self::format_and_start(model, port, &settings, &ALONE);
        for (proxy, (port, _)) in proxies.iter_mut().zip(&ways) {
            proxy.run(runtime, &[(Ipv4Addr::LOCALHOST, *port).into()]);
        }
        node
    }

    /// Starts it anew with a further setting.
    pub fn set(&mut self, setting: &str) {
        self.stop();
        let known = fs::read_to_string(&self.properties).unwrap();
        fs::write(&self.properties, format!("{known}{setting}\n")).unwrap();
        self.start();
    }

    /// Kafka's own tool for rights.
    pub fn acl(&self, words: &[&str]) {
        let tool = ["--bootstrap-server", &self.bootstrap, "--force"];
        self.java.run("org.apache.kafka.tools.AclCommand", &[&tool, words].concat());
    }

    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = self.java.command("kafka.Kafka");
        command.arg(&self.properties).stdin(Stdio::null()).stderr(log.try_clone().unwrap()).stdout(log);
        self.child = Some(command.spawn().unwrap());
        let listens = || TcpStream::connect(&self.bootstrap).ok().map(drop);
        eventually(&format!("the broker at {} listens", self.bootstrap), LONG, listens);
    }

    /// `kill -9`.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn format_and_start(model: &Broker, port: u16, settings: &str, format: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let properties = folder.path().join("server.properties");
        // Of what is set twice the last counts.
        let known = fs::read_to_string(model.folder().join("server.properties")).unwrap();
        let data = folder.path().join("data");
        fs::write(&properties, format!("{known}\n{settings}log.dirs={}\n", data.display())).unwrap();
        let java = Java::of(model.process());
        let tool = ["format", "--config", properties.to_str().unwrap()];
        java.run("kafka.tools.StorageTool", &[&tool, format].concat());
        let bootstrap = format!("127.0.0.1:{port}");
        let mut node = Self { bootstrap, java, properties, child: None, folder };
        node.start();
        node
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Java {
    fn of(process: u32) -> Self {
        let words = fs::read(Path::new("/proc").join(process.to_string()).join("cmdline")).unwrap();
        let words = words.split(|byte| *byte == 0).map(|word| String::from_utf8(word.to_vec()).unwrap());
        Self(words.take_while(|word| word != "kafka.Kafka").collect())
    }

    fn command(&self, class: &str) -> Command {
        let mut command = Command::new(&self.0[0]);
        command.args(&self.0[1..]).arg(class);
        command
    }

    fn run(&self, class: &str, words: &[&str]) {
        let output = self.command(class).args(words).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{class} {words:?}: {output:?}");
    }
}
