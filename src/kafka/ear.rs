//! Notices that a client hears of no broker any more, although there are some.

use std::{sync::mpsc, thread, time::Duration};

use rdkafka::{
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{client::KafkaConfig, topics::Listener};

/// How long a client may say that it reaches no broker until another is asked. Its own tries are up to 5 s apart.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often in a row another must have reached one.
const TIMES: u32 = 2;

/// How long the other may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Listens along with one client.
///
/// librdkafka, since 2.10, forgets every broker that an answer does not name. A broker that is shutting down names none;
/// after that, a client has nobody left to ask, and never asks again (confluentinc/librdkafka#5301). Nothing can be set
/// against it. So where a client reaches no broker while a new one does, it is made anew.
#[derive(Default)]
pub(super) struct Ear {
    /// How long the client has reached no broker, since another was asked last.
    silence: Duration,
    asked: Option<mpsc::Receiver<bool>>,
    /// How often in a row another has reached one.
    heard: u32,
}

impl Ear {
    /// To be called again and again, with the time since the last call, and whether the client says that it reaches no
    /// broker. True once where others do: it is to be made anew.
    pub(super) fn is_deaf(&mut self, config: &KafkaConfig, passed: Duration, unreachable: bool) -> bool {
        self.listen(passed, unreachable, || ask(config.clone()))
    }

    fn listen(
        &mut self,
        passed: Duration,
        unreachable: bool,
        ask: impl FnOnce() -> Option<mpsc::Receiver<bool>>,
    ) -> bool {
        if !unreachable {
            (self.silence, self.asked, self.heard) = (Duration::ZERO, None, 0);
            return false;
        }
        self.silence = self.silence.saturating_add(passed);
        match self.asked.as_ref().map(mpsc::Receiver::try_recv) {
            Some(Ok(reached)) => {
                self.heard = if reached { self.heard + 1 } else { 0 };
                self.asked = None;
            }
            Some(Err(mpsc::TryRecvError::Disconnected)) => self.asked = None,
            None if self.silence >= PATIENCE => {
                self.silence = Duration::ZERO;
                self.asked = ask();
            }
            Some(Err(mpsc::TryRecvError::Empty)) | None => {}
        }
        let deaf = self.heard >= TIMES;
        if deaf {
            self.heard = 0;
            tracing::warn!("a kafka client reaches no broker, while a new one does: it is made anew");
        }
        deaf
    }
}

/// Asks the brokers with a client of its own, on a thread of its own: it may take a while.
fn ask(config: KafkaConfig) -> Option<mpsc::Receiver<bool>> {
    let (answer, asked) = mpsc::sync_channel(1);
    let ask = move || {
        let kafka: Result<BaseConsumer<Listener>, _> =
            BaseConsumer::from_config_and_context(&config.admin(), Listener::new(&config).0);
        let reached = kafka.is_ok_and(|kafka| kafka.client().fetch_cluster_id(ANSWER_LIMIT).is_some());
        let _ = answer.send(reached);
    };
    thread::Builder::new().name("kafka-ear".into()).spawn(ask).ok().map(|_| asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour in steps of a second, with a client that is unreachable, while others are as `reached` says.
    fn deaf_after(reached: &[bool]) -> Option<u64> {
        let mut ear = Ear::default();
        let mut answers = reached.iter().copied().cycle();
        (0..3600).find(|_| {
            ear.listen(Duration::from_secs(1), true, || {
                let (answer, asked) = mpsc::sync_channel(1);
                answer.send(answers.next()?).unwrap();
                Some(asked)
            })
        })
    }

    #[test]
    fn a_client_is_deaf_where_others_have_reached_a_broker_twice() {
        assert!(deaf_after(&[true]).is_some_and(|after| (30..40).contains(&after)));
        assert_eq!(deaf_after(&[false]), None, "nobody reaches one");
        assert_eq!(deaf_after(&[true, false]), None, "the others too do so only now and then");
    }

    #[test]
    fn a_client_that_reaches_one_again_is_not_deaf() {
        let mut ear = Ear::default();
        for second in 0..3600 {
            let asked = || {
                let (answer, asked) = mpsc::sync_channel(1);
                answer.send(true).unwrap();
                Some(asked)
            };
            assert!(!ear.listen(Duration::from_secs(1), second % 20 != 19, asked));
        }
    }
}
