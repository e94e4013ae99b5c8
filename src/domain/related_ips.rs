//! The addresses of one complete answer.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

/// How many of the texts that were no address are kept to be shown; all are counted.
const KEPT_INVALID: usize = 8;

/// Valid, distinct addresses in the order the service gave them, and what was no address.
///
/// Texts are trimmed of ASCII white space (the service's own documentation shows an address with a trailing TAB) and
/// must then be an address as `IpAddr` reads it; ports, brackets, zone ids and leading zeros make a text invalid.
///
/// ```
/// # use alert_ips::domain::related_ips::RelatedIps;
/// let ips = RelatedIps::from_texts(["23.203.232.228\t", "::FFFF:1.2.3.4", "23.203.232.228", "1.2.3.4:80"]);
/// assert_eq!(ips.to_string(), "23.203.232.228, ::ffff:1.2.3.4");
/// assert_eq!(ips.invalid_count(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelatedIps {
    ips: Arc<[IpAddr]>,
    invalid: Option<Arc<Invalid>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Invalid {
    count: usize,
    first: Vec<Box<str>>,
}

impl RelatedIps {
    /// Reads the texts of one whole answer.
    pub fn from_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut seen = HashSet::new();
        let mut ips = Vec::new();
        let mut invalid = Invalid::default();
        for text in texts {
            if let Ok(ip) = text.trim_ascii().parse::<IpAddr>() {
                if seen.insert(ip) {
                    ips.push(ip);
                }
            } else {
                invalid.count += 1;
                if invalid.first.len() < KEPT_INVALID {
                    invalid.first.push(text.chars().take(64).flat_map(char::escape_default).collect::<String>().into());
                }
            }
        }
        Self { ips: ips.into(), invalid: (invalid.count > 0).then(|| Arc::new(invalid)) }
    }

    /// Addresses that were read before, each once.
    pub fn from_addresses(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut seen = HashSet::new();
        let ips: Vec<_> = addresses.into_iter().filter(|ip| seen.insert(*ip)).collect();
        Self { ips: ips.into(), invalid: None }
    }

    /// The addresses.
    pub fn as_slice(&self) -> &[IpAddr] {
        &self.ips
    }

    pub fn is_empty(&self) -> bool {
        self.ips.is_empty()
    }

    /// How many texts of the answer were no address.
    pub fn invalid_count(&self) -> usize {
        self.invalid.as_ref().map_or(0, |invalid| invalid.count)
    }

    /// The first few texts that were no address, escaped and cut to 64 characters each.
    pub fn invalid_texts(&self) -> &[Box<str>] {
        self.invalid.as_ref().map_or(&[], |invalid| &invalid.first)
    }
}

impl std::fmt::Display for RelatedIps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, ip) in self.ips.iter().enumerate() {
            write!(f, "{}{ip}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::leading_zero("01.2.3.4")]
    #[case::port("1.2.3.4:80")]
    #[case::bracketed("[::1]")]
    #[case::zone_id("fe80::1%eth0")]
    #[case::hex("0x7f.1")]
    #[case::full_width("１.2.3.4")]
    #[case::host_name("example.com")]
    #[case::empty("")]
    fn invalid_addresses_are_counted_and_never_published(#[case] text: &str) {
        let ips = RelatedIps::from_texts([text, "10.0.0.1"]);
        assert_eq!((ips.to_string().as_str(), ips.invalid_count(), ips.invalid_texts().len()), ("10.0.0.1", 1, 1));
    }

    #[test]
    fn first_order_is_kept_and_repeats_are_dropped() {
        let ips = RelatedIps::from_texts(["::1", "10.0.0.2", "0:0:0:0:0:0:0:1", "10.0.0.1", "10.0.0.2"]);
        assert_eq!(ips.to_string(), "::1, 10.0.0.2, 10.0.0.1");
    }
}
