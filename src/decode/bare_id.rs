//! Only an alert id: `{"alertId": …}`, `{"AlertId": …}` or `{"id": …}`. The name that says more wins over `id`.

use super::{Fields, Reading, Rejection, Shape};
use crate::domain::alert::{Alert, Severity};

pub(super) const SHAPE: Shape = Shape { name: "a bare id", pointers: &POINTERS, read };

/// Where an alert id may be, the most telling name first.
const POINTERS: [&str; 3] = ["/alertId", "/AlertId", "/id"];

fn read(object: &Fields<'_>) -> Result<Option<Reading>, Rejection> {
    let Some(pointer) = POINTERS.into_iter().find(|pointer| object.has(pointer)) else { return Ok(None) };
    Ok(Some(Reading::Alert(Alert {
        id: object.alert_id(pointer)?,
        tenant: None,
        severity: Severity::Unspecified,
        updated: None,
        created: None,
    })))
}
