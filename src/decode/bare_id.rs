//! Only an alert id: `{"alertId": …}`, `{"AlertId": …}` or `{"id": …}`. The name that says more wins over `id`.

use super::{Fields, InputFormat, Reading, Rejection, Shape};
use crate::domain::alert::{Alert, AlertId, Severity};

pub(super) const SHAPE: Shape =
    Shape { name: "a bare id", format: InputFormat::BareId, pointers: &POINTERS, detection_sources: &[], read };

/// Where an alert id may be, the most telling name first.
const POINTERS: [&str; 3] = ["/alertId", "/AlertId", "/id"];

fn read(object: &Fields<'_, '_>) -> Result<Option<Reading>, Rejection> {
    let Some(pointer) = POINTERS.into_iter().find(|pointer| object.has(pointer)) else { return Ok(None) };
    Ok(Some(alert(object.alert_id(pointer)?)))
}

/// A text that is an alert id and nothing else; `None` for one that only might be.
pub(super) fn in_text(text: &str) -> Option<Reading> {
    AlertId::parse(text).ok().filter(AlertId::has_known_form).map(alert)
}

fn alert(id: AlertId) -> Reading {
    Reading::of(None, Alert { id, tenant: None, severity: Severity::Unspecified, updated: None, created: None })
}
