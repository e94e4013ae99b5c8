//! Which product an alert is of, as its shapes name it.

/// The names of Defender for Endpoint, now and before, without spaces and underscores and in lower case.
const ENDPOINT: [&str; 9] = [
    "microsoftdefenderforendpoint",
    "defenderforendpoint",
    "defenderendpoint",
    "microsoftdefenderatp",
    "defenderatp",
    "windowsdefenderatp",
    "microsoftdefenderadvancedthreatprotection",
    "mdatp",
    "wdatp",
];

/// Names that say nothing: Graph writes the second where it does not know the product, the third for one that the client is
/// too old to be told.
const UNTOLD: [&str; 3] = ["", "unknown", "unknownfuturevalue"];

/// Whether `name` names a product, whichever.
pub(super) fn is_told(name: &str) -> bool {
    !is_any_of(name, &UNTOLD)
}

/// Whether `name`, in whatever spelling, is another product's.
pub(super) fn is_other(name: &str) -> bool {
    is_told(name) && !is_any_of(name, &ENDPOINT)
}

fn is_any_of(name: &str, known: &[&str]) -> bool {
    let spelling = || name.bytes().filter(|byte| !matches!(byte, b' ' | b'_')).map(|byte| byte.to_ascii_lowercase());
    known.iter().any(|known| spelling().eq(known.bytes()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::streaming("Microsoft Defender for Endpoint", false)]
    #[case::graph("microsoftDefenderForEndpoint", false)]
    #[case::graph_legacy("Microsoft Defender ATP", false)]
    #[case::graph_legacy_before("WDATP", false)]
    #[case::elastic("defender_endpoint", false)]
    #[case::filebeat("defender_atp", false)]
    #[case::not_told("", false)]
    #[case::graph_does_not_know("unknown", false)]
    #[case::graph_does_not_tell_it_to_old_clients("unknownFutureValue", false)]
    #[case::xdr("Microsoft 365 Defender", true)]
    #[case::office("OfficeATP", true)]
    #[case::longer("Microsoft Defender for Endpoints", true)]
    #[case::shorter("Microsoft Defender", true)]
    fn products_are_told_apart_in_any_spelling(#[case] name: &str, #[case] other: bool) {
        assert_eq!(is_other(name), other);
    }
}
