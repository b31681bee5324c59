//! The console of the built binary: what commands print, leave behind and exit with, and what the server tells.

mod directory;
mod doctor;
mod server;
mod service;
mod units;
mod upgrade;

use directory::Directory;
use std::process::{Command, Output};

/// Runs the binary in a directory with an environment of its own.
fn ringcast(directory: &Directory, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringcast"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(directory.path())
        .output()
        .expect("the binary runs")
}

/// Runs a command in a directory that holds `files`, and compares standard output and exit code.
#[track_caller]
fn check(files: &[(&str, &str)], arguments: &[&str], want: &str, exit_code: i32) {
    let directory = Directory::with(files);
    let output = ringcast(&directory, arguments, &[]);
    assert_eq!(text(&output.stdout), want, "{arguments:?}");
    assert_eq!(output.status.code(), Some(exit_code), "{arguments:?}");
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the program writes UTF-8")
}

const KEY: (&str, &str) = ("config.json", r#"{"client": {"token": {"hmac_secret_key": "secret"}}}"#);

/// L08
#[test]
fn version_names_both_programs() {
    let version = env!("CARGO_PKG_VERSION");
    let want = format!("Ringcast v{version} (compatible with Centrifugo v6.9.1)\n");
    check(&[], &["version"], &want, 0);
}

/// L05
#[test]
fn a_good_file_is_checked_in_silence() {
    check(&[("config.json", "{}")], &["checkconfig"], "", 0);
    check(&[("a.yaml", "shards: 2")], &["checkconfig", "-c", "a.yaml"], "", 0);
    check(&[("a.toml", "shards = 2")], &["checkconfig", "--config=a.toml"], "", 0);
}

/// L05
#[test]
fn a_bad_file_is_named_with_its_fault() {
    check(&[], &["checkconfig"], "config file not found\n", 1);
    check(
        &[("config.json", r#"{"channel": {"namespaces": [{"name": "h"}]}}"#)],
        &["checkconfig"],
        "error validating config: namespace h: invalid namespace name – h (must match ^[-a-zA-Z0-9_.]{2,}$ regular expression)\n",
        1,
    );
    check(
        &[("config.json", r#"{"shards": "two"}"#)],
        &["checkconfig"],
        "error getting config: key shards is \"two\", expected a whole number\n",
        1,
    );
    check(
        &[("config.json", "[]")],
        &["checkconfig"],
        "error getting config: config file config.json does not hold an object\n",
        1,
    );
    let directory = Directory::with(&[("config.json", "{")]);
    let output = ringcast(&directory, &["checkconfig"], &[]);
    let start = "error getting config: error reading config file config.json: ";
    assert!(text(&output.stdout).starts_with(start), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
}

/// L05
#[test]
fn unknown_keys_fail_a_strict_check_alone() {
    let files = [("config.json", r#"{"foo": 1, "client": {"bar": 2}}"#)];
    check(&files, &["checkconfig"], "", 0);
    let unknown = "unknown keys in config: client.bar, foo\n";
    check(&files, &["checkconfig", "--strict"], unknown, 1);
    check(&files, &["checkconfig", "-s"], unknown, 1);
}

/// L02
#[test]
fn the_environment_counts_in_a_check() {
    let directory = Directory::with(&[("config.json", "{}"), (".env", "RINGCAST_SHARDS=-1")]);
    let broken = "error validating config: shards is -1, expected 0 to 1024\n";
    let output = ringcast(&directory, &["checkconfig"], &[]);
    assert_eq!(text(&output.stdout), broken);
    let output = ringcast(&directory, &["checkconfig"], &[("CENTRIFUGO_SHARDS", "1")]);
    assert_eq!(text(&output.stdout), broken, "our name wins over the old one");
    let output = ringcast(&directory, &["checkconfig"], &[("RINGCAST_SHARDS", "1")]);
    assert_eq!(text(&output.stdout), "", "the process wins over .env");
}

/// L01, L05
#[test]
fn generated_files_are_good_in_every_format() {
    for name in ["a.json", "a.toml", "a.yaml", "a.yml"] {
        let directory = Directory::with(&[]);
        let output = ringcast(&directory, &["genconfig", "-c", name], &[]);
        assert_eq!((text(&output.stdout), output.status.code()), ("", Some(0)), "{name}");
        let output = ringcast(&directory, &["checkconfig", "-s", "-c", name], &[]);
        assert_eq!((text(&output.stdout), output.status.code()), ("", Some(0)), "{name}");
        let output = ringcast(&directory, &["gentoken", "-q", "-c", name], &[]);
        assert_eq!(text(&output.stdout).matches('.').count(), 2, "{name}");
    }
}

#[test]
fn generating_overwrites_nothing() {
    let exists = "error: output config file already exists: config.json\n";
    check(&[("config.json", "{}")], &["genconfig"], exists, 1);
    let extension = "error: output config file must have one of supported extensions: json, toml, yaml, yml\n";
    check(&[], &["genconfig", "-c", "config.ini"], extension, 1);
}

/// L06
#[test]
fn tokens_are_announced_unless_quiet() {
    let directory = Directory::with(&[KEY]);
    let output = ringcast(&directory, &["gentoken", "-u", "42"], &[]);
    let (announcement, token) = text(&output.stdout).split_once('\n').expect("two lines");
    assert_eq!(announcement, "HMAC SHA-256 JWT for user \"42\" with expiration TTL 168h0m0s:");
    assert!(token.starts_with("eyJ") && token.ends_with('\n'), "{token}");

    let arguments = ["gensubtoken", "-s", "ch1", "-t", "-1"];
    let output = ringcast(&directory, &arguments, &[]);
    let announcement = "HMAC SHA-256 JWT for anonymous user and channel \"ch1\" without expiration:\n";
    assert!(text(&output.stdout).starts_with(announcement), "{output:?}");

    let output = ringcast(&directory, &["gentoken", "-q"], &[]);
    assert!(!text(&output.stdout).contains(['\n', ' ']), "{output:?}");
}

#[test]
fn tokens_need_a_key_and_a_channel() {
    let directory = Directory::with(&[]);
    let output = ringcast(&directory, &["gentoken"], &[]);
    let start = "error: gentoken only supports generating HMAC-signed tokens, but no HMAC secret key is set in the configuration (client.token.hmac_secret_key)";
    assert!(text(&output.stdout).starts_with(start), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
    check(&[KEY], &["gensubtoken"], "channel is required\n", 1);
}

/// L06
#[test]
fn tokens_are_checked_with_the_keys_of_the_configuration() {
    let directory = Directory::with(&[KEY]);
    let made = |arguments: &[&str]| text(&ringcast(&directory, arguments, &[]).stdout).to_owned();
    let connection = made(&["gentoken", "-q", "-u", "42", "-t", "-1"]);
    let anonymous = made(&["gentoken", "-q", "-t", "-1"]);
    let subscription = made(&["gensubtoken", "-q", "-u", "42", "-s", "ch1", "-t", "-1"]);
    let tampered = format!("{connection}A");
    let unknown = made(&["gensubtoken", "-q", "-u", "42", "-s", "no:ch1", "-t", "-1"]);
    for (arguments, start, exit_code) in [
        (vec!["checktoken", &connection], "valid token for user 42\npayload: {\"sub\":\"42\",", 0),
        (vec!["checktoken", &anonymous], "valid token for anonymous user\npayload: {", 0),
        (
            vec!["checksubtoken", &subscription],
            "valid subscription token for user \"42\" and channel \"ch1\"\npayload: {\"sub\":\"42\",",
            0,
        ),
        (vec!["checktoken", &tampered], "error: token with algorithm HS256 and claims {\"sub\":\"42\",", 1),
        (vec!["checktoken", &subscription], "error: token with algorithm HS256 and claims {", 1),
        (vec!["checksubtoken", &connection], "error: token with algorithm HS256 and claims {", 1),
        (vec!["checksubtoken", &unknown], "error: token with algorithm HS256 and claims {", 1),
        (vec!["checktoken", "a.b.c"], "error: token format is not valid\n", 1),
        (vec!["checktoken", "abc"], "error: token format is not valid\n", 1),
        (vec!["checktoken"], "error: provide token to check [ringcast checktoken <TOKEN>]\n", 1),
        (vec!["checksubtoken", "a", "b"], "error: provide token to check [ringcast checksubtoken <TOKEN>]\n", 1),
    ] {
        let output = ringcast(&directory, &arguments, &[]);
        assert!(text(&output.stdout).starts_with(start), "{arguments:?}: {output:?}");
        assert_eq!(output.status.code(), Some(exit_code), "{arguments:?}");
    }
    for (arguments, end) in [
        (["checktoken", &tampered], "has error: invalid token: signature is not valid\n"),
        (
            ["checktoken", &subscription],
            "has error: invalid token: connection JWT can not contain channel claim, only subscription JWT can\n",
        ),
        (["checksubtoken", &connection], "has error: invalid token: channel claim is required for subscription JWT\n"),
    ] {
        let output = ringcast(&directory, &arguments, &[]);
        assert!(text(&output.stdout).ends_with(end), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains(r#""algorithms":"HS256, HS384, HS512""#), "{output:?}");
    }
}

#[test]
fn a_wrong_command_line_exits_with_1() {
    for arguments in [&["nonsense"] as &[&str], &["--nonsense"], &["gentoken", "--ttl", "soon"]] {
        let output = ringcast(&Directory::with(&[]), arguments, &[]);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(ringcast(&Directory::with(&[]), &["--help"], &[]).status.code(), Some(0));
}

/// L01, L07
#[test]
fn full_files_hold_every_key_and_are_good() {
    let directory = Directory::with(&[("base.toml", "[client]\nchannel_limit = 7")]);
    for name in ["a.json", "a.toml", "a.yaml"] {
        let output = ringcast(&directory, &["defaultconfig", "-c", name, "-b", "base.toml"], &[]);
        assert_eq!((text(&output.stdout), output.status.code()), ("", Some(0)), "{name}");
        let output = ringcast(&directory, &["checkconfig", "-s", "-c", name], &[]);
        assert_eq!((text(&output.stdout), output.status.code()), ("", Some(0)), "{name}");
        let written = std::fs::read_to_string(directory.path().join(name)).expect("a file");
        let line = written.lines().find(|line| line.contains("channel_limit")).expect("the key");
        assert!(line.contains('7'), "{line}");
    }
    let output = ringcast(&directory, &["defaultconfig", "-d"], &[]);
    assert!(text(&output.stdout).starts_with("{\n  \"http_server\": {"), "{output:?}");
    let exists = "error: target file already exists\n";
    check(&[("config.json", "{}")], &["defaultconfig"], exists, 1);
}

/// L02, L07
#[test]
fn variables_are_listed_with_their_values() {
    let directory =
        Directory::with(&[("base.json", r#"{"channel": {"namespaces": [{"name": "a-b", "presence": true}]}}"#)]);
    let output = ringcast(&directory, &["defaultenv"], &[]);
    let lines: Vec<_> = text(&output.stdout).lines().collect();
    for line in
        ["CENTRIFUGO_CLIENT_PING_INTERVAL=25s", "CENTRIFUGO_HTTP_SERVER_PORT=8000", "CENTRIFUGO_LOG_LEVEL=\"info\""]
    {
        assert!(lines.contains(&line), "{line}");
    }
    assert!(lines.is_sorted());

    let output = ringcast(&directory, &["defaultenv", "-b", "base.json", "--base-non-zero-only"], &[]);
    let want = "CENTRIFUGO_CHANNEL_NAMESPACES=\"a-b\"\n\
                CENTRIFUGO_CHANNEL_NAMESPACES_A_B_NAME=\"a-b\"\n\
                CENTRIFUGO_CHANNEL_NAMESPACES_A_B_PRESENCE=true\n";
    assert_eq!(text(&output.stdout), want);
}

/// L08
#[test]
fn completion_is_a_script() {
    let output = ringcast(&Directory::with(&[]), &["completion", "bash"], &[]);
    assert!(text(&output.stdout).contains("checkconfig"), "{output:?}");
    assert_eq!(ringcast(&Directory::with(&[]), &["completion", "none"], &[]).status.code(), Some(1));
}
