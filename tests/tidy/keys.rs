//! Configuration keys that are said to work are read: the last word of each stands as a literal where the program turns
//! keys into options.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree;

/// Where the tables of keys are.
const TABLES: &str = "src/config/keys/";

/// The table of the top level.
const TOP: &str = "SECTIONS";

#[test]
fn keys_that_work_are_read() {
    let files = tree::rust_files();
    let tables = files.iter().filter(|file| file.path.starts_with(TABLES)).flat_map(|file| rows(&file.text));
    let mut by_table: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in tables {
        by_table.entry(row.table.clone()).or_default().push(row);
    }
    assert!(by_table.contains_key(TOP), "no table {TOP} under {TABLES}");
    let readers: String = files
        .iter()
        .filter(|file| file.path.starts_with("src/") && !file.path.starts_with(TABLES))
        .map(|file| file.text.as_str())
        .collect();
    let unread = |name: &String| !readers.contains(&format!("\"{name}\""));
    let findings = working(&by_table).into_iter().filter(unread).collect();
    tree::none("a key is said to work and nobody reads it", findings);
}

/// One key of a table.
#[derive(Debug, PartialEq)]
struct Row {
    table: String,
    name: String,
    works: bool,
    /// Tables with the keys inside of it.
    inside: Vec<String>,
}

/// Names of the keys that work: marked so in a table that is reached from the top through keys that work.
fn working(tables: &BTreeMap<String, Vec<Row>>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![TOP.to_owned()];
    while let Some(table) = open.pop() {
        if !seen.insert(table.clone()) {
            continue;
        }
        for row in tables.get(&table).into_iter().flatten().filter(|row| row.works) {
            names.insert(row.name.clone());
            open.extend(row.inside.iter().cloned());
        }
    }
    names
}

/// Rows of all tables in a file: `Works name: Kind(..), "default", "meaning";` below the name of the table.
fn rows(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut table = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_suffix(" {").filter(|name| is_constant(name)) {
            table = name;
        }
        let Some((support, rest)) = line.split_once(' ') else { continue };
        let Some((name, kind)) = rest.split_once(':') else { continue };
        if ["Works", "Later", "Moot"].contains(&support) {
            let kind = kind.split('"').next().unwrap_or_default();
            let words = kind.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            rows.push(Row {
                table: table.to_owned(),
                name: name.trim().to_owned(),
                works: support == "Works",
                inside: words.filter(|word| is_constant(word)).map(str::to_owned).collect(),
            });
        }
    }
    rows
}

/// Whether the text is the name of a constant: capitals, digits, underscores.
fn is_constant(text: &str) -> bool {
    let capital = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.len() > 1 && text.chars().all(capital)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"
        SECTIONS {
            Works client: Object(&[client::CLIENT, pro::MORE]), "", "Clients: all of it";
            Later broker: Object(&[BROKER]),                    "", "Broker";
        }
        CLIENT { }
        CLIENT {
            Works stale_close_delay: Duration, "10s", "As long";
            Later channel_limit:     Int,      "",    "Later";
        }
        BROKER {
            Works url: Text, "", "Address";
        }"#;

    #[test]
    fn a_key_works_only_when_its_section_does() {
        let mut tables: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in rows(EXAMPLE) {
            tables.entry(row.table.clone()).or_default().push(row);
        }
        let want = ["client", "stale_close_delay"].map(str::to_owned).into();
        assert_eq!(working(&tables), want);
    }

    #[test]
    fn a_row_names_the_tables_inside_of_it() {
        let rows = rows(EXAMPLE);
        assert_eq!(rows[0].inside, ["CLIENT", "MORE"]);
        assert_eq!(rows[2].inside, [""; 0]);
    }
}
