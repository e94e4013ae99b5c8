//! The W3C trace context of the input message, passed on where it is valid.
//!
//! What is invalid is dropped, as the W3C recommendation asks (Trace Context, sections 3.2 and 3.3), so no byte of an
//! unchecked input header reaches the output.

use crate::domain::record::Header;

/// Longest `tracestate` that is passed on, in bytes. The recommendation asks for at least 512.
const MAX_TRACESTATE_LEN: usize = 512;

/// The input's `traceparent` if there is exactly one and it is valid, and then its first valid `tracestate`.
pub(super) fn passed_on(input: &[Header]) -> impl Iterator<Item = &Header> {
    let named = |name: &'static str| input.iter().filter(move |header| &*header.name == name);
    let valid = |header: &&Header, check: fn(&[u8]) -> bool| header.value.as_deref().is_some_and(check);
    let mut parents = named("traceparent");
    let parent = parents.next().filter(|header| parents.next().is_none() && valid(header, is_traceparent));
    // Without its parent a state says nothing.
    let states = named("tracestate").filter(move |header| parent.is_some() && valid(header, is_tracestate));
    parent.into_iter().chain(states.take(1))
}

/// `version-traceid-parentid-flags` in lower-case hex; later versions may add parts.
fn is_traceparent(value: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let id = |part: &[u8]| hex(part) && part.iter().any(|byte| *byte != b'0');
    let Some((known, rest)) = value.split_at_checked(55) else { return false };
    let version = &known[..2];
    [known[2], known[35], known[52]] == [b'-'; 3]
        && hex(version)
        && version != b"ff"
        && id(&known[3..35])
        && id(&known[36..52])
        && hex(&known[53..])
        && (rest.is_empty() || version != b"00" && rest[0] == b'-' && is_tracestate(rest))
}

fn is_tracestate(value: &[u8]) -> bool {
    (1..=MAX_TRACESTATE_LEN).contains(&value.len()) && value.iter().all(|byte| (0x20..0x7f).contains(byte))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const PARENT: &str = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";

    #[rstest]
    #[case::version_0(PARENT, true)]
    #[case::later_version(&PARENT.replacen("00", "01", 1), true)]
    #[case::later_version_with_more(&(PARENT.replacen("00", "01", 1) + "-what"), true)]
    #[case::version_0_with_more(&(PARENT.to_owned() + "-what"), false)]
    #[case::later_version_with_control_characters(&(PARENT.replacen("00", "01", 1) + "-\r\n"), false)]
    #[case::version_ff(&PARENT.replacen("00", "ff", 1), false)]
    #[case::upper_case(&PARENT.to_uppercase(), false)]
    #[case::no_trace_id(&PARENT.replace("0123456789abcdef0123456789abcdef", &"0".repeat(32)), false)]
    #[case::no_parent_id(&PARENT.replace("-0123456789abcdef-", "-0000000000000000-"), false)]
    #[case::short(&PARENT[..54], false)]
    #[case::other_separator(&PARENT.replace('-', "_"), false)]
    #[case::empty("", false)]
    fn traceparents_are_checked(#[case] value: &str, #[case] valid: bool) {
        assert_eq!(is_traceparent(value.as_bytes()), valid);
    }

    #[rstest]
    #[case::both(&[("traceparent", PARENT), ("tracestate", "a=1")], 2)]
    #[case::parent_alone(&[("traceparent", PARENT)], 1)]
    #[case::state_alone(&[("tracestate", "a=1")], 0)]
    #[case::two_parents(&[("traceparent", PARENT), ("traceparent", PARENT), ("tracestate", "a=1")], 0)]
    #[case::hostile_state(&[("traceparent", PARENT), ("tracestate", "a=1\r\nx: y")], 1)]
    #[case::endless_state(&[("traceparent", PARENT), ("tracestate", &"a".repeat(513))], 1)]
    #[case::hostile_parent(&[("traceparent", "\u{1b}[2J"), ("tracestate", "a=1")], 0)]
    fn only_a_valid_context_is_passed_on(#[case] input: &[(&str, &str)], #[case] passed: usize) {
        let input: Vec<_> = input.iter().map(|(name, value)| Header::new(name, value)).collect();
        assert_eq!(passed_on(&input).count(), passed);
    }

    #[test]
    fn a_null_traceparent_is_dropped() {
        assert_eq!(passed_on(&[Header { name: "traceparent".into(), value: None }]).count(), 0);
    }
}
