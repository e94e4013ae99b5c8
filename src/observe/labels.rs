//! Label sets, and metrics resolved once for each value that a label can take.

use std::{fmt::Debug, hash::Hash, marker::PhantomData, sync::Arc};

use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::family::{Family, MetricConstructor},
    registry::{Metric, Registry},
};

use super::kinds::Kind;
use crate::domain::record::Partition;

/// Names with their values, in the order they are written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Labels(Vec<(&'static str, Arc<str>)>);

impl Labels {
    pub(super) fn one(name: &'static str, value: impl Into<Arc<str>>) -> Self {
        Self(vec![(name, value.into())])
    }

    pub(super) fn and(mut self, name: &'static str, value: impl Into<Arc<str>>) -> Self {
        self.0.push((name, value.into()));
        self
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PartitionLabels {
    topic: Arc<str>,
    partition: i32,
}

impl PartitionLabels {
    pub(super) fn of(partition: &Partition) -> Self {
        Self { topic: partition.topic.clone(), partition: partition.number }
    }
}

/// One metric for each value of a closed set, found without a lock or a look-up.
#[derive(Debug)]
pub(super) struct PerKind<K, M> {
    metrics: Box<[M]>,
    kind: PhantomData<fn(K)>,
}

impl<K: Kind, M: Clone> PerKind<K, M> {
    /// Resolves the metrics of the family now, so that each is also shown before its first event.
    pub(super) fn resolve<C: MetricConstructor<M>>(family: &Family<Labels, M, C>, account: Option<&Arc<str>>) -> Self {
        let labels = |name: &'static str| match account {
            None => Labels::one(K::LABEL, name),
            Some(account) => Labels::one("account", account.clone()).and(K::LABEL, name),
        };
        let metrics = K::names().into_iter().map(|name| family.get_or_create_owned(&labels(name))).collect();
        Self { metrics, kind: PhantomData }
    }

    pub(super) fn of(&self, kind: K) -> &M {
        &self.metrics[kind.index()]
    }
}

/// A new family, registered.
pub(super) fn family<S, M>(registry: &mut Registry, name: &str, help: &str) -> Family<S, M>
where
    S: Clone + Eq + Hash,
    M: Default,
    Family<S, M>: Metric,
{
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}
