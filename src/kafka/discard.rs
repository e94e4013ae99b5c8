//! The end of a client that is of no more use.

use std::thread;

/// Drops a client where waiting for it hurts nobody: closing takes as long as its brokers are away, and a producer reports
/// what it still has as failed.
pub(super) fn discard(client: impl Send + 'static) {
    if let Err(error) = thread::Builder::new().name("kafka-discard".into()).spawn(move || drop(client)) {
        tracing::warn!(%error, "no thread to close a kafka client on");
    }
}
