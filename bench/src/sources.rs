//! The list of own addresses to connect from.

use std::net::{IpAddr, Ipv4Addr};

/// At most so many: each is good for about 28,000 connections.
const ADDRESSES_MAX: usize = 1024;

/// Addresses in the order of their use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources(pub Vec<IpAddr>);

/// Reads `127.0.0.2-127.0.0.9`, `127.0.0.2,127.0.0.4`, or both mixed; ranges are of IPv4.
pub fn parse(text: &str) -> Result<Sources, String> {
    let mut addresses = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (address::<Ipv4Addr>(first)?, address::<Ipv4Addr>(last)?);
                addresses.extend((u32::from(first)..=u32::from(last)).take(ADDRESSES_MAX + 1).map(of_bits));
            }
            None => addresses.push(address(part)?),
        }
    }
    match addresses.len() {
        0 => Err("no address".to_owned()),
        1..=ADDRESSES_MAX => Ok(Sources(addresses)),
        _ => Err(format!("over {ADDRESSES_MAX} addresses")),
    }
}

fn of_bits(bits: u32) -> IpAddr {
    Ipv4Addr::from(bits).into()
}

fn address<A: std::str::FromStr>(text: &str) -> Result<A, String> {
    text.parse().map_err(|_| format!("{text} is no such address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<&str>) {
        let got = parse(text).ok();
        let got = got.map(|Sources(all)| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        assert_eq!(got.as_deref(), want, "{text}");
    }

    #[test]
    fn ranges_and_lists_of_addresses() {
        check("127.0.0.2", Some("127.0.0.2"));
        check("127.0.0.254-127.0.1.1", Some("127.0.0.254 127.0.0.255 127.0.1.0 127.0.1.1"));
        check("127.0.0.9,::1,127.0.0.2-127.0.0.3", Some("127.0.0.9 ::1 127.0.0.2 127.0.0.3"));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", ",", "127.0.0.3-127.0.0.2", "::1-::3", "127.0.0.0/8", "10.0.0.0-11.0.0.0", "a"] {
            check(text, None);
        }
    }
}
