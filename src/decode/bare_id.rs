//! Only an alert id: `{"alertId": …}`, `{"AlertId": …}` or `{"id": …}`. The name that says more wins over `id`.

use super::{Object, Reading, Rejection};
use crate::domain::alert::{Alert, Severity};

/// The names an alert id goes by, the most telling first.
pub(super) const NAMES: [&str; 3] = ["alertId", "AlertId", "id"];

pub(super) fn read<'a>(object: &Object<'a>) -> Result<Option<Reading<'a>>, Rejection> {
    let Some(name) = NAMES.into_iter().find(|name| object.has(name)) else { return Ok(None) };
    Ok(Some(Reading::Alert(Alert {
        id: object.alert_id(name)?,
        tenant: None,
        severity: Severity::Unspecified,
        updated: None,
        created: None,
    })))
}
