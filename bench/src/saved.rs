//! Two saved reports side by side: every figure that both have, and its ratio.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

use crate::failure::Failure;

/// Told of the runs, no figures of them.
const NO_FIGURES: &[&str] = &["each_window", "machine", "version", "date", "command"];

/// Prints the comparison of two files that `--json` wrote.
pub fn compare(a: &Path, b: &Path) -> Result<(), Failure> {
    let table = table(&read(a)?, &read(b)?);
    io::stdout().lock().write_all(table.as_bytes()).map_err(Failure::system("printing the comparison"))
}

fn read(path: &Path) -> Result<Value, Failure> {
    let saved = |reason: String| Failure::Saved { path: path.to_owned(), reason };
    let text = fs::read_to_string(path).map_err(|error| saved(error.to_string()))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| saved(format!("not what --json wrote: {error}")))?;
    if value["scenario"].is_string() { Ok(value) } else { Err(saved("not what --json wrote".to_owned())) }
}

fn table(a: &Value, b: &Value) -> String {
    let mut rows = Vec::new();
    for key in ["scenario", "version", "date", "command"] {
        let text = |report: &Value| report[key].as_str().unwrap_or_default().to_owned();
        rows.push([key.to_owned(), text(a), text(b), String::new()]);
    }
    let (left, right) = (figures(a), figures(b));
    for (name, a) in left {
        if let Some((_, b)) = right.iter().find(|(other, _)| *other == name) {
            let ratio = if a == 0.0 { String::new() } else { format!("{:.3}", b / a) };
            rows.push([name, number(a), number(*b), ratio]);
        }
    }
    let mut table = String::new();
    let width = rows.iter().map(|[name, ..]| name.len()).max().unwrap_or(0);
    table.push_str(&format!("{:width$}  {:>14}  {:>14}  {:>8}\n", "", "A", "B", "B / A"));
    for [name, a, b, ratio] in rows {
        // Texts are long: one below the other.
        table.push_str(&match ratio.is_empty() && a.parse::<f64>().is_err() {
            true => format!("{name:width$}  A: {a}\n{:width$}  B: {b}\n", ""),
            false => format!("{name:width$}  {a:>14}  {b:>14}  {ratio:>8}\n"),
        });
    }
    table
}

/// Numbers of a report with their names; of spreads the median.
fn figures(report: &Value) -> Vec<(String, f64)> {
    let mut figures = Vec::new();
    for (key, value) in report.as_object().into_iter().flatten() {
        if NO_FIGURES.contains(&key.as_str()) {
            continue;
        }
        match (value, value["median"].as_f64()) {
            (Value::Object(_), Some(median)) => figures.push((key.clone(), median)),
            (Value::Object(parts), None) => {
                let parts = parts.iter().filter_map(|(part, value)| Some((format!("{key}.{part}"), value.as_f64()?)));
                figures.extend(parts);
            }
            (value, _) => figures.extend(value.as_f64().map(|number| (key.clone(), number))),
        }
    }
    figures
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_of_both_stand_beside_their_ratio() {
        let report = |cost: f64, p99: u64| {
            json!({"scenario": "api", "version": "1", "date": "d", "command": "c", "windows": 0, "each_window": [{"a": 1}],
                "cost": {"median": cost, "min": 0.5, "max": 9.0}, "latency": {"p99_us": p99}})
        };
        let mut other = report(3.0, 10);
        other["only_here"] = json!(1);
        let told = table(&report(1.5, 20), &other);
        let lines: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(lines.contains(&vec!["cost", "1.500", "3", "2.000"]), "{told}");
        assert!(lines.contains(&vec!["latency.p99_us", "20", "10", "0.500"]), "{told}");
        assert!(lines.contains(&vec!["windows", "0", "0"]), "{told}");
        assert!(lines.contains(&vec!["scenario", "A:", "api"]), "{told}");
        assert!(!told.contains("only_here") && !told.contains("each_window"), "{told}");
    }
}
