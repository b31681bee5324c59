//! The command line: no command runs the server, commands help with its configuration.
//!
//! Names, flags, texts and exit codes are Centrifugo's. An error ends with exit code 1.

mod check_config;
mod flags;
mod gen_config;
mod gen_token;
mod version;

use crate::config::{self, Environment, LoadError, Loaded, Sources};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What a command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Run the server.
    Run(RunRequest),
    /// A command that printed its answer; exit with this code.
    Done(u8),
}

/// How to run the server.
#[derive(Debug)]
pub struct RunRequest {
    /// The configuration file; flag `--config`.
    pub file: PathBuf,
    /// Keys that flags set, with their text.
    pub flags: Vec<(String, String)>,
}

/// Why a command failed, in the words that are printed.
type Failure = String;

/// Understands a command line and carries out what is no server. `out` is standard output.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
) -> io::Result<Request> {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            error.print()?;
            return Ok(Request::Done(u8::from(error.use_stderr())));
        }
    };
    let Some((name, matches)) = matches.subcommand() else {
        let flags = flags::given(&matches);
        return Ok(Request::Run(RunRequest {
            file: file(&matches),
            flags,
        }));
    };
    let answer = match name {
        "version" => Ok(version::text()),
        "checkconfig" => check_config::run(&file(matches), matches.get_flag("strict")),
        "genconfig" => gen_config::run(&file(matches)),
        "gentoken" => gen_token::connection_token(&token_request(matches)),
        "gensubtoken" => gen_token::subscription_token(&token_request(matches)),
        unknown => unreachable!("clap knows no command {unknown}"),
    };
    match answer {
        Ok(text) => out.write_all(text.as_bytes()).map(|()| Request::Done(0)),
        Err(text) => writeln!(out, "{text}").map(|()| Request::Done(1)),
    }
}

fn command() -> Command {
    Command::new("ringcast")
        .about("Ringcast - real-time messaging server, a drop-in replacement for Centrifugo")
        .args_override_self(true)
        .subcommand_negates_reqs(true)
        .arg(config_argument("path to config file"))
        .args(flags::arguments())
        .subcommand(Command::new("version").about("Ringcast version information"))
        .subcommand(
            Command::new("checkconfig")
                .about("Check configuration file")
                .arg(config_argument("path to config file to check"))
                .arg(switch(
                    "strict",
                    's',
                    "strict check - fail on unknown fields",
                )),
        )
        .subcommand(
            Command::new("genconfig")
                .about("Generate minimal configuration file to start with")
                .arg(config_argument("path to output config file")),
        )
        .subcommand(
            token_command("gentoken")
                .about("Generate sample connection JWT for user")
                .arg(text("user", 'u', "user ID, by default anonymous")),
        )
        .subcommand(
            token_command("gensubtoken")
                .about("Generate sample subscription JWT for user")
                .arg(text("user", 'u', "user ID"))
                .arg(text("channel", 's', "channel")),
        )
}

fn token_command(name: &'static str) -> Command {
    const WEEK: &str = "604800";
    let ttl = text(
        "ttl",
        't',
        "token TTL in seconds, use -1 for token without expiration",
    );
    Command::new(name)
        .args_override_self(true)
        .arg(config_argument("path to config file"))
        .arg(
            ttl.default_value(WEEK)
                .value_parser(clap::value_parser!(i64))
                .allow_negative_numbers(true),
        )
        .arg(switch(
            "quiet",
            'q',
            "only output the token without anything else",
        ))
}

fn config_argument(help: &'static str) -> Arg {
    text("config", 'c', help).default_value("config.json")
}

fn text(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .short(short)
        .help(help)
        .default_value("")
}

fn switch(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .short(short)
        .help(help)
        .action(ArgAction::SetTrue)
}

fn file(matches: &ArgMatches) -> PathBuf {
    PathBuf::from(given(matches, "config"))
}

fn given<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

fn token_request(matches: &ArgMatches) -> gen_token::Request {
    let channel = matches.try_get_one::<String>("channel").ok().flatten();
    gen_token::Request {
        file: file(matches),
        user: given(matches, "user").to_owned(),
        channel: channel.cloned().unwrap_or_default(),
        ttl_seconds: matches.get_one::<i64>("ttl").copied().unwrap_or_default(),
        quiet: matches.get_flag("quiet"),
    }
}

/// Loads a configuration for a command, as the server would without flags.
fn load(file: &Path) -> Result<Loaded, Failure> {
    let mut environment = Environment::of_process();
    environment
        .add_dotenv(Path::new(".env"))
        .map_err(|error| format!("error: {error}"))?;
    let sources = Sources {
        file,
        environment: &environment,
        flags: &[],
    };
    config::load(sources).map_err(|error: LoadError| format!("error getting config: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[track_caller]
    fn flags_of(line: &str) -> Option<Vec<(String, String)>> {
        let arguments = std::iter::once("ringcast").chain(line.split_whitespace());
        let matches = command().try_get_matches_from(arguments).ok()?;
        Some(flags::given(&matches))
    }

    #[track_caller]
    fn check(line: &str, want: &[(&str, &str)]) {
        let own = |(key, text): &(&str, &str)| ((*key).to_owned(), (*text).to_owned());
        let want: Vec<_> = want.iter().map(own).collect();
        assert_eq!(flags_of(line), Some(want), "{line}");
    }

    #[test]
    fn flags_set_keys() {
        check("", &[]);
        check("-p 9000", &[("http_server.port", "9000")]);
        check(
            "--http_server.port=9000 -a ::1",
            &[("http_server.port", "9000"), ("http_server.address", "::1")],
        );
        check("--health.enabled", &[("health.enabled", "true")]);
        check("--health.enabled=false", &[("health.enabled", "false")]);
        check("-p 1 -p 2", &[("http_server.port", "2")]);
        check(
            "--client.insecure --config x.json",
            &[("client.insecure", "true")],
        );
    }

    #[test]
    fn what_is_no_flag_is_refused() {
        for line in [
            "--nonsense",
            "nonsense",
            "--http_server.port",
            "-x",
            "gentoken --ttl soon",
        ] {
            assert_eq!(flags_of(line), None, "{line}");
        }
    }
}
