//! `CloudEvents` 1.0 in structured mode, around the default format. (Binary mode is in the headers of every format.)

use serde::Serialize;

use super::{CE_SOURCE, CE_TYPE, Related, document::Document};

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(title = "cloudevents"))]
pub(super) struct Event<'a> {
    specversion: &'static str,
    /// The same for all copies of a record: topic, partition and offset of the message that was read, and the place in it.
    id: &'a str,
    source: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    /// The alert's id.
    subject: &'a str,
    /// When the answer was obtained.
    time: &'a str,
    datacontenttype: &'static str,
    data: Document<'a>,
}

impl<'a> Event<'a> {
    pub(super) fn of(related: &Related<'a>) -> Self {
        Self {
            specversion: "1.0",
            id: related.id,
            source: CE_SOURCE,
            kind: CE_TYPE,
            subject: related.alert.id.as_str(),
            time: related.retrieved_text,
            datacontenttype: "application/json",
            data: Document::of(related),
        }
    }
}
