//! The findings on paper: for a person, worst first, or as JSON for a script.

use super::finding::{Finding, Level};
use serde_json::json;
use std::fmt::Write as _;

/// For a person. Colours only where they are shown.
pub fn text(findings: &[Finding], has_colours: bool) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let (on, off) = if has_colours { (colour(finding.level), "\x1b[0m") } else { ("", "") };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{on}{:4}{off}  {:width$}  {}", finding.level.name(), finding.check, finding.found);
        for (word, line) in [("why:", &finding.why), ("mend:", &finding.remedy)] {
            if !line.is_empty() {
                let _ = writeln!(text, "      {:width$}  {word:5} {line}", "");
            }
        }
    }
    let _ = writeln!(text, "{}", summary(findings));
    text
}

/// For a script: `status`, the worst level, and `findings`.
pub fn json(findings: &[Finding]) -> String {
    let status = worst(findings).name();
    let findings: Vec<_> = findings.iter().map(Finding::json).collect();
    format!("{:#}\n", json!({"status": status, "findings": findings}))
}

/// The worst level.
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

fn summary(findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let counts =
        [Level::Fail, Level::Warn, Level::Note, Level::Ok].map(|level| format!("{} {}", count(level), level.name()));
    let verdict = match worst(findings) {
        Level::Fail => "the server does not start like this",
        Level::Warn => "the server starts, and could do better",
        Level::Note | Level::Ok => "the machine is ready",
    };
    format!("{}: {verdict}", counts.join(", "))
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::Ok => "\x1b[32m",
        Level::Note => "\x1b[36m",
        Level::Warn => "\x1b[33m",
        Level::Fail => "\x1b[31m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> [Finding; 2] {
        [Finding::warn("nofile", "hard limit 9").why("few").remedy("ulimit -Hn 99"), Finding::ok("io_uring", "works")]
    }

    #[test]
    fn a_person_reads_reason_and_remedy_below() {
        let want = "warn  nofile    hard limit 9\n                why:  few\n                mend: ulimit -Hn 99\n\
                    ok    io_uring  works\n0 fail, 1 warn, 0 note, 1 ok: the server starts, and could do better\n";
        assert_eq!(text(&findings(), false), want);
        assert!(text(&findings(), true).starts_with("\x1b[33mwarn\x1b[0m  nofile"));
    }

    #[test]
    fn a_script_reads_json() {
        let report: serde_json::Value = serde_json::from_str(&json(&findings())).expect("JSON");
        assert_eq!(report["status"], "warn");
        let want = json!({"check": "nofile", "level": "warn", "found": "hard limit 9", "why": "few", "remedy": "ulimit -Hn 99"});
        assert_eq!(report["findings"][0], want);
    }
}
