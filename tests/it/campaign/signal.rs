//! A value that others wait for. Unlike tokio's `watch` it wakes them in the order in which they wait, so that a run repeats
//! itself.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

#[derive(Clone, Default)]
pub(super) struct Signal<T>(Arc<(Mutex<T>, Notify)>);

impl<T: Copy> Signal<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Arc::new((Mutex::new(value), Notify::new())))
    }

    pub(super) fn set(&self, value: T) {
        *self.0.0.lock().unwrap() = value;
        self.0.1.notify_waiters();
    }

    pub(super) fn value(&self) -> T {
        *self.0.0.lock().unwrap()
    }

    /// Waits until the value is one that `fits`.
    pub(super) async fn wait_for(&self, fits: impl Fn(T) -> bool) {
        loop {
            let changed = self.0.1.notified();
            if fits(self.value()) {
                return;
            }
            changed.await;
        }
    }
}
