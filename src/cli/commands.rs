//! The commands and their arguments.

use super::flags;
use clap::{Arg, ArgAction, Command};

/// The whole command line.
pub fn all() -> Command {
    Command::new("ringcast")
        .about("Ringcast - real-time messaging server, a drop-in replacement for Centrifugo")
        .args_override_self(true)
        .arg(config("path to config file"))
        .args(flags::arguments())
        .subcommand(Command::new("version").about("Ringcast version information"))
        .subcommand(check_config())
        .subcommand(gen_config())
        .subcommand(default_config())
        .subcommand(default_env())
        .subcommand(config_doc())
        .subcommand(gen_token())
        .subcommand(gen_sub_token())
        .subcommand(check_token("checktoken", "Check connection JWT"))
        .subcommand(check_token("checksubtoken", "Check subscription JWT"))
        .subcommand(serve())
        .subcommand(doctor())
        .subcommand(upgrade())
        .subcommand(completion())
}

fn check_config() -> Command {
    Command::new("checkconfig")
        .about("Check configuration file")
        .arg(config("path to config file to check"))
        .arg(switch("strict", "strict check - fail on unknown fields").short('s'))
}

fn gen_config() -> Command {
    Command::new("genconfig")
        .about("Generate minimal configuration file to start with")
        .arg(config("path to output config file"))
}

fn default_config() -> Command {
    Command::new("defaultconfig")
        .about("Generate full configuration file with defaults")
        .arg(config("path to default config file to generate"))
        .arg(base())
        .arg(switch("dry-run", "print the file instead of writing it").short('d'))
}

fn default_env() -> Command {
    Command::new("defaultenv")
        .about("Generate full environment var list with defaults")
        .arg(base())
        .arg(switch("base-non-zero-only", "only variables whose values are not zero in the base config file"))
}

fn config_doc() -> Command {
    let port = text("port", 'p', "port to run server on").default_value("6060").value_parser(clap::value_parser!(u16));
    let level = text("base-level", 'l', "base level to use").default_value("0").value_parser(clap::value_parser!(u8));
    Command::new("configdoc")
        .about("Show configuration documentation generated from source code")
        .arg(switch("markdown", "output markdown to stdout").short('m'))
        .arg(text("section", 's', "filter by top-level section name"))
        .arg(port)
        .arg(level)
}

fn gen_token() -> Command {
    token(Command::new("gentoken").about("Generate sample connection JWT for user")).arg(text(
        "user",
        'u',
        "user ID, by default anonymous",
    ))
}

fn gen_sub_token() -> Command {
    token(Command::new("gensubtoken").about("Generate sample subscription JWT for user"))
        .arg(text("user", 'u', "user ID"))
        .arg(text("channel", 's', "channel"))
}

fn check_token(name: &'static str, about: &'static str) -> Command {
    // Any number, so that the command itself says that it wants one.
    let token = Arg::new("token").value_name("TOKEN").action(ArgAction::Append).num_args(0..);
    Command::new(name).about(about).arg(config("path to config file")).arg(token)
}

fn serve() -> Command {
    let port = text("port", 'p', "port to serve on").default_value("3000").value_parser(clap::value_parser!(u16));
    Command::new("serve")
        .about("Run static file server (for development only)")
        .arg(text("dir", 'd', "path to directory").default_value("./"))
        .arg(port)
        .arg(text("address", 'a', "interface to serve on (default: all interfaces)"))
}

fn doctor() -> Command {
    const EXIT_CODES: &str = "Each finding has a level: ok; note, good to know; warn, costs speed or fails under load; fail, the \
                              server does not start. Nothing is changed.\n\nExit code: 2 if something fails, 1 if \
                              something warns and --strict is given, 0 otherwise.";
    let connections = Arg::new("connections")
        .long("connections")
        .value_name("N")
        .help("clients to be ready for (default: client.connection_limit, or 10000 where that is 0)")
        .value_parser(clap::value_parser!(u64).range(..=1 << 32));
    let root = text("root", 'r', "folder with the proc and sys of the machine, such as a copy of another one's");
    Command::new("doctor")
        .about("Look at this machine: what keeps the server from starting or from being fast, why, and what mends it")
        .after_help(EXIT_CODES)
        .arg(text("config", 'c', "path to config file (default: none, the default settings and the environment)"))
        .arg(connections)
        .arg(switch("json", "print the findings as JSON").short('j'))
        .arg(switch("strict", "warnings exit with 1, too").short('s'))
        .arg(root.default_value("/"))
}

fn upgrade() -> Command {
    const ABOUT: &str = "The server starts its program anew, from the file that is there now, and hands over its listening sockets, \
                         histories and presence; nobody who connects is refused. If the new process does not start, the old one \
                         goes on. SIGUSR2 does the same.\n\nExit code: 0 once the new process serves, 1 if the old one goes on.";
    let pid = Arg::new("pid")
        .long("pid")
        .value_name("PID")
        .help("process id of the server (default: what key pid_file of the configuration names)")
        .value_parser(clap::value_parser!(i32))
        .allow_negative_numbers(true);
    Command::new("upgrade")
        .about("Restart a running server without downtime")
        .after_help(ABOUT)
        .arg(config("path to config file, for its key pid_file"))
        .arg(pid)
}

fn completion() -> Command {
    let shell = Arg::new("shell").required(true).value_parser(clap::value_parser!(clap_complete::Shell));
    Command::new("completion").about("Generate the autocompletion script for the specified shell").arg(shell)
}

/// What both commands that make tokens take.
fn token(command: Command) -> Command {
    const WEEK: &str = "604800";
    let ttl = text("ttl", 't', "token TTL in seconds, use -1 for token without expiration")
        .default_value(WEEK)
        .value_parser(clap::value_parser!(i64))
        .allow_negative_numbers(true);
    let quiet = switch("quiet", "only output the token without anything else").short('q');
    command.args_override_self(true).arg(config("path to config file")).arg(ttl).arg(quiet)
}

fn config(help: &'static str) -> Arg {
    text("config", 'c', help).default_value("config.json")
}

fn base() -> Arg {
    text("base", 'b', "path to the base config file to use")
}

fn text(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg::new(name).long(name).short(short).help(help).default_value("")
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        all().debug_assert();
    }
}
