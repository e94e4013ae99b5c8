//! Where an address reaches, by itself: nothing is looked up.
//!
//! Public is what IANA's registries of special-purpose addresses (IPv4 and IPv6, as of October 2025) call globally reachable
//! and what they don't name; of IPv6 only within `2000::/3`, out of which global unicast addresses are given (IANA's registry of
//! the IPv6 address space). Teredo and 6to4, of which they say neither, are not.
//!
//! It is our own table since `std` has only some of these blocks yet, and the crates that know more tell what is global and what is
//! not, by older registries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Of no special block: somebody on the internet.
    Public,
    /// 10/8, 172.16/12, 192.168/16 (RFC 1918); `fc00::/7`.
    Private,
    /// 100.64/10: between a provider and its customers (RFC 6598).
    Shared,
    /// 127/8; `::1`.
    Loopback,
    /// 169.254/16; `fe80::/10`.
    LinkLocal,
    /// 192.0.2/24, 198.51.100/24, 203.0.113/24; `2001:db8::/32`, `3fff::/20`.
    Documentation,
    /// 224/4; `ff00::/8`.
    Multicast,
    /// 0.0.0.0; `::`.
    Unspecified,
    /// 0/8, 192.0.0/24, 192.88.99/24, 198.18/15, 240/4; `2001::/23`, `2002::/16` and all beyond `2000::/3`: no host of the
    /// internet, or none that is reached by this address alone.
    Reserved,
}

impl Scope {
    pub const ALL: [Self; 9] = [
        Self::Public,
        Self::Private,
        Self::Shared,
        Self::Loopback,
        Self::LinkLocal,
        Self::Documentation,
        Self::Multicast,
        Self::Unspecified,
        Self::Reserved,
    ];

    /// An IPv4 address that is written as an IPv6 one (`::ffff:10.0.0.1`) reaches as far as itself.
    pub const fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => of_v4(ip),
            IpAddr::V6(ip) => of_v6(ip),
        }
    }

    /// As in output records and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link_local",
            Self::Documentation => "documentation",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Reserved => "reserved",
        }
    }
}

/// 4 or 6.
pub const fn version(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 4 } else { 6 }
}

const fn of_v4(ip: Ipv4Addr) -> Scope {
    match ip.octets() {
        _ if ip.is_unspecified() => Scope::Unspecified,
        _ if ip.is_private() => Scope::Private,
        _ if ip.is_loopback() => Scope::Loopback,
        _ if ip.is_link_local() => Scope::LinkLocal,
        _ if ip.is_documentation() => Scope::Documentation,
        _ if ip.is_multicast() => Scope::Multicast,
        [100, 64..=127, ..] => Scope::Shared,
        // Anycast of PCP and TURN, among the protocol assignments.
        [192, 0, 0, 9..=10] => Scope::Public,
        // This network; protocol assignments; relays of 6to4, given up; benchmarking; reserved, broadcast among it.
        [0 | 240..=255, ..] | [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] => Scope::Reserved,
        _ => Scope::Public,
    }
}

const fn of_v6(ip: Ipv6Addr) -> Scope {
    match ip.segments() {
        _ if ip.is_unspecified() => Scope::Unspecified,
        _ if ip.is_loopback() => Scope::Loopback,
        _ if ip.is_multicast() => Scope::Multicast,
        _ if ip.is_unique_local() => Scope::Private,
        _ if ip.is_unicast_link_local() => Scope::LinkLocal,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Scope::Documentation,
        segments if is_global_among_special(segments) => Scope::Public,
        // The other protocol assignments, Teredo and benchmarking among them; 6to4.
        [0x2001, 0..=0x1ff, ..] | [0x2002, ..] => Scope::Reserved,
        [0x2000..=0x3fff, ..] => Scope::Public,
        // NAT64 of a site's own, discard-only, dummies, SIDs of SRv6, site-local, and what is not given to anybody.
        _ => Scope::Reserved,
    }
}

/// Whether the registry calls an address globally reachable in the middle of what it does not.
const fn is_global_among_special(segments: [u16; 8]) -> bool {
    matches!(
        segments,
        // NAT64: somebody on the internet, by way of a translator.
        [0x64, 0xff9b, 0, 0, 0, 0, ..]
            // Among the protocol assignments: anycast of PCP, TURN and DNS-SD; AMT; AS112; ORCHIDv2 and the tags of drones.
            | [0x2001, 1, 0, 0, 0, 0, 0, 1..=3]
            | [0x2001, 3 | 0x20..=0x3f, ..]
            | [0x2001, 4, 0x112, ..]
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::v4(Scope::Public, &["104.80.104.128", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.32.0.1", "198.17.0.1"])]
    #[case::v6(Scope::Public, &["2a01:111::1", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808", "2001:200::1", "3ffe::1"])]
    #[case::v4_excepted(Scope::Public, &["192.0.0.9", "192.0.0.10", "192.31.196.1", "192.52.193.1", "192.175.48.1"])]
    #[case::v6_excepted(Scope::Public, &["2001:1::1", "2001:1::3", "2001:3::1", "2001:4:112::1", "2001:20::1", "2001:3f::1"])]
    #[case(Scope::Private, &["10.0.0.1", "172.16.0.0", "172.31.255.255", "192.168.1.1", "fd00::1", "::ffff:10.0.0.1"])]
    #[case(Scope::Shared, &["100.64.0.0", "100.127.255.255"])]
    #[case(Scope::Loopback, &["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"])]
    #[case(Scope::LinkLocal, &["169.254.1.1", "fe80::1", "febf::1"])]
    #[case(Scope::Documentation, &["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"])]
    #[case(Scope::Multicast, &["224.0.0.1", "239.255.255.255", "ff02::1"])]
    #[case(Scope::Unspecified, &["0.0.0.0", "::"])]
    #[case::v4(Scope::Reserved, &["0.1.2.3", "192.0.0.8", "192.88.99.1", "198.18.0.1", "240.0.0.1", "255.255.255.255"])]
    #[case::translated_locally(Scope::Reserved, &["64:ff9b:1::1", "64:ff9b:1:ffff::1", "64:ff9b:0:0:0:1::"])]
    #[case::protocol_assignments(Scope::Reserved, &["2001::1", "2001:1::4", "2001:2::1", "2001:4:113::1", "2001:10::1", "2001:1ff::1"])]
    #[case::six_to_four(Scope::Reserved, &["2002:808:808::1"])]
    #[case::beyond_2000(Scope::Reserved, &["::1.2.3.4", "100::1", "100:0:0:1::1", "5f00::1", "4000::1", "fec0::1", "1fff::1"])]
    fn addresses_reach_as_far_as_their_block(#[case] scope: Scope, #[case] ips: &[&str]) {
        for ip in ips {
            assert_eq!(Scope::of(ip.parse().unwrap()), scope, "{ip}");
        }
    }
}
