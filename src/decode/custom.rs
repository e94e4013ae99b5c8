//! What a pipeline of the operator's own writes: the configuration says where things are.

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

/// As the shapes do.
pub(super) fn read(mapping: &Mapping, object: &Fields<'_, '_>) -> Result<Option<Reading>, Rejection> {
    let Mapping { id, severity, tenant, updated, created, records: _ } = mapping;
    if !object.has(id.as_str()) {
        return Ok(None);
    }
    let time = |pointer: &Option<Pointer>| pointer.as_ref().map_or(Ok(None), |pointer| object.time(pointer.as_str()));
    let tenant = tenant.as_ref().map_or(Ok(None), |pointer| object.tenant(pointer.as_str()));
    let severity = severity.as_ref().map_or(Ok(Severity::Unspecified), |pointer| object.severity(pointer.as_str()));
    Ok(Some(Reading::of(
        None,
        Alert {
            id: object.alert_id(id.as_str())?,
            tenant: tenant?,
            severity: severity?,
            updated: time(updated)?,
            created: time(created)?,
        },
    )))
}
