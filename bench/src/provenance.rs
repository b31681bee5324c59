//! Where figures come from: version, command line, date and machine, told with every machine-readable report.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::report::Report;

/// Options whose values are nobody's business.
const SECRETS: &[&str] =
    &["--api-key", "--a-api-key", "--b-api-key", "--token-secret", "--a-token-secret", "--b-token-secret"];

/// Adds it to a report.
pub fn tell(report: &mut Report) {
    report.value("version", json!(env!("CARGO_PKG_VERSION")));
    report.value("command", json!(command(std::env::args())));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    report.value("date", json!(date(since.as_secs())));
    report.value("machine", machine());
}

/// The command line without secrets.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let mut told: Vec<String> = Vec::new();
    for argument in arguments {
        let after_secret = told.last().is_some_and(|last| SECRETS.contains(&last.as_str()));
        match argument.split_once('=') {
            _ if after_secret => told.push("***".to_owned()),
            Some((option, _)) if SECRETS.contains(&option) => told.push(format!("{option}=***")),
            _ => told.push(argument),
        }
    }
    told.join(" ")
}

/// Processor, how many of them this process may use, and kernel; empty where the system does not say.
fn machine() -> Value {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.trim_start().strip_prefix(':'));
    json!({
        "cpu": model.unwrap_or_default().trim(),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}

/// Seconds since 1970 as RFC 3339 in UTC. Days to dates: <https://howardhinnant.github.io/date_algorithms.html>.
fn date(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_told() {
        let line = "ringcast-bench api --api-key KEY --b-token-secret=S --pin 1";
        let told = command(line.split(' ').map(str::to_owned));
        assert_eq!(told, "ringcast-bench api --api-key *** --b-token-secret=*** --pin 1");
    }

    #[test]
    fn seconds_are_dates() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_871_505, "2026-11-28T13:11:45Z"),
        ] {
            assert_eq!(date(seconds), want);
        }
    }
}
