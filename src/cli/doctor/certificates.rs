//! Certificates of the ports: how long they still count.

use super::finding::Finding;
use super::machine::Machine;
use super::wants::Wants;
use crate::utc;

/// Time before the end of a certificate in which someone should know.
const SOON_DAYS: u64 = 14;

/// One finding for each. Expired ones are refused with the rest of the configuration.
pub fn check(_: &Machine, wants: &Wants) -> Vec<Finding> {
    let now = utc::now();
    wants.certificates.iter().map(|(path, not_after)| judge(path, *not_after, now)).collect()
}

fn judge(path: &str, not_after: u64, now: u64) -> Finding {
    let days = not_after.saturating_sub(now) / 86_400;
    let found = format!("{path}.cert_pem counts until {}, {days} days from now", utc::rfc3339(not_after));
    if days > SOON_DAYS {
        return Finding::ok("certificate", found);
    }
    Finding::warn("certificate", found)
        .why("clients refuse a certificate that has expired, and the server does not start with one")
        .remedy("renew it and send the server SIGHUP, which disconnects nobody")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn two_weeks_before_the_end_it_is_a_warning() {
        let day = 86_400;
        for (left, level) in [(100 * day, Level::Ok), (15 * day, Level::Ok), (14 * day, Level::Warn), (1, Level::Warn)]
        {
            let finding = judge("http_server.tls", 1_000_000 + left, 1_000_000);
            assert_eq!(finding.level, level, "{}", finding.found);
        }
    }
}
