//! Runs the server: from a command line to the end of the process.

use crate::cli::{self, RunRequest, VERSION};
use crate::config::{self, Environment, Loaded, Notices, Settings, Sources, View, lower, proxies};
use crate::control::node::Identity;
use crate::control::{Ports, acme, engine, proxy};
use crate::jwks::Jwks;
use crate::log::{self, DroppedLines, Level, Logs};
use crate::memory;
use crate::systemd::{Handed, Service};
use crate::tls;
use crate::upgrade::{self, Event, Predecessor, Program, Upgrade};
use crate::web;
use crossbeam_channel::{Receiver, select};
use ring::rand::{SecureRandom as _, SystemRandom};
use ringcast_runtime::options::Endpoints;
use ringcast_runtime::{HandedSockets, Options, Pool};
use ringcast_state::options::NodeOptions;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;
use std::ffi::c_int;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, error, info, warn};

/// What shards may take to put a new configuration in force before the log says that one is slow.
const RELOAD_PATIENCE: Duration = Duration::from_secs(5);

/// What shards may take to name their sockets.
const SOCKETS_PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks whether all clients are gone.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// Why the server did not start or did not stop as it should: the message of the last line in the
/// log, and the cause.
struct Fatal {
    message: &'static str,
    cause: Option<String>,
}

/// What the process comes with, to be looked at before anything changes it.
struct Start {
    program: io::Result<Program>,
    handed: io::Result<Handed>,
    /// The process whose place this one takes.
    predecessor: io::Result<Option<Predecessor>>,
}

/// Runs until SIGTERM or SIGINT, or until another process has taken over. The exit code is 0 after a graceful stop and 1 otherwise.
pub fn run(request: &RunRequest) -> ExitCode {
    let mut start =
        Start { program: Program::of_process(), handed: Handed::take(), predecessor: Predecessor::of_process() };
    match load(request) {
        Ok(configuration) => run_with_logs(request, &configuration, &mut start),
        Err(fatal) => {
            // There is no `log.level` yet: the default one, where logs go by default.
            let logs = Logs::start(Level::Info, "");
            fatal.log();
            fatal.tell(&start);
            drop(logs);
            ExitCode::FAILURE
        }
    }
}

struct Configuration {
    loaded: Loaded,
    used_dotenv: bool,
}

fn load(request: &RunRequest) -> Result<Configuration, Fatal> {
    let mut environment = Environment::of_process();
    let used_dotenv =
        environment.add_dotenv(Path::new(".env")).map_err(|error| Fatal::new("error loading .env file", error))?;
    let sources = Sources { file: Some(&request.file), environment: &environment, flags: &request.flags };
    let loaded = config::load(sources).map_err(|error| Fatal::new("error getting config", error))?;
    Ok(Configuration { loaded, used_dotenv })
}

fn run_with_logs(request: &RunRequest, configuration: &Configuration, start: &mut Start) -> ExitCode {
    let options = configuration.loaded.settings.view().object("log");
    let (name, file) = (options.text("level"), options.text("file"));
    let level = Level::from_name(name);
    let logs = match Logs::start(level.unwrap_or(Level::Info), file) {
        Ok(logs) => logs,
        Err(error) => {
            let logs = Logs::start(Level::Info, "");
            Fatal::new("error opening log file", error).log();
            drop(logs);
            return ExitCode::FAILURE;
        }
    };
    if level.is_none() {
        warn!("unknown log level {name}, defaulting to INFO");
    }
    let outcome = serve(request, configuration, start, logs.dropped());
    let dropped = logs.dropped().count();
    if dropped > 0 {
        warn!(lines = dropped, "log lines were dropped because the output was too slow");
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            fatal.log();
            fatal.tell(start);
            ExitCode::FAILURE
        }
    }
}

fn serve(
    request: &RunRequest,
    configuration: &Configuration,
    start: &mut Start,
    dropped_lines: DroppedLines,
) -> Result<(), Fatal> {
    let settings = &configuration.loaded.settings;
    log_source(request, configuration);
    config::validate(settings).map_err(|error| Fatal::new("error validating config", error))?;

    let program = lower::program(settings);
    let mut runtime = lower::runtime(settings);
    let automatic = lower::acme(settings).map(acme::Store::new);
    let mut tls = tls::Listeners::new(automatic.clone());
    give_tls(&mut tls, settings, &mut runtime).map_err(|error| Fatal::new("error validating config", error))?;
    let names = upgrade::names(&runtime.listeners);
    let handed = start.take_sockets(&names)?;
    let backends = proxies::list(settings).map_err(|error| Fatal::new("error validating config", error))?;
    let node = node(settings)?;
    let engine = lower::engine(settings).map_err(|error| Fatal::new("error validating config", error))?;
    let has_broker = engine.nats.is_some() || engine.redis.is_some();
    let brokers = if program.delivery_check { engine.brokers() } else { Vec::new() };
    let mut state = lower::state(settings, node.clone());
    state.delivery_check = u16::try_from(brokers.len()).unwrap_or(u16::MAX);
    let identity =
        Identity { uid: state.node.uid.clone(), name: state.node.name.clone(), version: state.node.version.clone() };
    info!(
        version = VERSION,
        pid = std::process::id(),
        engine = settings.view().object("engine").text("type"),
        node = state.node.name,
        "starting Ringcast"
    );
    cli::log_verifiers(&state.token);
    state.subscription_token.iter().for_each(cli::log_verifiers);
    // Signals are caught from here on, so that none is lost while the shards start.
    let signals = catch_signals().map_err(|error| Fatal::new("error catching signals", error))?;
    let connected = engine::connect(&engine, &identity.uid).map_err(|(failed, error)| Fatal::new(failed, error))?;
    let mut pool =
        Pool::start_on(runtime.clone(), state, &handed).map_err(|error| Fatal::new("error starting shards", error))?;
    let challenges = automatic.map(|store| start_acme(&pool, store, start)).transpose();
    let challenges = challenges.map_err(|error| Fatal::new("error starting ACME", error))?.flatten();
    let engine = connected.join(&pool, identity).map_err(|(failed, error)| Fatal::new(failed, error))?;
    let jwks = Jwks::start(pool.key_line()).map_err(|error| Fatal::new("error starting JWKS", error))?;
    let mut proxy = proxy::Proxy::start(backends, pool.backend_line())
        .map_err(|error| Fatal::new("error starting proxies", error))?;
    let sources = web::Sources { brokers, dropped_lines, proxies: proxy.meters(), redis: engine.redis };
    start_pages(&mut pool, program.prometheus, sources).map_err(|error| Fatal::new("error starting metrics", error))?;
    memory::start(program.memory_budget, pool.relief_line())
        .map_err(|error| Fatal::new("error watching memory", error))?;
    start.take_over(&pool)?;
    let ports = Ports::start(settings, &pool, challenges, |name| start.take(name));
    let mut ports = ports.map_err(|(failed, cause)| Fatal::new(failed, cause))?;
    start.serve(&pool, names.clone())?;
    let mut pid_file = PidFile::write(&program.pid_file).map_err(|error| Fatal::new("error writing PID", error))?;
    log_started(&pool, &runtime);
    log_warnings(settings.view(), &configuration.loaded.notices);
    if program.demo {
        log_demo(&pool, &runtime, settings.view());
    }

    let mut service = Service::of_process();
    service.ready();
    match all_sockets(&pool, &names, &ports) {
        Ok(sockets) => service.store(sockets.iter().filter(|(name, _)| upgrade::is_tcp(name)), &start.unwanted()),
        Err(error) => warn!(%error, "cannot store the listening sockets with the service manager"),
    }
    let mut upgrade = Upgrade::new(start.take_program()?);
    let ending = wait_for_end(&signals, &pool, &mut service, (&mut upgrade, &names, &ports), || {
        reload(request, (&pool, &jwks, &mut proxy, &ports), &mut tls, &runtime, node.clone());
    });
    ports.close(matches!(ending, Ending::Replaced(_)));
    match ending {
        Ending::Stopped => {
            info!("shutting down ...");
            service.stopping();
            drain(&pool, &signals, program.shutdown_drain);
        }
        Ending::Replaced(pid) => {
            service.replaced(pid);
            info!(pid, "another process has taken over, this one ends");
            // The file is the other's now.
            pid_file.into_iter().for_each(std::mem::forget);
            pid_file = None;
            if has_broker {
                drain(&pool, &signals, program.shutdown_drain);
            }
        }
    }
    let stopped = pool.stop(program.shutdown_timeout);
    ports.stop();
    drop(engine.membership);
    drop(pid_file);
    match stopped {
        true => Ok(()),
        false => Err(Fatal { message: "shutdown timeout reached", cause: None }),
    }
}

impl Start {
    /// What others have bound, for each listener.
    fn take_sockets(&mut self, names: &[String]) -> Result<HandedSockets, Fatal> {
        let failed = "error taking the sockets of the service manager";
        let handed = self.handed.as_mut().map_err(|error| Fatal::new(failed, error))?;
        if let Err(error) = &self.predecessor {
            return Err(Fatal::new("error taking the sockets of the process before this one", error));
        }
        if let Ok(Some(predecessor)) = &mut self.predecessor {
            let of_listeners = names.iter().map(|name| predecessor.take_tcp(name)).collect();
            return Ok(HandedSockets { of_listeners, accept_when_told: true });
        }
        if handed.len() > 0 {
            info!(sockets = handed.len(), "the service manager hands over sockets");
        }
        let of_listeners = handed.for_listeners(names).map_err(|error| Fatal::new(failed, error))?;
        Ok(HandedSockets { of_listeners, accept_when_told: false })
    }

    /// A socket of the process before this one.
    fn take(&mut self, name: &str) -> Option<OwnedFd> {
        if let Ok(Some(predecessor)) = &mut self.predecessor {
            return predecessor.take(name).into_iter().next();
        }
        let stored = self.handed.as_mut().ok()?.take_stored(name);
        stored.into_iter().next().map(OwnedFd::from)
    }

    /// Ports whose stored sockets are of no use any more.
    fn unwanted(&self) -> Vec<String> {
        self.handed.as_ref().map_or_else(|_| Vec::new(), Handed::unwanted)
    }

    /// Waits until the process before this one, if there is one, lets us serve.
    fn take_over(&mut self, pool: &Pool) -> Result<(), Fatal> {
        let Ok(Some(predecessor)) = &mut self.predecessor else { return Ok(()) };
        predecessor.take_over(&pool.handover_line()).map_err(|error| Fatal::new("error taking over", error))
    }

    /// Begins to serve in its place.
    fn serve(&mut self, pool: &Pool, names: Vec<String>) -> Result<(), Fatal> {
        let failed = "error taking over";
        let Ok(Some(_)) = &self.predecessor else { return Ok(()) };
        let line = pool.handover_line();
        line.accept().map_err(|error| Fatal::new(failed, error))?;
        match std::mem::replace(&mut self.predecessor, Ok(None)) {
            Ok(Some(predecessor)) => predecessor.serving(line, names).map_err(|error| Fatal::new(failed, error)),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    fn take_program(&mut self) -> Result<Program, Fatal> {
        let taken = std::mem::replace(&mut self.program, Err(io::ErrorKind::NotFound.into()));
        taken.map_err(|error| Fatal::new("error finding the program", error))
    }
}

/// Has certificates obtained and renewed. Gives the socket of http-01 with its name.
fn start_acme(pool: &Pool, store: Arc<acme::Store>, start: &mut Start) -> io::Result<Option<(String, OwnedFd)>> {
    let listener = acme::Listener::bind(&store, |name| start.take(name))?;
    let spare = listener.spare()?;
    acme::start(store, listener, pool.certificate_line())?;
    Ok(spare)
}

/// Gives the listeners their certificates.
fn give_tls(tls: &mut tls::Listeners, settings: &Settings, runtime: &mut Options) -> Result<(), String> {
    let made = tls.make(settings, &runtime.listeners)?;
    for (listener, tls) in runtime.listeners.iter_mut().zip(made) {
        listener.tls = tls;
    }
    Ok(())
}

/// Has the pages made that are configured.
fn start_pages(pool: &mut Pool, options: web::PrometheusOptions, sources: web::Sources) -> io::Result<()> {
    match pool.take_page_line().filter(|_| options.enabled || !sources.brokers.is_empty()) {
        Some(pages) => web::start(pages, pool.metrics_line(), options, sources),
        None => Ok(()),
    }
}

/// Hands the signals that the server answers to the returned channel.
fn catch_signals() -> io::Result<Receiver<c_int>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR2])?;
    // One of each kind waits at most; more of it say nothing new.
    let (sender, receiver) = crossbeam_channel::bounded(4);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let _ = sender.try_send(signal);
        }
    })?;
    Ok(receiver)
}

/// Why the server ends.
enum Ending {
    /// It was told to.
    Stopped,
    /// The process of this id serves in its place.
    Replaced(u32),
}

/// Returns when the process is asked to end, or has been replaced. Reloads and starts its successor when asked to, and meanwhile
/// tells the service manager how the server does, and with `log.level` debug how many connections each shard has, when that
/// has changed.
fn wait_for_end(
    signals: &Receiver<c_int>,
    pool: &Pool,
    service: &mut Service,
    (upgrade, names, ports): (&mut Upgrade, &[String], &Ports),
    mut reload: impl FnMut(),
) -> Ending {
    let events = upgrade.events().clone();
    let mut logged = Vec::new();
    let mut pulse = pool.pulse();
    let mut tick_at = Instant::now();
    loop {
        select! {
            recv(signals) -> signal => match signal {
                Ok(SIGHUP) => {
                    info!("signal received: hangup");
                    service.reloading();
                    reload();
                    service.ready();
                }
                Ok(SIGUSR2) => {
                    info!("signal received: user defined signal 2");
                    begin_upgrade(upgrade, pool, names, ports);
                }
                Ok(signal) => {
                    let name = if signal == SIGINT { "interrupt" } else { "terminated" };
                    info!("signal received: {name}");
                    return Ending::Stopped;
                }
                Err(_) => return Ending::Stopped,
            },
            recv(events) -> event => {
                let outcome = match event {
                    Ok(Event::Ready(successor)) => successor.take_over(pool, names),
                    Ok(Event::Failed(reason)) => Err(reason),
                    Err(_) => continue,
                };
                upgrade.end();
                upgrade::tell(&outcome);
                match outcome {
                    Ok(pid) => return Ending::Replaced(pid),
                    Err(reason) => error!(error = reason, "upgrade failed, this process goes on"),
                }
            }
            recv(crossbeam_channel::at(tick_at)) -> _ => {
                let (connections, now) = (pool.connections(), Instant::now());
                tick_at = now + service.tick_period();
                service.tick(&mut pulse, &connections, now);
                if connections != logged {
                    debug!(connections = ?connections, handed_over = pool.handed_over(), "connections per shard");
                    logged = connections;
                }
            }
        }
    }
}

/// Copies of the listening sockets, by their names.
fn all_sockets(pool: &Pool, names: &[String], ports: &Ports) -> io::Result<Vec<(String, OwnedFd)>> {
    let of_shards = pool.handover_line().sockets(SOCKETS_PATIENCE)?.into_iter();
    let named = of_shards.map(|(listener, socket)| (names[listener].clone(), socket));
    Ok(upgrade::distinct(named.collect()).into_iter().chain(ports.sockets()?).collect())
}

/// Starts the process that is to take over.
fn begin_upgrade(upgrade: &mut Upgrade, pool: &Pool, names: &[String], ports: &Ports) {
    if std::process::id() == 1 {
        let reason =
            "it is the first process of its container, which would end with it: run it under an init, such as tini";
        error!(error = reason, "upgrade failed, this process goes on");
        return upgrade::tell(&Err(reason.to_owned()));
    }
    match all_sockets(pool, names, ports).and_then(|sockets| upgrade.begin(sockets)) {
        Ok(true) => {}
        Ok(false) => warn!("an upgrade is under way already"),
        Err(error) => {
            error!(%error, "upgrade failed, this process goes on");
            upgrade::tell(&Err(error.to_string()));
        }
    }
}

/// Sends the clients away over this time, so that they do not all reach the other nodes at once. Ends sooner when they are gone, or
/// with a second signal.
fn drain(pool: &Pool, signals: &Receiver<c_int>, time: Duration) {
    if time.is_zero() {
        return;
    }
    let until = Instant::now() + time;
    let clients: usize = pool.connections().iter().sum();
    info!(clients, seconds = time.as_secs_f64(), "clients are told to reconnect, one after the other");
    pool.drain(until);
    while Instant::now() < until && pool.connections().iter().any(|clients| *clients > 0) {
        match signals.recv_deadline(until.min(Instant::now() + DRAIN_LOOK)) {
            Ok(SIGHUP) | Err(_) => {}
            Ok(_) => {
                info!("second signal: the rest goes at once");
                return;
            }
        }
    }
}

/// Reads the configuration again and gives the shards what may change while they run: options of
/// clients, tokens, channels and certificates. A bad configuration changes nothing.
fn reload(
    request: &RunRequest,
    (pool, jwks, proxy, ports): (&Pool, &Jwks, &mut proxy::Proxy, &Ports),
    tls: &mut tls::Listeners,
    runtime: &Options,
    node: NodeOptions,
) {
    info!("reloading configuration");
    let loaded = match load(request) {
        Ok(configuration) => configuration.loaded,
        Err(fatal) => {
            error!(error = fatal.cause.unwrap_or_default(), "error reading config");
            return;
        }
    };
    if let Err(error) = config::validate(&loaded.settings) {
        error!("error validating config: {error}");
        return;
    }
    let certificates = match tls.make(&loaded.settings, &runtime.listeners) {
        Ok(certificates) => certificates,
        Err(error) => {
            error!("error validating config: {error}");
            return;
        }
    };
    let backends = match proxies::list(&loaded.settings) {
        Ok(backends) => backends,
        Err(error) => {
            error!("error validating config: {error}");
            return;
        }
    };
    let had_tls = runtime.listeners.iter().map(|listener| listener.tls.is_some());
    if !had_tls.eq(certificates.iter().map(Option::is_some)) {
        warn!("http_server: a port gets or loses TLS only at a restart");
    }
    if runtime.forwarded_headers != lower::runtime(&loaded.settings).forwarded_headers {
        warn!("proxies: other http_headers or grpc_metadata reach the backends only after a restart");
    }
    log_token_warnings(loaded.settings.view());
    log_notices(&loaded.notices);
    jwks.forget();
    let mut state = lower::state(&loaded.settings, node);
    match proxy.set_options(backends) {
        Ok(list) => state.proxy.list = list,
        Err(error) => error!("error starting proxies: {error}"),
    }
    pool.set_tls(certificates);
    ports.reload(&loaded.settings);
    // Who reads the line below may rely on it.
    if !pool.set_options(state, RELOAD_PATIENCE) {
        warn!("a shard is slow to take the new configuration: it does so when its work lets it");
    }
    info!("configuration successfully reloaded");
}

/// What only this process knows of the node.
fn node(settings: &Settings) -> Result<NodeOptions, Fatal> {
    let uid = uuid().map_err(|error| Fatal::new("error making the node id", error))?;
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let port = settings.view().object("http_server").int("port");
    Ok(NodeOptions { uid, name: format!("{host}_{port}"), version: VERSION.to_owned() })
}

/// A random UUID, version 4 of RFC 9562.
fn uuid() -> Result<String, &'static str> {
    const VERSION: u128 = 0xf << 76;
    const VARIANT: u128 = 0x3 << 62;
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system has no random numbers")?;
    let bits = u128::from_be_bytes(bytes) & !VERSION & !VARIANT | 0x4 << 76 | 0x2 << 62;
    let digits = format!("{bits:032x}");
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(parts.join("-"))
}

fn log_source(request: &RunRequest, configuration: &Configuration) {
    if !configuration.loaded.file_found {
        warn!("config file not found, continue using environment and flag options");
        return;
    }
    let path = std::path::absolute(&request.file).unwrap_or_else(|_| request.file.clone());
    info!(path = %path.display(), "using config file");
    if configuration.used_dotenv {
        info!("environment variables have been loaded from .env file");
    }
}

fn log_started(pool: &Pool, options: &Options) {
    for (listener, address) in options.listeners.iter().zip(pool.addresses()) {
        let endpoints = listener.endpoints;
        let names = [
            (endpoints.websocket, "websocket"),
            (endpoints.http_stream, "http_stream"),
            (endpoints.sse, "sse"),
            (endpoints.emulation, "emulation"),
            (endpoints.uni_websocket, "uni_websocket"),
            (endpoints.uni_http_stream, "uni_http_stream"),
            (endpoints.uni_sse, "uni_sse"),
            (endpoints.sockjs, "sockjs"),
            (endpoints.init, "init"),
            (endpoints.http_api, "api"),
            (endpoints.prometheus, "prometheus"),
            (endpoints.health, "health"),
            (endpoints.ready, "ready"),
            (endpoints.swagger, "swagger"),
            (endpoints.assets, "demo"),
        ];
        let served: Vec<_> = names.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        let secured = if listener.tls.is_some() { " with TLS" } else { "" };
        let with = if listener.h2c { " and HTTP/2 cleartext" } else { "" };
        info!("serving {} endpoints on {address}{secured}{with}", served.join(", "));
    }
    info!(shards = pool.connections().len(), "ready");
}

fn log_warnings(root: View<'_>, notices: &Notices) {
    let client = root.object("client");
    for (on, mode) in [
        (client.bool("insecure"), "client mode"),
        (root.object("http_api").bool("insecure"), "HTTP API mode"),
        (client.bool("insecure_skip_token_signature_verify"), "skip token signature verify"),
    ] {
        if on {
            warn!("INSECURE {mode} enabled, make sure you understand risks");
        }
    }
    log_token_warnings(root);
    lower::without_history(root).iter().for_each(|unkept| warn!("{unkept}"));
    log_notices(notices);
}

fn log_token_warnings(root: View<'_>) {
    let client = root.object("client");
    for section in ["token", "subscription_token"] {
        let token = client.object(section);
        if token.bool("insecure_skip_jwks_endpoint_safety_check") && config::has_unsafe_endpoint(token) {
            warn!(
                "INSECURE client.{section}: JWKS endpoint safety check skipped, a token may choose where its keys are fetched"
            );
        }
    }
}

fn log_notices(notices: &Notices) {
    for key in &notices.unknown_keys {
        match &key.nearest {
            Some(nearest) => warn!(key = key.path, nearest, "unknown key in configuration file"),
            None => warn!(key = key.path, "unknown key in configuration file"),
        }
    }
    for name in &notices.unknown_variables {
        warn!(var = name, "unknown var in environment");
    }
    for key in &notices.unsupported {
        warn!(key, "{key} is not supported yet, it has no effect");
    }
}

/// Tells how to try the demo page.
fn log_demo(pool: &Pool, options: &Options, root: View<'_>) {
    /// The key of the development configuration. The repository shows it, so it is no secret.
    const DEVELOPMENT_KEY: &str = "development";
    let base_of = |serves: fn(&Endpoints) -> bool| {
        let (listener, address) =
            options.listeners.iter().zip(pool.addresses()).find(|(listener, _)| serves(&listener.endpoints))?;
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        Some(format!("{scheme}://localhost:{}", address.port()))
    };
    if let Some(base) = base_of(|endpoints| endpoints.assets) {
        info!("demo page: open {base}/ in two tabs");
    }
    if let Some(base) = base_of(|endpoints| endpoints.http_api) {
        let api = root.object("http_api");
        let key = if api.text("key") == DEVELOPMENT_KEY { DEVELOPMENT_KEY } else { "YOUR_KEY" };
        let prefix = api.text("handler_prefix");
        info!(
            "publish: curl -H 'X-API-Key: {key}' -d '{}' {base}{prefix}/publish",
            r#"{"channel": "chat:lobby", "data": {"name": "curl", "text": "hello"}}"#
        );
    }
}

/// The file of key `pid_file`, removed when the server ends.
struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the process id; nothing when the path is empty.
    fn write(path: &str) -> io::Result<Option<PidFile>> {
        if path.is_empty() {
            return Ok(None);
        }
        let path = PathBuf::from(path);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Some(PidFile { path }))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            warn!(%error, "error removing PID file");
        }
    }
}

impl Fatal {
    fn new(message: &'static str, cause: impl std::fmt::Display) -> Self {
        Fatal { message, cause: Some(cause.to_string()) }
    }

    /// Tells the process before this one, which goes on then.
    fn tell(&self, start: &Start) {
        if let Ok(Some(predecessor)) = &start.predecessor {
            predecessor.failed(&format!("{}: {}", self.message, self.cause.as_deref().unwrap_or_default()));
        }
    }

    fn log(&self) {
        match &self.cause {
            Some(cause) => error!(target: log::FATAL, error = cause, "{}", self.message),
            None => error!(target: log::FATAL, "{}", self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_are_random_uuids() {
        let (one, two) = (uuid().expect("random"), uuid().expect("random"));
        assert_ne!(one, two);
        assert_eq!(one.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&one.as_bytes()[19]));
    }
}
