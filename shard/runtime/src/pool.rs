//! Starts the shards, one pinned thread each, and stops them.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use glommio::{LocalExecutorBuilder, Placement};
use ringcast_state::auth::{KeyAnswer, KeyQuestion};
use ringcast_state::broker::BrokerNews;
use ringcast_state::metrics::ApiProtocol;
use ringcast_state::{Compass, Message, RequestId, Seeds, ShardId};

use crate::backend::{self, Answers, BackendLine, Beginnings, Ends, News};
use crate::balance::{Balance, Loads};
use crate::broker::{BrokerDesk, BrokerLine};
use crate::call::{self, CallLine};
use crate::carry::{Carry, CarryLine};
use crate::clock::Clock;
use crate::guesses::Guesses;
use crate::handover::{Handover, HandoverLine};
use crate::listen::{self, ShardSocket};
use crate::metrics::{MetricsLine, SnapshotSender};
use crate::options::Options;
use crate::placement::{self, Machine, Placement as Places};
use crate::pulse::{Beat, Pulse};
use crate::relief::ReliefLine;
use crate::ring::{Doorbell, Endpoint, Mesh};
use crate::signatures::{self, SlowCheck};
use crate::sockjs::Parcel;
use crate::start::{StartError, check_machine};
use crate::tls::TlsOptions;
use crate::transport::page::{self, Delivery, PageLine, PageQuestion};
use crate::tries::Tries;
use crate::turn::ShardLoop;
use crate::uring::{self, WakeHandle};

/// Locked memory of an executor; glommio's default of 10 MiB serves disk I/O, which we have none of.
const EXECUTOR_IO_MEMORY: usize = 64 << 10;

/// Key questions of all shards that wait for the control plane; more wait in the shards.
const QUESTIONS_MAX: usize = 1024;

/// Depth of the executor's own rings: they carry one read of an eventfd and a timer.
const EXECUTOR_RING_DEPTH: usize = 32;

/// What the rest of the program tells a shard.
pub(crate) enum Control {
    /// New options, in force from the next command on. The sender is dropped when they are.
    SetOptions(Arc<ringcast_state::Options>, Sender<Infallible>),
    /// TLS of new handshakes, in the order of the listeners.
    SetTls(Arc<[Option<TlsOptions>]>),
    /// Handshakes that wait for a certificate may try again.
    CertificatesChanged,
    /// What came of a slow signature check.
    Signature { request: RequestId, is_right: bool },
    /// What came of a key question.
    Key(KeyAnswer),
    /// What came of questions to backends.
    Backend(Answers),
    /// What backends said on streams.
    Streams(News),
    /// The question whether the shard still turns.
    Beat(Beat),
    /// Memory is short.
    Shed { histories: bool },
    /// Copy the counters.
    Snapshot(SnapshotSender),
    /// What came of a request for a page.
    Page(Box<Delivery>),
    /// What the broker says, in this order.
    Broker(Vec<BrokerNews>),
    /// Calls of the server API that the control plane makes.
    Calls(call::Handover),
    /// About a connection that the control plane carries.
    Carry(u64, Carry),
    /// About a session of SockJS.
    SockJs(Parcel),
    /// About handing over to another process, or taking over from one.
    Handover(Handover),
    /// Accept nobody any more, and say goodbye to one client after the other until then.
    Drain(Instant),
    /// Say goodbye to everyone and end; abort what is left at the given moment.
    Stop(Instant),
}

/// Counters that the shards share; touched when a connection comes or goes, never per message.
#[derive(Default)]
pub(crate) struct Counters {
    /// Client connections of the node.
    pub clients: AtomicUsize,
    /// The same per shard.
    pub clients_of_shard: Vec<AtomicUsize>,
    /// Client connections refused by `client.connection_limit`, or for want of memory.
    pub refused: AtomicU64,
    /// Memory is so short that no further client is let in.
    pub is_full: AtomicBool,
    /// What is left of `client.connection_rate_limit`.
    pub tries: Tries,
    /// Wrong keys of the server API over HTTP.
    pub guesses: Guesses,
}

/// Everything a shard thread needs to begin.
pub(crate) struct Setup {
    pub id: ShardId,
    pub shards: u16,
    pub options: Arc<Options>,
    pub state: Arc<ringcast_state::Options>,
    pub seeds: Seeds,
    pub clock: Clock,
    pub wake: WakeHandle,
    pub endpoint: Endpoint<Message>,
    pub balance: Balance,
    pub control: Receiver<Control>,
    /// To the other shards, and to itself.
    pub line: Line,
    pub slow_checks: Sender<SlowCheck>,
    pub questions: Sender<(ShardId, Arc<KeyQuestion>)>,
    pub pages: Sender<PageQuestion>,
    pub broker: BrokerDesk,
    pub backends: Beginnings,
    pub counters: Arc<Counters>,
    /// One of each of `Options::listeners`, or more.
    pub sockets: Vec<ShardSocket>,
    /// See [`HandedSockets`].
    pub accept_when_told: bool,
}

/// Listening sockets that others have bound.
#[derive(Default)]
pub struct HandedSockets {
    /// For each of `Options::listeners` in their order. None, or nothing at all, for what is to be bound here.
    pub of_listeners: Vec<Vec<TcpListener>>,
    /// No socket listens and nobody is accepted before [`HandoverLine::accept`].
    pub accept_when_told: bool,
}

/// The running shards. Stop them with [`Pool::stop`]; dropping the pool does so, too, in haste.
pub struct Pool {
    /// Taken out when they are waited for.
    threads: Vec<Option<JoinHandle<()>>>,
    addresses: Vec<SocketAddr>,
    counters: Arc<Counters>,
    loads: Arc<Loads>,
    questions: Receiver<(ShardId, Arc<KeyQuestion>)>,
    /// Until it is given away.
    pages: Option<Receiver<PageQuestion>>,
    backends: Ends,
    line: Line,
    compass: Compass,
    broker: BrokerDesk,
}

/// Talks to the shards from any thread.
#[derive(Clone)]
pub(crate) struct Line {
    shards: Arc<[(Sender<Control>, Doorbell)]>,
}

/// Where the shards are told that there are new certificates.
#[derive(Clone)]
pub struct CertificateLine {
    line: Line,
}

impl CertificateLine {
    /// Handshakes that wait for a certificate try again. See [`crate::tls::OnDemand`].
    pub fn changed(&self) {
        self.line.tell_all(|| Control::CertificatesChanged);
    }
}

/// Where the shards ask for published keys.
pub struct KeyLine {
    questions: Receiver<(ShardId, Arc<KeyQuestion>)>,
    line: Line,
}

impl Pool {
    /// Checks the machine, binds, and starts the shards. On return all of them accept connections.
    pub fn start(options: Options, state: ringcast_state::Options) -> Result<Self, StartError> {
        Self::start_on(options, state, &HandedSockets::default())
    }

    /// As `start`, on sockets that others have bound.
    pub fn start_on(
        mut options: Options,
        state: ringcast_state::Options,
        handed: &HandedSockets,
    ) -> Result<Self, StartError> {
        check_machine()?;
        uring::probe().map_err(|source| StartError::of_ring(0, source))?;
        let places = place(&options)?;
        let shards = places.shards.len();
        let bound = bind_all(&options, &handed.of_listeners, &places)?;
        for (listener, address) in options.listeners.iter_mut().zip(&bound.addresses) {
            listener.http3 = listener.http3.map(|port| if port == 0 { address.port() } else { port });
        }
        let setups = Setups::new(options, state, shards)?;
        let counters = setups.counters.clone();
        let compass = setups.compass();
        let (slow_checks, checks) = signatures::channel(shards);
        let (question, questions) = bounded(QUESTIONS_MAX);
        let (page, pages) = page::channel();
        let broker = BrokerDesk::default();
        let (backend, backends) = backend::channel();
        let ways = Ways { slow_checks, questions: question, pages: page, broker: broker.clone(), backends: backend };
        let (setups, line, loads) = setups.finish(bound.sockets, handed.accept_when_told, &ways);
        signatures::start_helpers(&checks, &line).map_err(|source| StartError::Shard { shard: 0, source })?;
        let mut pool = Self {
            threads: Vec::new(),
            addresses: bound.addresses,
            counters,
            loads,
            questions,
            pages: Some(pages),
            backends,
            line,
            compass,
            broker,
        };
        let (report, reports) = bounded(shards);
        for (setup, cpu) in setups.into_iter().zip(places.shards) {
            let thread = spawn(setup, cpu, report.clone())?;
            pool.threads.push(Some(thread));
        }
        for _ in 0..shards {
            reports.recv().expect("a shard reports, or its panic has ended the process")?;
        }
        Ok(pool)
    }

    /// Where the listeners are, in the order of `Options::listeners`.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Client connections of each shard.
    pub fn connections(&self) -> Vec<usize> {
        self.counters.clients_of_shard.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Open connections of every kind that each shard has, or is being handed, from one of `Options::listeners`.
    #[cfg(test)]
    pub(crate) fn loads(&self, listener: usize) -> Vec<usize> {
        self.loads.of(listener)
    }

    /// Connections, of all shards since the start, that the shard which accepted them handed to another one.
    pub fn handed_over(&self) -> u64 {
        self.loads.handed_over.load(Ordering::Relaxed)
    }

    /// New options of the state machines, as after a reload. Waits until they are in force on every shard, at most `patience`;
    /// false if one has not taken them by then, which it still does when it turns again.
    pub fn set_options(&self, options: ringcast_state::Options, patience: Duration) -> bool {
        let options = Arc::new(options);
        let (taken, all_taken) = bounded(0);
        self.line.tell_all(|| Control::SetOptions(options.clone(), taken.clone()));
        drop(taken);
        all_taken.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }

    /// TLS of handshakes that begin from now on, in the order of `Options::listeners`, as after a reload. A listener with TLS
    /// must keep it, and one without gets none.
    pub fn set_tls(&self, listeners: Vec<Option<TlsOptions>>) {
        let listeners: Arc<[_]> = listeners.into();
        self.line.tell_all(|| Control::SetTls(listeners.clone()));
    }

    /// Tells the shards about new certificates.
    pub fn certificate_line(&self) -> CertificateLine {
        CertificateLine { line: self.line.clone() }
    }

    /// Asks the shards whether they still turn.
    pub fn pulse(&self) -> Pulse {
        Pulse::new(self.line.clone())
    }

    /// Where the shards ask for the keys of tokens that endpoints publish. Someone has to answer, or such tokens are refused.
    pub fn key_line(&self) -> KeyLine {
        KeyLine { questions: self.questions.clone(), line: self.line.clone() }
    }

    /// Where the shards ask the backends that the options name. Someone has to answer, or each question fails when its time is over.
    pub fn backend_line(&self) -> BackendLine {
        BackendLine::new(self.backends.clone(), self.line.clone())
    }

    /// Where the shards ask for pages; once only. Without it they answer such requests with 503.
    pub fn take_page_line(&mut self) -> Option<PageLine> {
        Some(PageLine::new(self.pages.take()?, self.line.clone()))
    }

    /// Where the driver of the broker meets the shards; of use with `Options::has_broker` of the state machines.
    pub fn broker_line(&self) -> BrokerLine {
        BrokerLine::new(self.line.clone(), self.compass.clone(), self.broker.clone())
    }

    /// Where the control plane makes calls of the server API.
    pub fn call_line(&self, protocol: ApiProtocol) -> CallLine {
        CallLine::new(self.line.clone(), self.compass.clone(), protocol)
    }

    /// Where connections come from that the control plane carries.
    pub fn carry_line(&self) -> CarryLine {
        CarryLine::new(self.line.clone(), self.counters.clone())
    }

    /// Where the counters of the shards are asked for.
    pub fn metrics_line(&self) -> MetricsLine {
        MetricsLine::new(self.line.clone(), self.counters.clone())
    }

    /// Where the sockets, and what the shards know, are handed to another process or come from one.
    pub fn handover_line(&self) -> HandoverLine {
        HandoverLine::new(self.line.clone())
    }

    /// Gives up what takes memory, as far as it is short; who says so goes on until it is not.
    pub fn relief_line(&self) -> ReliefLine {
        ReliefLine { line: self.line.clone(), counters: self.counters.clone() }
    }

    /// Stops accepting, and closes the clients with 3001 one after the other, the last of them at `until`. What is asked over
    /// connections that stay is served.
    pub fn drain(&self, until: Instant) {
        self.line.tell_all(|| Control::Drain(until));
    }

    /// Stops accepting, closes every client with 3001 and ends the shards. Waits at most `timeout`, key
    /// `shutdown.timeout`. False if a shard has not ended by then.
    ///
    /// Patience with clients that do not answer the close is one second, or `timeout` if that is less.
    pub fn stop(mut self, timeout: Duration) -> bool {
        self.end(timeout)
    }

    fn end(&mut self, timeout: Duration) -> bool {
        let now = Instant::now();
        let patience = timeout.min(crate::turn::STOP_PATIENCE);
        self.line.tell_all(|| Control::Stop(now + patience));
        let give_up_at = now + timeout.max(patience) + crate::turn::STOP_PATIENCE;
        let mut ended = true;
        for thread in self.threads.iter_mut().filter_map(Option::take) {
            while !thread.is_finished() && Instant::now() < give_up_at {
                thread::sleep(Duration::from_millis(1));
            }
            ended &= thread.is_finished() && thread.join().is_ok();
        }
        ended
    }
}

impl Line {
    pub fn new(shards: impl Iterator<Item = (Sender<Control>, Doorbell)>) -> Self {
        Self { shards: shards.collect() }
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    pub fn tell(&self, shard: ShardId, message: Control) {
        let (control, bell) = &self.shards[shard.index()];
        // A shard that has ended needs no telling.
        let _ = control.send(message);
        bell.ring();
    }

    pub fn tell_all(&self, message: impl Fn() -> Control) {
        for shard in 0..self.shards.len() {
            self.tell(ShardId(shard as u16), message());
        }
    }
}

impl KeyLine {
    /// The questions, and who asks; the end comes when the shards have ended. Bound: 1024.
    pub fn questions(&self) -> &Receiver<(ShardId, Arc<KeyQuestion>)> {
        &self.questions
    }

    /// Answers a question of a shard. Every question wants one answer, of whatever kind.
    pub fn answer(&self, shard: ShardId, answer: KeyAnswer) {
        self.line.tell(shard, Control::Key(answer));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// Where the shards go. Every other thread moves to the CPUs that are left to the control plane, if some are.
fn place(options: &Options) -> Result<Places, StartError> {
    let machine = Machine::read();
    let places = placement::place(&options.shard_placement, options.shards, &machine).map_err(StartError::Placement)?;
    tracing::info!("{places}");
    if places.control.len() < machine.cpus.len() {
        placement::keep_control_plane_on(&places.control)
            .map_err(|source| StartError::Affinity { cpus: places.control.clone(), source })?;
    }
    Ok(places)
}

struct Bound {
    /// Per shard, one of each listener or more.
    sockets: Vec<Vec<ShardSocket>>,
    addresses: Vec<SocketAddr>,
}

fn bind_all(options: &Options, handed: &[Vec<TcpListener>], places: &Places) -> Result<Bound, StartError> {
    let shards = places.shards.len();
    let mut bound = Bound { sockets: (0..shards).map(|_| Vec::new()).collect(), addresses: Vec::new() };
    for (index, listener) in options.listeners.iter().enumerate() {
        let failed = |source| StartError::Shard { shard: 0, source };
        let dealt = match handed.get(index) {
            Some(handed) if !handed.is_empty() => listen::deal(handed, index, shards).map_err(failed)?,
            Some(_) | None => {
                let own = |socket| vec![ShardSocket { listener: index, socket, shared: false }];
                listen::bind(&listener.listen, shards)?.into_iter().map(own).collect()
            }
        };
        bound.addresses.push(listen::local_address(&dealt[0][0].socket).map_err(failed)?);
        for (shard, sockets) in dealt.into_iter().enumerate() {
            // A socket that all shards accept from has no CPU of its own.
            for socket in sockets.iter().filter(|socket| options.shard_placement.follow_interrupts && !socket.shared) {
                listen::follow_interrupts(&socket.socket, places.shards[shard])?;
            }
            bound.sockets[shard].extend(sockets);
        }
    }
    Ok(bound)
}

/// The shards' ways to other threads.
struct Ways {
    slow_checks: Sender<SlowCheck>,
    questions: Sender<(ShardId, Arc<KeyQuestion>)>,
    pages: Sender<PageQuestion>,
    broker: BrokerDesk,
    backends: Beginnings,
}

/// What all shards get a share of.
struct Setups {
    options: Arc<Options>,
    state: Arc<ringcast_state::Options>,
    counters: Arc<Counters>,
    wakes: Vec<WakeHandle>,
    seeds: Vec<Seeds>,
}

impl Setups {
    fn new(options: Options, state: ringcast_state::Options, shards: usize) -> Result<Self, StartError> {
        let failed = |source| StartError::Shard { shard: 0, source };
        let clients_of_shard = (0..shards).map(|_| AtomicUsize::new(0)).collect();
        Ok(Self {
            options: Arc::new(options),
            state: Arc::new(state),
            counters: Arc::new(Counters { clients_of_shard, ..Counters::default() }),
            wakes: (0..shards).map(|_| WakeHandle::new()).collect::<io::Result<_>>().map_err(failed)?,
            seeds: random_seeds(shards).map_err(failed)?,
        })
    }

    fn compass(&self) -> Compass {
        let shards = u16::try_from(self.seeds.len()).expect("fewer shards than 65536");
        Compass::new(self.seeds[0].home, shards)
    }

    fn finish(
        self,
        sockets: Vec<Vec<ShardSocket>>,
        accept_when_told: bool,
        ways: &Ways,
    ) -> (Vec<Setup>, Line, Arc<Loads>) {
        let shards = u16::try_from(sockets.len()).expect("fewer shards than 65536");
        let bells: Vec<_> = self.wakes.iter().cloned().map(Doorbell::new).collect();
        let clock = Clock::start();
        let (balances, loads) = Balance::for_shards(self.options.shard_balance, self.options.listeners.len(), &bells);
        let ends = Mesh::endpoints(&bells).into_iter().zip(balances);
        let parts = ends.zip(self.wakes).zip(self.seeds).zip(sockets);
        let (senders, controls): (Vec<_>, Vec<_>) = bells.iter().map(|_| unbounded()).unzip();
        let line = Line::new(senders.into_iter().zip(bells));
        let setup = |((index, control), ((((endpoint, balance), wake), seeds), sockets))| Setup {
            id: ShardId(index),
            shards,
            options: self.options.clone(),
            state: self.state.clone(),
            seeds,
            clock,
            wake,
            endpoint,
            balance,
            control,
            line: line.clone(),
            slow_checks: ways.slow_checks.clone(),
            questions: ways.questions.clone(),
            backends: ways.backends.clone(),
            pages: ways.pages.clone(),
            broker: ways.broker.clone(),
            counters: self.counters.clone(),
            sockets,
            accept_when_told,
        };
        let setups = (0..shards).zip(controls).zip(parts).map(setup).collect();
        (setups, line, loads)
    }
}

fn random_seeds(shards: usize) -> io::Result<Vec<Seeds>> {
    let mut random = File::open("/dev/urandom")?;
    let mut home = [0; 8];
    random.read_exact(&mut home)?;
    let seeds = |_| {
        let mut shard = [0; 32];
        random.read_exact(&mut shard)?;
        Ok(Seeds { home: u64::from_ne_bytes(home), shard })
    };
    (0..shards).map(seeds).collect()
}

type Report = Sender<Result<(), StartError>>;

fn spawn(setup: Setup, cpu: usize, report: Report) -> Result<JoinHandle<()>, StartError> {
    let shard = setup.id.index();
    let thread = thread::Builder::new().name(format!("shard-{shard}"));
    let spawned = thread.spawn(move || {
        let _guard = EndProcessOnPanic { shard };
        let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
            .io_memory(EXECUTOR_IO_MEMORY)
            .ring_depth(EXECUTOR_RING_DEPTH)
            .make();
        match executor {
            Ok(executor) => executor.run(run(setup, report)),
            Err(error) => {
                let _ = report.send(Err(StartError::of_ring(shard, error.into())));
            }
        }
    });
    spawned.map_err(|source| StartError::Shard { shard, source })
}

async fn run(setup: Setup, report: Report) {
    match ShardLoop::new(setup) {
        Err(error) => {
            let _ = report.send(Err(error));
        }
        Ok(shard) => {
            let _ = report.send(Ok(()));
            shard.run().await;
        }
    }
}

/// Half a server is worse than a restart: the other shards would wait for this one for ever.
struct EndProcessOnPanic {
    shard: usize,
}

impl Drop for EndProcessOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(shard = self.shard, "a shard has panicked, the process ends");
            std::process::abort();
        }
    }
}
