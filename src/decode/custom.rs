//! What a pipeline of the operator's own writes: the configuration says where things are.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Fields, Reading, Rejection};
use crate::domain::{
    alert::{Alert, Severity},
    format::Mapping,
    pointer::Pointer,
};

/// What [`read`] asks for.
pub(super) fn pointers(mapping: &Mapping) -> Vec<&str> {
    mapping.of_an_alert().map(Pointer::as_str).collect()
}

/// In words, for the rejection of what is none.
pub(super) fn name(Mapping { id, records, .. }: &Mapping) -> String {
    let list = records.as_ref().map(|records| format!(", or a list of such at `{records}`")).unwrap_or_default();
    format!("what [input.custom] maps (an object with `{id}`{list})")
}

/// As the shapes do.
pub(super) fn read(mapping: &Mapping, object: &Fields<'_, '_>) -> Result<Option<Reading>, Rejection> {
    let Mapping { id, severity, tenant, updated, created, records: _ } = mapping;
    if !object.has(id.as_str()) {
        return Ok(None);
    }
    let time = |pointer: &Option<Pointer>| at(pointer.as_ref(), |pointer| object.time(pointer));
    Ok(Some(Reading::of(
        None,
        Alert {
            id: object.alert_id(id.as_str())?,
            tenant: at(tenant.as_ref(), |pointer| object.tenant(pointer))?,
            severity: at(severity.as_ref(), |pointer| object.severity(pointer))?,
            updated: time(updated)?,
            created: time(created)?,
        },
    )))
}

/// What is at a pointer, if there is one.
fn at<T: Default>(pointer: Option<&Pointer>, read: impl FnOnce(&str) -> Result<T, Rejection>) -> Result<T, Rejection> {
    pointer.map_or_else(|| Ok(T::default()), |pointer| read(pointer.as_str()))
}

/// What the object around a list tells of all alerts in it.
pub(super) struct Told {
    tenant: Option<Arc<str>>,
    severity: Severity,
    updated: Option<Timestamp>,
    created: Option<Timestamp>,
}

/// What is there more than once tells nothing.
pub(super) fn told_around(mapping: &Mapping, object: &Fields<'_, '_>) -> Told {
    let time = |pointer: &Option<Pointer>| at(pointer.as_ref(), |pointer| object.time(pointer)).unwrap_or_default();
    Told {
        tenant: at(mapping.tenant.as_ref(), |pointer| object.tenant(pointer)).unwrap_or_default(),
        severity: at(mapping.severity.as_ref(), |pointer| object.severity(pointer)).unwrap_or_default(),
        updated: time(&mapping.updated),
        created: time(&mapping.created),
    }
}

/// Of what an item has nothing itself. Something that can't be read is something.
#[expect(clippy::struct_excessive_bools, reason = "each is a member of the mapping")]
pub(super) struct Untold {
    tenant: bool,
    severity: bool,
    updated: bool,
    created: bool,
}

impl Untold {
    pub(super) const ALL: Self = Self { tenant: true, severity: true, updated: true, created: true };

    pub(super) fn by(mapping: &Mapping, object: &Fields<'_, '_>) -> Self {
        let lacks = |pointer: &Option<Pointer>| pointer.as_ref().is_none_or(|pointer| !object.has(pointer.as_str()));
        Self {
            tenant: lacks(&mapping.tenant),
            severity: lacks(&mapping.severity),
            updated: lacks(&mapping.updated),
            created: lacks(&mapping.created),
        }
    }
}

/// Adds to an alert what is told around it and not by itself, by whatever shape that was read.
pub(super) fn complete(alert: &mut Alert, untold: &Untold, told: &Told) {
    if untold.tenant && alert.tenant.is_none() {
        alert.tenant.clone_from(&told.tenant);
    }
    if untold.severity && alert.severity == Severity::Unspecified {
        alert.severity = told.severity;
    }
    if untold.updated {
        alert.updated = alert.updated.or(told.updated);
    }
    if untold.created {
        alert.created = alert.created.or(told.created);
    }
}
