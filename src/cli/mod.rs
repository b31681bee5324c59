//! The command line: no command runs the server, commands help with its configuration.
//!
//! Names, flags, texts and exit codes are Centrifugo's. An error ends with exit code 1.

mod check_config;
mod check_token;
mod commands;
mod config_doc;
mod default_config;
mod default_env;
mod doctor;
mod flags;
mod gen_config;
mod gen_token;
mod serve;
mod upgrade;
mod version;

pub use check_token::log_verifiers;
pub use version::VERSION;

use crate::config::{self, Environment, Loaded, Sources};
use clap::ArgMatches;
use ringcast_state::auth::TokenKind;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
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
pub fn run(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write) -> io::Result<Request> {
    let matches = match commands::all().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            error.print()?;
            return Ok(Request::Done(u8::from(error.use_stderr())));
        }
    };
    let Some((name, matches)) = matches.subcommand() else {
        return Ok(Request::Run(RunRequest { file: config_file(&matches), flags: flags::given(&matches) }));
    };
    if name == "doctor" {
        let (text, code) = doctor::run(&doctor_request(matches));
        return out.write_all(text.as_bytes()).map(|()| Request::Done(code));
    }
    match answer(name, matches, out) {
        Ok(text) => out.write_all(text.as_bytes()).map(|()| Request::Done(0)),
        Err(text) => writeln!(out, "{text}").map(|()| Request::Done(1)),
    }
}

/// What a command prints, or has printed while it ran.
fn answer(name: &str, matches: &ArgMatches, out: &mut dyn Write) -> Result<String, Failure> {
    match name {
        "version" => Ok(version::text()),
        "checkconfig" => check_config::run(&config_file(matches), matches.get_flag("strict")),
        "genconfig" => gen_config::run(&config_file(matches)),
        "defaultconfig" => {
            let dry_run = matches.get_flag("dry-run");
            default_config::run(&config_file(matches), base_file(matches).as_deref(), dry_run)
        }
        "defaultenv" => {
            let non_zero_only = matches.get_flag("base-non-zero-only");
            default_env::run(base_file(matches).as_deref(), non_zero_only)
        }
        "configdoc" if matches.get_flag("markdown") => {
            let level = matches.get_one::<u8>("base-level").copied().unwrap_or_default();
            Ok(config_doc::markdown(given(matches, "section"), usize::from(level)))
        }
        "configdoc" => {
            let port = matches.get_one("port").copied().unwrap_or_default();
            config_doc::run(given(matches, "section"), port, out)
        }
        "gentoken" => gen_token::connection_token(&token_request(matches)),
        "gensubtoken" => gen_token::subscription_token(&token_request(matches)),
        "checktoken" => check_token::run(TokenKind::Connection, &config_file(matches), &tokens(matches)),
        "checksubtoken" => check_token::run(TokenKind::Subscription, &config_file(matches), &tokens(matches)),
        "serve" => {
            let port = matches.get_one("port").copied().unwrap_or_default();
            serve::run(given(matches, "address"), port, Path::new(given(matches, "dir")), out)
        }
        "upgrade" => upgrade::run(matches.get_one("pid").copied(), &config_file(matches)),
        "completion" => Ok(completion(matches)),
        unknown => unreachable!("the command line has no command {unknown}"),
    }
}

fn completion(matches: &ArgMatches) -> String {
    let shell = matches.get_one::<clap_complete::Shell>("shell").copied().unwrap_or(clap_complete::Shell::Bash);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut commands::all(), "ringcast", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn doctor_request(matches: &ArgMatches) -> doctor::Request {
    doctor::Request {
        file: Some(given(matches, "config")).filter(|file| !file.is_empty()).map(PathBuf::from),
        connections: matches.get_one("connections").copied(),
        root: PathBuf::from(given(matches, "root")),
        json: matches.get_flag("json"),
        strict: matches.get_flag("strict"),
        has_colours: io::stdout().is_terminal(),
    }
}

fn config_file(matches: &ArgMatches) -> PathBuf {
    PathBuf::from(given(matches, "config"))
}

fn base_file(matches: &ArgMatches) -> Option<PathBuf> {
    Some(given(matches, "base")).filter(|base| !base.is_empty()).map(PathBuf::from)
}

fn tokens(matches: &ArgMatches) -> Vec<&str> {
    matches.get_many::<String>("token").into_iter().flatten().map(String::as_str).collect()
}

fn given<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

fn token_request(matches: &ArgMatches) -> gen_token::Request {
    let channel = matches.try_get_one::<String>("channel").ok().flatten();
    gen_token::Request {
        file: config_file(matches),
        user: given(matches, "user").to_owned(),
        channel: channel.cloned().unwrap_or_default(),
        ttl_seconds: matches.get_one::<i64>("ttl").copied().unwrap_or_default(),
        quiet: matches.get_flag("quiet"),
    }
}

/// Loads a configuration for a command, as the server would without flags.
fn load(file: &Path) -> Result<Loaded, Failure> {
    let mut environment = Environment::of_process();
    environment.add_dotenv(Path::new(".env")).map_err(|error| format!("error: {error}"))?;
    let sources = Sources { file: Some(file), environment: &environment, flags: &[] };
    config::load(sources).map_err(|error| format!("error getting config: {error}"))
}

/// Loads what other texts are made of: a file, if there is one, and the environment.
fn load_base(file: Option<&Path>) -> Result<Loaded, Failure> {
    let environment = Environment::of_process();
    let sources = Sources { file, environment: &environment, flags: &[] };
    let loaded = config::load(sources).map_err(|error| format!("error: {error}"))?;
    config::validate(&loaded.settings).map_err(|error| format!("error: {error}"))?;
    Ok(loaded)
}

/// Creates a file that is readable to its owner alone.
fn create(path: &Path, text: &str) -> Result<(), Failure> {
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = open.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| format!("error: {}: {error}", path.display()))
}
