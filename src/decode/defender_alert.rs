//! An alert resource of the service, an item of `GET /api/alerts`, in the form of 2019 or of now.
//!
//! The form of 2019 has no `aadTenantId`. Whatever has an `id` and one of the resource's own members is read as one, so
//! that a pipeline may have cut the rest.

use super::{Object, Reading, Rejection};
use crate::domain::alert::Alert;

/// Members that make an object with an `id` an alert resource.
const OWN: [&str; 5] = ["alertCreationTime", "lastUpdateTime", "severity", "machineId", "aadTenantId"];

pub(super) fn read<'a>(object: &Object<'a>) -> Result<Option<Reading<'a>>, Rejection> {
    let unmistakable = object.has("alertCreationTime") && object.has("machineId");
    let recognisable = object.has("id") && OWN.into_iter().any(|name| object.has(name));
    if !(unmistakable || recognisable) {
        return Ok(None);
    }
    Ok(Some(Reading::Alert(Alert {
        id: object.alert_id("id")?,
        tenant: object.tenant("aadTenantId")?,
        severity: object.severity("severity")?,
        updated: object.time("lastUpdateTime")?,
        created: object.time("alertCreationTime")?,
    })))
}
