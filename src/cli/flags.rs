//! Flags of the server: keys of the configuration, by their paths.

use crate::config::keys::{self, Key, Kind};
use clap::{Arg, ArgMatches};

/// Keys that have a flag, with its letter.
const FLAGS: &[(&str, Option<char>)] = &[
    ("pid_file", None),
    ("http_server.port", Some('p')),
    ("http_server.address", Some('a')),
    ("http_server.internal_port", None),
    ("http_server.internal_address", None),
    ("log.level", None),
    ("log.file", None),
    ("engine.type", None),
    ("broker.enabled", None),
    ("broker.type", None),
    ("presence_manager.enabled", None),
    ("presence_manager.type", None),
    ("map_broker.type", None),
    ("debug.enabled", None),
    ("admin.enabled", None),
    ("admin.external", None),
    ("admin.insecure", None),
    ("client.insecure", None),
    ("http_api.insecure", None),
    ("http_api.external", None),
    ("prometheus.enabled", None),
    ("health.enabled", None),
    ("grpc_api.enabled", None),
    ("grpc_api.port", None),
    ("uni_grpc.enabled", None),
    ("uni_grpc.port", None),
    ("uni_websocket.enabled", None),
    ("uni_sse.enabled", None),
    ("uni_http_stream.enabled", None),
    ("sse.enabled", None),
    ("http_stream.enabled", None),
    ("swagger.enabled", None),
    ("init.enabled", None),
    ("demo.enabled", None),
    ("shards", None),
];

/// An argument for each flag.
pub fn arguments() -> impl Iterator<Item = Arg> {
    FLAGS.iter().map(|&(path, letter)| {
        let key = keys::at(path).expect("flags are keys of the table");
        let flag = Arg::new(path).long(path).help(key.about).value_name(value_name(key));
        let flag = match letter {
            Some(letter) => flag.short(letter),
            None => flag,
        };
        match key.kind {
            // A flag without a value switches on.
            Kind::Bool => flag.num_args(0..=1).require_equals(true).default_missing_value("true"),
            _ => flag,
        }
    })
}

/// The flags that were given: path of the key and text.
pub fn given(matches: &ArgMatches) -> Vec<(String, String)> {
    let text = |path: &str| matches.get_one::<String>(path).cloned();
    FLAGS.iter().filter_map(|(path, _)| Some(((*path).to_owned(), text(path)?))).collect()
}

fn value_name(key: &Key) -> &'static str {
    match key.kind {
        Kind::Bool => "bool",
        Kind::Int => "int",
        _ => "string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands;

    fn flags_of(line: &str) -> Option<Vec<(String, String)>> {
        let arguments = std::iter::once("ringcast").chain(line.split_whitespace());
        let matches = commands::all().try_get_matches_from(arguments).ok()?;
        Some(given(&matches))
    }

    #[track_caller]
    fn check(line: &str, want: &[(&str, &str)]) {
        let own = |(key, text): &(&str, &str)| ((*key).to_owned(), (*text).to_owned());
        let want: Vec<_> = want.iter().map(own).collect();
        assert_eq!(flags_of(line), Some(want), "{line}");
    }

    /// L04
    #[test]
    fn flags_set_keys() {
        check("", &[]);
        check("-p 9000", &[("http_server.port", "9000")]);
        check("--http_server.port=9000 -a ::1", &[("http_server.port", "9000"), ("http_server.address", "::1")]);
        check("--health.enabled", &[("health.enabled", "true")]);
        check("--health.enabled=false", &[("health.enabled", "false")]);
        check("-p 1 -p 2", &[("http_server.port", "2")]);
        check("--client.insecure --config x.json", &[("client.insecure", "true")]);
    }

    #[test]
    fn what_is_no_flag_is_refused() {
        for line in ["--nonsense", "nonsense", "--http_server.port", "-x", "gentoken --ttl soon"] {
            assert_eq!(flags_of(line), None, "{line}");
        }
    }
}
