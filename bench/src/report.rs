//! What a scenario tells: a table for people, one JSON object for machines.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::histogram::Percentiles;
use crate::ledger::Tally;
use crate::problems::Problems;
use crate::spread::Spread;

/// Rows of one scenario in the order of their telling.
pub struct Report {
    scenario: &'static str,
    rows: Vec<Row>,
    hidden: Vec<(&'static str, Value)>,
    warnings: Vec<String>,
    clean: bool,
}

struct Row {
    key: &'static str,
    label: String,
    text: String,
    value: Value,
}

impl Report {
    /// An empty report, clean until something bad is added.
    pub fn new(scenario: &'static str) -> Self {
        Self { scenario, rows: Vec::new(), hidden: Vec::new(), warnings: Vec::new(), clean: true }
    }

    /// Whether nothing was lost, duplicated, reordered, changed, refused or cut.
    pub fn is_clean(&self) -> bool {
        self.clean
    }

    /// Words.
    pub fn text(&mut self, key: &'static str, label: &str, text: String) {
        let value = json!(text);
        self.push(key, label, text, value);
    }

    /// A count.
    pub fn count(&mut self, key: &'static str, label: &str, count: u64) {
        self.push(key, label, count.to_string(), json!(count));
    }

    /// A figure with its unit.
    pub fn figure(&mut self, key: &'static str, label: &str, figure: f64, unit: &str) {
        let digits = if figure.abs() < 100.0 { 3 } else { 0 };
        let text = format!("{figure:.digits$} {unit}");
        self.push(key, label, text, json!(figure));
    }

    /// Figures of several windows. Without any, the row is left out.
    pub fn spread(&mut self, key: &'static str, label: &str, spread: Option<Spread>, unit: &str) {
        if let Some(spread) = spread {
            self.push(key, label, format!("{spread} {unit}"), spread.to_json());
        }
    }

    /// Percentiles of latencies.
    pub fn latency(&mut self, key: &'static str, label: &str, percentiles: Percentiles) {
        let text = format!("{percentiles} µs");
        self.push(key, label, text, percentiles.to_json());
    }

    /// The accounts of deliveries; anything but deliveries makes the report unclean.
    pub fn tally(&mut self, tally: Tally) {
        self.count("deliveries", "deliveries checked", tally.delivered);
        let text = format!(
            "lost {}  duplicated {}  reordered {}  corrupted {}  late {}",
            tally.lost, tally.duplicated, tally.reordered, tally.corrupted, tally.late
        );
        let value = json!({
            "lost": tally.lost,
            "duplicated": tally.duplicated,
            "reordered": tally.reordered,
            "corrupted": tally.corrupted,
            "late": tally.late,
        });
        self.push("wrong", "wrong deliveries", text, value);
        self.clean &= tally.is_clean();
    }

    /// What went wrong with connections or requests: how often, and the first few reasons. Nothing when it did not.
    pub fn problems(&mut self, problems: &Problems) {
        let (count, reasons) = (problems.count(), problems.reasons());
        if count == 0 {
            return;
        }
        let text = format!("{count}: {problems}");
        let value = json!({ "count": count, "reasons": reasons });
        self.push("problems", "problems", text, value);
        self.clean = false;
    }

    /// Something that the reader has to know before believing the figures.
    pub fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// For machines alone.
    pub fn value(&mut self, key: &'static str, value: Value) {
        self.hidden.push((key, value));
    }

    /// Prints to standard output.
    pub fn print(&self, as_json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if as_json { writeln!(out, "{}", self.to_json()) } else { write!(out, "{}", self.to_table()) }
    }

    fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("scenario".to_owned(), json!(self.scenario));
        object.insert("clean".to_owned(), json!(self.clean));
        for row in &self.rows {
            object.insert(row.key.to_owned(), row.value.clone());
        }
        if !self.warnings.is_empty() {
            object.insert("warnings".to_owned(), json!(self.warnings));
        }
        object.extend(self.hidden.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        Value::Object(object)
    }

    fn to_table(&self) -> String {
        let width = self.rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
        let mut table = format!("{}\n", self.scenario);
        for row in &self.rows {
            table.push_str(&format!("  {:width$}  {}\n", row.label, row.text));
        }
        for warning in &self.warnings {
            table.push_str(&format!("  WARNING: {warning}\n"));
        }
        table
    }

    fn push(&mut self, key: &'static str, label: &str, text: String, value: Value) {
        self.rows.push(Row { key, label: label.to_owned(), text, value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lost: u64) -> Report {
        let mut report = Report::new("fanout");
        report.figure("cpu_us", "server CPU", 1.25, "µs");
        report.tally(Tally { delivered: 10, lost, ..Tally::default() });
        report.problems(&Problems::default());
        report
    }

    #[test]
    fn table_lines_up() {
        assert_eq!(
            report(0).to_table(),
            "fanout\n  server CPU          1.250 µs\n  deliveries checked  10\n  \
             wrong deliveries    lost 0  duplicated 0  reordered 0  corrupted 0  late 0\n"
        );
    }

    #[test]
    fn json_holds_the_same_figures() {
        assert_eq!(
            report(0).to_json().to_string(),
            r#"{"clean":true,"cpu_us":1.25,"deliveries":10,"scenario":"fanout","wrong":{"corrupted":0,"duplicated":0,"late":0,"lost":0,"reordered":0}}"#
        );
    }

    #[test]
    fn warnings_stand_below_and_leave_it_clean() {
        let mut report = report(0);
        report.warn("a: slow".to_owned());
        report.warn("b: slow".to_owned());
        assert!(report.to_table().ends_with("\n  WARNING: a: slow\n  WARNING: b: slow\n"));
        assert_eq!(report.to_json()["warnings"], json!(["a: slow", "b: slow"]));
        assert!(report.is_clean());
    }

    #[test]
    fn loss_and_problems_make_it_unclean() {
        assert!(report(0).is_clean());
        assert!(!report(1).is_clean());
        let mut report = report(0);
        let mut problems = Problems::default();
        problems.note("cut".to_owned());
        report.problems(&problems);
        assert!(!report.is_clean());
    }
}
