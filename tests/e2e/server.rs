//! Starts the binary under test on a free loopback port with a configuration of its own, and ends it.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

use crate::http;
use crate::support;

/// Key of the server API in every configuration here.
pub const API_KEY: &str = "end-to-end";

/// Secret of the HS256 tokens in every configuration here.
pub const SECRET: &str = "end-to-end-secret";

/// What a start, an answer or an end may take on a busy machine before the test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running server; killed when dropped. When the test fails, its log is printed.
pub struct Server {
    child: Child,
    /// The process that has taken over.
    successor: Option<i32>,
    /// How often one did.
    replaced: usize,
    address: SocketAddr,
    inside: SocketAddr,
    api: SocketAddr,
    folder: PathBuf,
}

/// A server that ended by itself instead of starting.
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it wrote to both outputs.
    pub log: String,
}

impl Server {
    /// Starts with the configuration of `config()` and waits until it answers.
    pub fn start(shards: u16) -> Server {
        Server::start_with(shards, &config(free_port()))
    }

    /// Starts with any configuration and waits until it answers.
    ///
    /// 0 shards: as many as the configuration says, which may change.
    pub fn start_with(shards: u16, config: &Value) -> Server {
        Server::start_program(&support::binary(), shards, config)
    }

    /// The same with a program that stands elsewhere, and may be replaced.
    pub fn start_program(program: &Path, shards: u16, config: &Value) -> Server {
        let mut server = Server::spawn_program(program, shards, config);
        if let Err(ended) = server.wait_until_ready() {
            panic!("the server ended with {} instead of starting:\n{}", ended.status, ended.log);
        }
        if config["broker"]["enabled"] == true || config["engine"]["type"] == "redis" {
            // Until then it is alive, but what is asked of the broker fails.
            server.wait_for_log(PATIENCE, |log| log.contains(r#""message":"ready""#).then_some(()));
        }
        server
    }

    /// Starts a server that is expected to end by itself.
    pub fn ends_with(shards: u16, config: &Value) -> Ended {
        Server::spawn(shards, config).wait()
    }

    /// Runs the binary on a configuration file that is not expected to start a server.
    pub fn ends_with_file(path: &Path) -> Ended {
        let output = command(&support::binary(), 1, path).output().expect("the binary can be started");
        let log = [output.stdout, output.stderr].concat();
        Ended { status: output.status, log: String::from_utf8_lossy(&log).into_owned() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves health and metrics: the internal port, if there is one.
    pub fn inside(&self) -> SocketAddr {
        self.inside
    }

    /// Where it serves the server API.
    pub fn api_address(&self) -> SocketAddr {
        self.api
    }

    /// Its threads: name, and the CPUs it may run on as the kernel writes them.
    pub fn threads(&self) -> Vec<(String, String)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let status = |task: &Path| fs::read_to_string(task.join("status")).ok();
        // One that ends meanwhile has none.
        let statuses = tasks.filter_map(|task| status(&task.ok()?.path()));
        statuses.map(|status| (line(&status, "Name:"), line(&status, "Cpus_allowed_list:"))).collect()
    }

    /// Id of its thread of that name.
    pub fn thread(&self, name: &str) -> i32 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs").map_while(Result::ok);
        let is_it = |task: &Path| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
        let mut tasks = tasks.map(|task| task.path()).filter(|task| is_it(task));
        let task = tasks.next().unwrap_or_else(|| panic!("no thread {name}"));
        task.file_name().and_then(|id| id.to_str()?.parse().ok()).expect("a thread has a number")
    }

    /// The most memory it has held so far.
    pub fn peak_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let kibibytes = line(&status, "VmHWM:");
        kibibytes.trim_end_matches(" kB").parse::<usize>().expect("the kernel writes numbers") << 10
    }

    /// Its configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    /// What it wrote so far, to both outputs.
    pub fn log(&self) -> String {
        read_log(&self.folder)
    }

    /// Waits until `find` finds something in the log.
    #[track_caller]
    pub fn wait_for_log<T>(&self, patience: Duration, find: impl Fn(&str) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            let log = self.log();
            if let Some(found) = find(&log) {
                return found;
            }
            assert!(started.elapsed() < patience, "the log does not say it:\n{log}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Calls a method of the server API with the right key; the answer's status must be 200.
    #[track_caller]
    pub fn api(&self, method: &str, body: &Value) -> Value {
        let headers = [("X-API-Key", API_KEY)];
        let reply = http::post(self.api, &format!("/api/{method}"), &headers, body.to_string().as_bytes());
        assert_eq!(reply.status, 200, "{method} {body}: {}", reply.text());
        reply.json()
    }

    /// Publishes over the server API; it must succeed.
    #[track_caller]
    pub fn publish(&self, channel: &str, data: Value) {
        let reply = self.api("publish", &json!({"channel": channel, "data": data}));
        assert!(reply.get("error").is_none(), "publish to {channel}: {reply}");
    }

    /// Sends a signal as a service manager does, without waiting for what it does.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process is not reaped yet");
    }

    /// The process that serves: the one that was started, or the last one that took over.
    pub fn pid(&self) -> Pid {
        let pid = self.successor.unwrap_or(self.child.id() as i32);
        Pid::from_raw(pid).expect("a process has an id")
    }

    /// Waits until another process serves in place of this one, which ends then.
    #[track_caller]
    pub fn is_replaced(&mut self) {
        let before = self.pid();
        let named = |log: &str| {
            let mut lines = log.lines().filter(|line| line.contains("the new process serves"));
            number(lines.nth(self.replaced)?, "\"pid\":")
        };
        let pid = self.wait_for_log(PATIENCE, named);
        self.replaced += 1;
        self.successor = Some(pid);
        let started = Instant::now();
        // A child stays until it is waited for.
        while self.child.try_wait().is_ok_and(|ended| ended.is_none())
            && before.as_raw_nonzero().get() == self.child.id() as i32
            || before.as_raw_nonzero().get() != self.child.id() as i32 && test_kill_process(before).is_ok()
        {
            assert!(started.elapsed() < PATIENCE, "the old process does not end:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Ended {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return Ended { status, log: self.log() };
            }
            assert!(started.elapsed() < PATIENCE, "the server did not end:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts with any configuration and waits for nothing.
    pub fn spawn(shards: u16, config: &Value) -> Server {
        Server::spawn_program(&support::binary(), shards, config)
    }

    fn spawn_program(program: &Path, shards: u16, config: &Value) -> Server {
        // A configuration with a broken port is not expected to listen anywhere.
        let port = config["http_server"]["port"].as_u64().unwrap_or(0) as u16;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let internal_port = config["http_server"]["internal_port"].as_str().and_then(|port| port.parse().ok());
        let inside = SocketAddr::from((Ipv4Addr::LOCALHOST, internal_port.unwrap_or(port)));
        let api = if config["http_api"]["external"] == true { address } else { inside };
        let folder = new_folder();
        let path = folder.join("config.json");
        fs::write(&path, config.to_string()).expect("the target folder can be written");
        let log = File::create(folder.join("log")).expect("the target folder can be written");
        let child = command(program, shards, &path)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Server { child, successor: None, replaced: 0, address, inside, api, folder }
    }

    /// Asks `/health` until it answers, or the process ends.
    fn wait_until_ready(&mut self) -> Result<(), Ended> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return Err(Ended { status, log: self.log() });
            }
            if http::try_get(self.inside, "/health").is_some_and(|reply| reply.status == 200) {
                return Ok(());
            }
            assert!(started.elapsed() < PATIENCE, "the server does not answer:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Server {
    /// Those that the log names, taken over or not, as far as they are still ours.
    fn kill_successors(&self) {
        let log = self.log();
        let config = self.config_path().into_os_string().into_encoded_bytes();
        for line in log.lines().filter(|line| line.contains("a new process starts")) {
            let Some(pid) = number(line, "\"pid\":") else { continue };
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let is_ours = arguments.split(|byte| *byte == 0).any(|argument| argument == config);
            if let Some(pid) = Pid::from_raw(pid).filter(|_| is_ours) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.kill_successors();
        if thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(4000);
            let tail = String::from_utf8_lossy(&log.as_bytes()[start..]).into_owned();
            write_stderr(&format!("--- log of the server on {}:\n{tail}---\n", self.address));
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The configuration of most tests: one namespace for each way to use a channel.
///
/// `chat`: everything allowed, history with recovery, presence, joins and leaves. `short`: the same with a history of
/// five. `delta` and `tags`: with fossil delta, with tag filters. `private`: only with a subscription token. `quiet`: nothing kept.
pub fn config(port: u16) -> Value {
    json!({
        "http_server": {"address": "127.0.0.1", "port": port},
        "log": {"level": "debug"},
        "health": {"enabled": true},
        "http_api": {"key": API_KEY},
        "client": {
            "token": {"hmac_secret_key": SECRET},
            "allow_anonymous_connect_without_token": true,
            "allowed_origins": ["http://127.0.0.1:*"],
        },
        "channel": {"namespaces": [
            namespace("chat", json!({"history_size": 100, "history_ttl": "300s", "force_recovery": true})),
            namespace("short", json!({"history_size": 5, "history_ttl": "300s", "force_recovery": true})),
            namespace("delta", json!({
                "history_size": 100, "history_ttl": "300s", "force_recovery": true,
                "allowed_delta_types": ["fossil"], "delta_publish": true,
            })),
            namespace("tags", json!({"allow_tags_filter": true})),
            {"name": "private", "history_size": 10, "history_ttl": "300s", "force_recovery": true},
            {"name": "quiet", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true},
        ]},
    })
}

/// A namespace in which every client may do everything, with more options.
fn namespace(name: &str, more: Value) -> Value {
    let mut namespace = json!({
        "name": name, "presence": true, "join_leave": true,
        "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true,
        "allow_publish_for_client": true, "allow_publish_for_anonymous": true,
        "allow_presence_for_client": true, "allow_presence_for_anonymous": true,
        "allow_history_for_client": true, "allow_history_for_anonymous": true,
    });
    let options = namespace.as_object_mut().expect("written as an object");
    options.extend(more.as_object().expect("options are an object").clone());
    namespace
}

/// A port that nobody listens on, below those that the kernel gives to clients; each call another one.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 90) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn command(program: &Path, shards: u16, config: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--config").arg(config);
    if shards > 0 {
        command.env("RINGCAST_SHARDS", shards.to_string());
    }
    command
}

/// The number that follows a text in a line.
fn number(line: &str, text: &str) -> Option<i32> {
    let rest = line.split(text).nth(1)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// What follows a name at the start of a line.
fn line(text: &str, name: &str) -> String {
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

/// An empty folder for one server.
pub fn new_folder() -> PathBuf {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("server-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

fn read_log(folder: &Path) -> String {
    let mut bytes = Vec::new();
    let _ = File::open(folder.join("log")).and_then(|mut file| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes a program that a shell runs.
pub fn write_script(path: &Path, text: &str) {
    fs::write(path, text).expect("the target folder can be written");
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("the file is ours");
}

/// Where the test runner looks for the output of a failed test.
#[expect(clippy::print_stderr, reason = "shown by the test runner beside the failure")]
pub fn write_stderr(text: &str) {
    eprint!("{text}");
}
