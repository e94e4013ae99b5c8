//! What may be around the JSON of a payload: gzip, or the frame that serializers with a schema registry put before it.

use std::{borrow::Cow, io::Read as _};

use flate2::read::MultiGzDecoder;

use crate::domain::outcome::{Reason, Rejection};

/// Most bytes that a payload is unpacked to, and most times its size, if that is more than a mebibyte. JSON deflates to a
/// tenth; what goes beyond this is a bomb, or belongs in several messages.
const MAX_UNPACKED: u64 = 64 << 20;
const MAX_RATIO: u64 = 100;
const ALWAYS_UNPACKED: u64 = 1 << 20;

/// What every gzip member begins with (RFC 1952, section 2.3.1), and no JSON.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The frame's first byte (Confluent Schema Registry, "Wire format"), which begins no JSON either; the id of the schema
/// follows in four bytes, the highest first.
const FRAME: u8 = 0;

/// Registries count schemas from 1. What would be a higher number than this is more likely no frame at all.
const HIGHEST_ID: u32 = 1 << 24;

/// The id of the schema that a payload was written with, and what comes behind it. `None`: there is no frame.
pub fn schema_id(payload: &[u8]) -> Option<(u32, &[u8])> {
    let (id, body) = payload.strip_prefix(&[FRAME])?.split_first_chunk()?;
    let id = u32::from_be_bytes(*id);
    (1..=HIGHEST_ID).contains(&id).then_some((id, body))
}

/// The payload without what is around it, as far as that can be taken off without a schema.
pub(super) fn unpacked(payload: &[u8]) -> Result<Cow<'_, [u8]>, Rejection> {
    if payload.starts_with(&GZIP) {
        return gunzipped(payload).map(Cow::Owned);
    }
    match schema_id(payload) {
        // Of a JSON Schema the body is JSON as it is.
        Some((_, body)) if body.trim_ascii_start().starts_with(b"{") || body.trim_ascii_start().starts_with(b"[") => {
            Ok(Cow::Borrowed(body))
        }
        Some((id, _)) => Err(not_unpacked(format!(
            "it was written with the schema {id} of a schema registry; set input.schema_registry.url, so that it can be read"
        ))),
        None => Ok(Cow::Borrowed(payload)),
    }
}

fn gunzipped(payload: &[u8]) -> Result<Vec<u8>, Rejection> {
    let most = (payload.len() as u64 * MAX_RATIO).clamp(ALWAYS_UNPACKED, MAX_UNPACKED);
    let mut unpacked = Vec::new();
    let read = MultiGzDecoder::new(payload).take(most + 1).read_to_end(&mut unpacked);
    match read {
        Ok(_) if unpacked.len() as u64 > most => {
            Err(not_unpacked(format!("its gzip holds more than {} KiB; send less in one message", most >> 10)))
        }
        Ok(_) => Ok(unpacked),
        Err(error) => Err(not_unpacked(format!("its gzip is damaged after {} bytes: {error}", unpacked.len()))),
    }
}

/// The rejection of a payload from which no JSON can be made.
pub fn not_unpacked(detail: String) -> Rejection {
    Rejection { reason: Reason::NotUnpacked, detail }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use rstest::rstest;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[rstest]
    #[case::plain(b"{}".to_vec(), b"{}")]
    #[case::gzip(gzip(b"{}"), b"{}")]
    #[case::two_members([gzip(b"{\"a\":"), gzip(b"1}")].concat(), b"{\"a\":1}")]
    #[case::json_schema(b"\0\0\0\0\x07 [1]".to_vec(), b" [1]")]
    #[case::a_frame_alone(b"\0\0\0".to_vec(), b"\0\0\0")]
    #[case::empty(Vec::new(), b"")]
    fn what_is_around_json_is_taken_off(#[case] payload: Vec<u8>, #[case] json: &[u8]) {
        assert_eq!(unpacked(&payload).unwrap(), json);
    }

    #[rstest]
    #[case::cut(gzip(b"{}")[..15].to_vec(), "damaged after")]
    #[case::magic_alone(GZIP.to_vec(), "damaged after 0 bytes")]
    #[case::a_bomb(gzip(&vec![b' '; 65 << 20]), "more than")]
    #[case::avro(b"\0\0\0\0\x07\x02a".to_vec(), "schema 7")]
    fn what_can_not_be_unpacked_says_why(#[case] payload: Vec<u8>, #[case] words: &str) {
        let rejection = unpacked(&payload).unwrap_err();
        assert_eq!(rejection.reason, Reason::NotUnpacked);
        assert!(rejection.detail.contains(words), "{}", rejection.detail);
    }

    #[test]
    fn a_frame_names_its_schema() {
        assert_eq!(schema_id(b"\0\0\x02\x03\x04x"), Some((0x0002_0304, b"x".as_slice())));
        for none in [&b"{}"[..], b"\0\0\0\0\0", b"\0{\"id\":", b"\0\0\0\x01"] {
            assert_eq!(schema_id(none), None);
        }
    }
}
