//! Objects that only wrap items: an Event Hubs envelope (`records`) and a list page of the service (`value`).
//!
//! "Each event hub message in Azure Event Hubs contains list of records", says the streaming API's page; a page of
//! `GET /api/alerts` is an `OData` collection. Bare arrays need no shape.

use super::{Object, Reading, Reason, Rejection};

const ARRAYS: [&str; 2] = ["records", "value"];

pub(super) fn read<'a>(object: &Object<'a>) -> Result<Option<Reading<'a>>, Rejection> {
    let [records, page] = [object.array(ARRAYS[0])?, object.array(ARRAYS[1])?];
    let Some(items) = records.or(page) else { return Ok(None) };
    // Either reading would silently lose what the other finds.
    let beside = super::bare_id::NAMES.into_iter().find(|name| object.has(name));
    match beside.or(records.and(page).map(|_| ARRAYS[1])) {
        Some(beside) => Err(Rejection {
            reason: Reason::UnknownShape,
            detail: format!("a list with `{beside}` beside it: it is unclear which of them holds the alerts"),
        }),
        None => Ok(Some(Reading::Items(items))),
    }
}
