//! The simulated service in this process, over HTTP.

use alert_ips::{
    clock::Clock,
    sim::{Settings, Sim, http::Server},
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// A service that answers until it is dropped.
pub struct Service {
    pub sim: Sim,
    pub origin: String,
    stop: CancellationToken,
    _runtime: Runtime,
}

impl Service {
    /// `limits` as in `"100 per 1m"`, enforced; none means that every call is permitted.
    pub fn start(limits: &[&str], change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(7);
        settings.limits = limits.iter().map(|text| text.parse().unwrap()).collect();
        change(&mut settings);
        let sim = Sim::new(settings, Clock::machine());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(Server::bind(sim.clone(), "127.0.0.1:0".parse().unwrap())).unwrap();
        let origin = server.origin();
        let stop = CancellationToken::new();
        runtime.spawn(server.run(stop.clone()));
        Self { sim, origin, stop, _runtime: runtime }
    }

    /// No call was over a limit or asked for anything but an alert's addresses.
    pub fn assert_no_violation(&self) {
        let violations: Vec<_> = self.sim.violations().iter().map(ToString::to_string).collect();
        assert_eq!(violations, Vec::<String>::new());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
