//! Which product an alert is of, as its shapes name it.

/// The names of Defender for Endpoint, now and before, without spaces and underscores and in lower case.
const ENDPOINT: [&str; 8] = [
    "microsoftdefenderforendpoint",
    "defenderforendpoint",
    "defenderendpoint",
    "microsoftdefenderatp",
    "windowsdefenderatp",
    "microsoftdefenderadvancedthreatprotection",
    "mdatp",
    "wdatp",
];

/// Whether `name`, in whatever spelling, is another product's. An empty name says nothing.
pub(super) fn is_other(name: &str) -> bool {
    let spelling = || name.bytes().filter(|byte| !matches!(byte, b' ' | b'_')).map(|byte| byte.to_ascii_lowercase());
    !name.is_empty() && !ENDPOINT.iter().any(|endpoint| spelling().eq(endpoint.bytes()))
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
    #[case::not_told("", false)]
    #[case::xdr("Microsoft 365 Defender", true)]
    #[case::office("OfficeATP", true)]
    #[case::longer("Microsoft Defender for Endpoints", true)]
    #[case::shorter("Microsoft Defender", true)]
    fn products_are_told_apart_in_any_spelling(#[case] name: &str, #[case] other: bool) {
        assert_eq!(is_other(name), other);
    }
}
