//! Which addresses are of the public internet.

use std::net::IpAddr;

/// Whether an address is of the machine itself, of a private or local network, or otherwise not of the public internet.
pub fn is_private(address: IpAddr) -> bool {
    let address = address.to_canonical();
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            let is_benchmark = a == 198 && (b == 18 || b == 19);
            let is_protocol = (a, b, c) == (192, 0, 0);
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_documentation()
                || a == 0
                || a >= 240
                || is_shared
                || is_benchmark
                || is_protocol
        }
        IpAddr::V6(v6) => {
            let first = v6.segments();
            // Translations hold an IPv4 address at their end: NAT64, 6to4, and the deprecated compatible ones.
            let v4_inside = match first {
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => Some((high, low)),
                [0x2002, high, low, ..] => Some((high, low)),
                _ => None,
            };
            let v4_inside = v4_inside.map(|(high, low)| (u32::from(high) << 16 | u32::from(low)).to_be_bytes());
            // Global unicast is 2000::/3; the rest is local, multicast or nothing.
            let is_global = first[0] & 0xe000 == 0x2000 || first[..2] == [0x64, 0xff9b];
            let is_documentation = first[..2] == [0x2001, 0xdb8];
            !is_global || is_documentation || v4_inside.is_some_and(|octets| is_private(IpAddr::from(octets)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// U04
    #[test]
    fn private_addresses_are_known_in_every_clothing() {
        for (address, want) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("192.168.1.1", true),
            ("169.254.169.254", true),
            ("100.64.0.1", true),
            ("0.0.0.0", true),
            ("192.0.0.8", true),
            ("198.18.0.1", true),
            ("224.0.0.1", true),
            ("255.255.255.255", true),
            ("::1", true),
            ("::", true),
            ("fe80::1", true),
            ("fd00::1", true),
            ("ff02::1", true),
            ("::ffff:127.0.0.1", true),
            ("::127.0.0.1", true),
            ("64:ff9b::a00:1", true),
            ("2002:7f00:1::", true),
            ("2001:db8::1", true),
            ("1.1.1.1", false),
            ("172.15.0.1", false),
            ("100.128.0.1", false),
            ("2606:4700::1111", false),
            ("64:ff9b::101:101", false),
        ] {
            assert_eq!(is_private(address.parse().expect("an address")), want, "{address}");
        }
    }
}
