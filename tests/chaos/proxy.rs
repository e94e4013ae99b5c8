//! A TCP proxy between one instance and the brokers, which can cut and hold what passes.
//!
//! Each broker has a listener for each instance and tells its address as the proxy's, so whatever the instance connects to
//! goes through here.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::watch,
};

/// How long a broker may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    Open,
    /// Connections are closed, new ones too.
    Cut,
    /// Nothing passes, and nobody is told.
    Held,
}

/// All of one instance's ways to the brokers.
pub(crate) struct Proxy {
    traffic: watch::Sender<Traffic>,
    /// One for each broker.
    listeners: Vec<StdListener>,
}

impl Proxy {
    pub(crate) fn bind(brokers: usize) -> Self {
        let listen = |_| StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self { traffic: watch::Sender::new(Traffic::Open), listeners: (0..brokers).map(listen).collect() }
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
    }

    /// Passes on to these, in the order of the brokers.
    pub(crate) fn run(&mut self, runtime: &Runtime, brokers: &[SocketAddr]) {
        let _guard = runtime.enter();
        for (listener, broker) in self.listeners.drain(..).zip(brokers) {
            listener.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            runtime.spawn(accept(listener, *broker, self.traffic.subscribe()));
        }
    }

    pub(crate) fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }
}

async fn accept(listener: TcpListener, broker: SocketAddr, traffic: watch::Receiver<Traffic>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) if *traffic.borrow() != Traffic::Cut => {
                tokio::spawn(carry(client, broker, traffic.clone()));
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Carries one connection until either side closes it, or it is cut.
async fn carry(client: TcpStream, broker: SocketAddr, mut traffic: watch::Receiver<Traffic>) {
    let Ok(Ok(upstream)) = tokio::time::timeout(CONNECT, TcpStream::connect(broker)).await else { return };
    let (there, back) = (traffic.clone(), traffic.clone());
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = upstream.into_split();
    tokio::select! {
        () = pump(from_client, to_broker, there) => {}
        () = pump(from_broker, to_client, back) => {}
        _ = traffic.wait_for(|traffic| *traffic == Traffic::Cut) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut traffic: watch::Receiver<Traffic>) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        if traffic.wait_for(|traffic| *traffic != Traffic::Held).await.is_err() {
            return;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
    };

    use super::*;

    #[test]
    fn traffic_passes_is_held_and_is_cut() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let echo = StdListener::bind("127.0.0.1:0").unwrap();
        let mut proxy = Proxy::bind(1);
        let address = proxy.addresses()[0];
        proxy.run(&runtime, &[echo.local_addr().unwrap()]);
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (mut server, _) = echo.accept().unwrap();
        let mut bytes = [0; 4];

        client.write_all(b"ping").unwrap();
        server.read_exact(&mut bytes).unwrap();
        proxy.set(Traffic::Held);
        server.write_all(b"pong").unwrap();
        assert!(client.read_exact(&mut bytes).is_err(), "it is held");
        proxy.set(Traffic::Open);
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"pong");

        proxy.set(Traffic::Cut);
        assert!(matches!(client.read(&mut bytes), Ok(0) | Err(_)), "it is closed");
        let mut other = TcpStream::connect(address).unwrap();
        other.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert!(matches!(other.read(&mut bytes), Ok(0) | Err(_)), "it is closed at once");
    }
}
