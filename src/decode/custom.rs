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
    if !object.has(mapping.id.as_str()) {
        return Ok(None);
    }
    let Told { tenant, severity, updated, created } = told(mapping, object)?;
    let id = object.alert_id(mapping.id.as_str())?;
    Ok(Some(Reading::of(None, Alert { id, tenant, severity, updated, created })))
}

/// What an alert does not tell itself, and the object around its list tells of all in it, at the same pointer.
pub(super) fn complete(mapping: &Mapping, alert: &mut Alert, around: &Fields<'_, '_>) {
    // What is there more than once tells nothing.
    let Ok(told) = told(mapping, around) else { return };
    if alert.severity == Severity::Unspecified {
        alert.severity = told.severity;
    }
    alert.tenant = alert.tenant.take().or(told.tenant);
    alert.updated = alert.updated.or(told.updated);
    alert.created = alert.created.or(told.created);
}

/// What an object tells beside the id.
struct Told {
    tenant: Option<Arc<str>>,
    severity: Severity,
    updated: Option<Timestamp>,
    created: Option<Timestamp>,
}

fn told(mapping: &Mapping, object: &Fields<'_, '_>) -> Result<Told, Rejection> {
    let Mapping { id: _, severity, tenant, updated, created, records: _ } = mapping;
    let time = |pointer: &Option<Pointer>| pointer.as_ref().map_or(Ok(None), |pointer| object.time(pointer.as_str()));
    let tenant = tenant.as_ref().map_or(Ok(None), |pointer| object.tenant(pointer.as_str()));
    let severity = severity.as_ref().map_or(Ok(Severity::Unspecified), |pointer| object.severity(pointer.as_str()));
    Ok(Told { tenant: tenant?, severity: severity?, updated: time(updated)?, created: time(created)? })
}
