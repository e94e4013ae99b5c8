//! How an instance is stopped and killed: a process that gets no time, and one that ends between two of its steps.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::sleep;

/// The lid on one life of one instance. Everything that runs in its process waits here while it is stopped.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// How many stops hold: they may overlap.
    stops: u32,
    /// How long the instance stays down, once it was killed.
    killed: Option<Duration>,
    waiting: Vec<Waker>,
}

impl Gate {
    /// As SIGSTOP, and SIGCONT after `lasts`.
    pub(super) fn stop_for(&self, lasts: Duration) {
        self.0.lock().unwrap().stops += 1;
        let gate = self.clone();
        tokio::spawn(async move {
            sleep(lasts).await;
            gate.change(|state| state.stops -= 1);
        });
    }

    /// As SIGKILL: the process does nothing more; another takes its place after `down`.
    pub(super) fn kill(&self, down: Duration) {
        self.change(|state| {
            state.killed.get_or_insert(down);
        });
    }

    /// Waits while the process is stopped. Returns whether it was; never, once it was killed.
    pub(super) async fn pass(&self) -> bool {
        let mut waited = false;
        poll_fn(|context| {
            let open = self.poll(context, |state| (state.stops == 0 && state.killed.is_none()).then_some(()));
            waited |= open.is_pending();
            open
        })
        .await;
        waited
    }

    /// Waits for the end of this life; for how long the instance stays down then.
    pub(super) async fn killed(&self) -> Duration {
        poll_fn(|context| self.poll(context, |state| state.killed)).await
    }

    /// Runs `future` as a part of the process: it makes no step while the process is stopped, and is dropped between two
    /// steps when it is killed.
    pub(super) async fn hold(self, future: impl Future<Output = ()>) {
        let mut future = pin!(future);
        poll_fn(|context| {
            let open = |state: &State| (state.stops == 0 || state.killed.is_some()).then_some(state.killed.is_some());
            let Poll::Ready(killed) = self.poll(context, open) else { return Poll::Pending };
            if killed || future.as_mut().poll(context).is_ready() || self.is_killed() {
                return Poll::Ready(());
            }
            // Whoever stops or kills it must be able to wake it.
            self.poll(context, |_| None)
        })
        .await;
    }

    fn is_killed(&self) -> bool {
        self.0.lock().unwrap().killed.is_some()
    }

    fn poll<T>(&self, context: &Context<'_>, look: impl Fn(&State) -> Option<T>) -> Poll<T> {
        let mut state = self.0.lock().unwrap();
        if let Some(seen) = look(&state) {
            return Poll::Ready(seen);
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock().unwrap();
        change(&mut state);
        state.waiting.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stopped_process_makes_no_step_and_goes_on_where_it_was() {
        let (gate, started) = (Gate::default(), Instant::now());
        let steps = Arc::new(Mutex::new(Vec::new()));
        let seen = steps.clone();
        let process = tokio::spawn(gate.clone().hold(async move {
            for _ in 0..5 {
                sleep(Duration::from_secs(1)).await;
                seen.lock().unwrap().push(started.elapsed().as_secs());
            }
        }));
        sleep(Duration::from_millis(2_500)).await;
        gate.stop_for(Duration::from_mins(1));
        process.await.unwrap();
        assert_eq!(*steps.lock().unwrap(), [1, 2, 62, 63, 64]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_process_ends_between_two_steps_also_while_it_is_stopped() {
        let gate = Gate::default();
        let process = tokio::spawn(gate.clone().hold(std::future::pending()));
        advance(Duration::from_secs(1)).await;
        gate.stop_for(Duration::from_mins(1));
        advance(Duration::from_secs(1)).await;
        gate.kill(Duration::from_secs(5));
        process.await.unwrap();
        assert_eq!(gate.killed().await, Duration::from_secs(5));
    }
}
