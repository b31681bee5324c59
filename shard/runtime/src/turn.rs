//! The loop of a shard. One turn: messages of other shards, completions, timers, one write per connection that has
//! output, messages to other shards. No step waits; between turns the shard sleeps if there is nothing to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use ringcast_proto::codes::Disconnect;
use ringcast_state::auth::KeyQuestion;
use ringcast_state::broker::{BrokerAnswer, BrokerError, BrokerNews};
use ringcast_state::{Message, Now, Shard, ShardId};

use crate::accept::Acceptor;
use crate::backend::BackendDesk;
use crate::balance::Balance;
use crate::broker::BrokerDesk;
use crate::call::Calls;
use crate::carry::Carried;
use crate::clock::Clock;
use crate::connection::{Connections, Io};
use crate::drain::Drain;
use crate::listen::ShardSocket;
use crate::metrics::{ShardSnapshot, TurnMeter};
use crate::pool::{Control, Setup};
use crate::ring::Endpoint;
use crate::signatures::Checks;
use crate::sockjs::{Desk, Sessions};
use crate::start::StartError;
use crate::transport::page::PageDesk;
use crate::uring::{Event, Uring};

mod handover;

use handover::{Hold, Moving};

/// Messages taken of each ring per turn, so that nothing else waits long behind a busy shard.
const MESSAGES_PER_RING: usize = 256;

/// Wait before messages are offered again to a shard whose ring is full.
const RETRY: Duration = Duration::from_millis(1);

/// Longest sleep, after which other tasks of the executor get their turn. Nothing waits for it.
const NAP_MAX: Duration = Duration::from_secs(1);

/// Pings of one turn from which on their pongs are awaited together.
const PONGS_MIN: usize = 8;

/// How long. In the first moment after a batch of pings the pongs of near clients come one by one, and waking for each cost
/// more than reading it.
const PONGS_WAIT: Duration = Duration::from_micros(300);

/// Longest wait at stop for clients that do not answer the close.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// One shard at work.
pub(crate) struct ShardLoop {
    id: ShardId,
    shards: u16,
    state: Shard,
    connections: Connections,
    uring: Uring,
    acceptor: Acceptor,
    carried: Carried,
    calls: Calls,
    sessions: Sessions,
    balance: Balance,
    endpoint: Endpoint<Message>,
    control: Receiver<Control>,
    checks: Checks,
    broker: BrokerDesk,
    questions: Sender<(ShardId, Arc<KeyQuestion>)>,
    /// There was no room for it.
    held_question: Option<Arc<KeyQuestion>>,
    backends: BackendDesk,
    clock: Clock,
    meter: TurnMeter,
    /// What the sockets that the ring accepts from are for: indexes of `Options::listeners`.
    listeners: Vec<usize>,
    /// Sockets that wait for the word to accept.
    waiting: Vec<ShardSocket>,
    /// Requests wait for another process.
    hold: Option<Hold>,
    /// They go there.
    moving: Option<Moving>,
    /// Some shard's ring was full.
    held_back: bool,
    /// Clients are being sent away.
    drain: Option<Drain>,
    /// Pongs expected, and until when they are awaited together.
    pongs: Option<(usize, Instant)>,
}

impl ShardLoop {
    /// Makes the ring, on the thread that will use it, and starts to listen.
    pub fn new(setup: Setup) -> Result<Self, StartError> {
        let shard = setup.id.index();
        let failed = |source| StartError::of_ring(shard, source);
        let uring = Uring::new(setup.options.uring, setup.wake).map_err(failed)?;
        let (now, _) = setup.clock.read();
        let desk = Desk::new(setup.id, setup.line);
        let sessions = Sessions::new(desk.clone(), setup.options.sockjs.heartbeat_delay);
        let mut shard = Self {
            id: setup.id,
            shards: setup.shards,
            state: Shard::new(setup.id, setup.shards, setup.state, setup.seeds, now),
            connections: Connections::new(
                setup.options,
                setup.counters,
                PageDesk::new(setup.id, setup.pages),
                desk,
                setup.id.index(),
                setup.clock,
            ),
            uring,
            acceptor: Acceptor::new(setup.sockets.len()).map_err(failed)?,
            carried: Carried::default(),
            calls: Calls::default(),
            sessions,
            balance: setup.balance,
            endpoint: setup.endpoint,
            control: setup.control,
            checks: Checks::new(setup.id, setup.slow_checks),
            broker: setup.broker,
            questions: setup.questions,
            backends: BackendDesk::new(setup.id, setup.backends),
            held_question: None,
            clock: setup.clock,
            meter: TurnMeter::default(),
            listeners: Vec::new(),
            waiting: setup.sockets,
            hold: None,
            moving: None,
            held_back: false,
            drain: None,
            pongs: None,
        };
        if !setup.accept_when_told {
            shard.accept()?;
        }
        Ok(shard)
    }

    /// Until told to stop.
    pub async fn run(mut self) {
        while !self.has_ended() {
            if self.turn() == 0 {
                self.sleep();
            }
            glommio::executor().yield_if_needed().await;
        }
    }

    /// Everything that can be done now. Zero: nothing could.
    fn turn(&mut self) -> usize {
        let (now, instant) = self.clock.read();
        self.meter.begin(&mut self.connections.metrics, instant);
        let mut done = self.take_messages(now);
        self.connections.metrics.messages += done as u64;
        done += self.take_control(now);
        done += self.take_adoptions(now);
        done += self.take_completions(now, instant);
        done += self.run_handshakes(now);
        self.fire_timers(now, instant);
        done += self.checks.run(now, &mut self.state);
        self.ask_for_keys();
        self.backends.ask(&mut self.state);
        done += self.connections.resume_streams();
        self.flush(now);
        self.backends.act(&mut self.state);
        self.tend_handover(now, instant);
        self.send_messages();
        done += self.ask_broker(now);
        let pings = self.state.take_pings();
        if pings >= PONGS_MIN {
            self.pongs = Some((pings, instant + PONGS_WAIT));
        }
        done
    }

    fn take_messages(&mut self, now: Now) -> usize {
        let state = &mut self.state;
        self.endpoint.drain(MESSAGES_PER_RING, |from, message| {
            let from = u16::try_from(from).expect("fewer shards than 65536");
            state.handle_message(now, ShardId(from), message);
        })
    }

    fn take_control(&mut self, now: Now) -> usize {
        let mut taken = 0;
        while let Ok(control) = self.control.try_recv() {
            taken += 1;
            match control {
                Control::SetOptions(options, taken) => {
                    self.state.set_options(options);
                    drop(taken);
                }
                Control::SetTls(listeners) => self.connections.set_tls(&listeners),
                Control::CertificatesChanged => self.connections.certificates_changed(),
                Control::Signature { request, is_right } => {
                    self.checks.returned();
                    self.state.handle_signature(now, request, is_right);
                }
                Control::Key(answer) => self.state.handle_key(now, &answer),
                Control::Backend(answers) => {
                    for (request, answer) in answers {
                        self.state.handle_proxy_answer(now, request, answer);
                    }
                }
                Control::Streams(news) => {
                    for (stream, news) in news {
                        self.state.handle_stream(now, stream, news);
                    }
                }
                Control::Beat(beat) => beat.answer(),
                Control::Shed { histories } => {
                    self.state.shed_queues(now);
                    if histories {
                        self.state.shed_histories();
                    }
                }
                Control::Snapshot(to) => {
                    // Whoever asked may have given up.
                    let _ = to.try_send(Box::new(self.snapshot()));
                }
                Control::Page(page) => {
                    let mut io = Io { sockets: &mut self.uring, shard: &mut self.state, now };
                    self.connections.handle_page(&mut io, &page);
                }
                Control::Broker(news) => self.state.handle_broker(now, news),
                Control::Calls(handover) => self.calls.handle(now, &mut self.state, handover),
                Control::Carry(number, carry) => {
                    let mut io = Io { sockets: &mut self.uring, shard: &mut self.state, now };
                    self.carried.handle(&mut self.connections, &mut io, number, carry);
                }
                Control::SockJs(parcel) => {
                    let mut io = Io { sockets: &mut self.uring, shard: &mut self.state, now };
                    self.sessions.handle(&mut self.connections, &mut io, parcel);
                }
                Control::Handover(handover) => self.handle_handover(now, handover),
                Control::Drain(until) => {
                    self.close_listeners();
                    self.drain = Some(Drain::new(self.state.connection_ids(), self.clock.instant(now.at), until));
                }
                Control::Stop(patient_until) => self.stop(now, patient_until),
            }
        }
        taken
    }

    /// Connections that other shards have accepted for this one.
    fn take_adoptions(&mut self, now: Now) -> usize {
        let Self { uring, state, connections, balance, .. } = self;
        let waiting = balance.waiting();
        for _ in 0..waiting {
            let Some((listener, socket)) = balance.adopt(uring, connections.is_stopping()) else { break };
            let mut io = Io { sockets: uring, shard: state, now };
            connections.handle_event(&mut io, Event::Accepted { listener, socket });
        }
        waiting
    }

    fn ask_for_keys(&mut self) {
        while let Some(question) = self.held_question.take().or_else(|| self.state.take_key_question()) {
            if let Err(TrySendError::Full((_, question))) = self.questions.try_send((self.id, question)) {
                self.held_question = Some(question);
                return;
            }
        }
    }

    /// One batch a turn. Before there is a driver, nothing can be asked.
    fn ask_broker(&mut self, now: Now) -> usize {
        let messages = self.state.take_node_messages();
        match self.broker.driver() {
            _ if messages.is_empty() => (),
            Some(driver) => driver.tell_nodes(self.id, messages),
            None => {
                let tellers = messages.into_iter().filter_map(|message| message.teller);
                self.state.handle_broker(now, tellers.map(|teller| BrokerNews::Told(teller, false)).collect());
            }
        }
        let requests = self.state.take_broker_requests();
        if requests.is_empty() {
            return 0;
        }
        let Some(driver) = self.broker.driver() else {
            let failed = BrokerAnswer::Failed(BrokerError::Unavailable);
            let news = requests.into_iter().map(|asked| BrokerNews::Answer(asked.request, failed.clone()));
            self.state.handle_broker(now, news.collect());
            return 1;
        };
        driver.take(self.id, requests);
        0
    }

    fn snapshot(&self) -> ShardSnapshot {
        let mut runtime = self.connections.metrics.clone();
        runtime.ring = self.uring.counters();
        ShardSnapshot {
            shard: self.id,
            at: self.clock.time(),
            state: self.state.snapshot(),
            runtime,
            sockets: self.uring.len(),
            queued: self.endpoint.len(),
        }
    }

    /// A second time does nothing.
    fn close_listeners(&mut self) {
        for socket in 0..std::mem::take(&mut self.listeners).len() {
            self.uring.close_listener(socket);
        }
        self.waiting.clear();
    }

    fn stop(&mut self, now: Now, patient_until: Instant) {
        self.close_listeners();
        self.drain = None;
        self.state.disconnect_all(now, Disconnect::SHUTDOWN);
        let mut io = Io { sockets: &mut self.uring, shard: &mut self.state, now };
        self.connections.stop(&mut io, patient_until);
    }

    fn has_ended(&self) -> bool {
        self.connections.is_stopping() && self.uring.is_empty()
    }

    fn take_completions(&mut self, now: Now, instant: Instant) -> usize {
        if self.state.has_unwritten() {
            // The rest of what the last turn wrote. Its durations end here, and not when this turn began.
            self.uring.submit();
            self.state.handle_written(self.clock.time());
        }
        let Self { uring, state, connections, acceptor, balance, listeners, .. } = self;
        uring.submit_and_collect(|sockets, mut event| {
            match &mut event {
                Event::AcceptFailed { listener, error } => {
                    return acceptor.failed(sockets, *listener, error, instant);
                }
                Event::Accepted { listener, socket } => {
                    // From the socket's number to that of its port.
                    *listener = listeners[*listener];
                    match balance.settle(sockets, *listener, *socket) {
                        Some(kept) => *socket = kept,
                        None => return,
                    }
                }
                Event::Closed { socket } => balance.closed(*socket),
                _ => {}
            }
            connections.handle_event(&mut Io { sockets, shard: state, now }, event);
        })
    }

    /// A few of those that wait; the loop does not sleep as long as there are more.
    fn run_handshakes(&mut self, now: Now) -> usize {
        let mut io = Io { sockets: &mut self.uring, shard: &mut self.state, now };
        self.connections.run_handshakes(&mut io)
    }

    fn fire_timers(&mut self, now: Now, instant: Instant) {
        if let Some(at) = self.state.next_timeout().filter(|at| *at <= now.at) {
            self.connections.metrics.timer_lag.record((now.at - at).as_micros() as u64);
            self.state.handle_timeout(now);
        }
        for connection in self.drain.iter_mut().flat_map(|drain| drain.due(instant)) {
            self.state.disconnect(now, connection, Disconnect::SHUTDOWN);
        }
        let mut io = Io { sockets: &mut self.uring, shard: &mut self.state, now };
        self.connections.handle_timeout(&mut io);
        self.sessions.handle_timeout(&mut self.connections, &mut io);
        if self.connections.is_out_of_patience(instant) {
            self.connections.end_requests(&mut io);
            self.uring.abort_all();
        }
        self.uring.expire_closing(instant);
        self.acceptor.resume_due(&mut self.uring, instant);
    }

    fn flush(&mut self, now: Now) {
        let mut io = Io { sockets: &mut self.uring, shard: &mut self.state, now };
        loop {
            self.connections.drive_streams(&mut io);
            while let Some(action) = io.shard.take_action() {
                self.connections.handle_action(&mut io, action);
            }
            while let Some(answer) = io.shard.take_api_answer() {
                self.connections.handle_answer(&mut io, answer);
            }
            self.calls.answer(io.shard);
            while let Some(connection) = io.shard.take_dirty(now) {
                self.connections.flush(&mut io, connection);
            }
            // What was written to streams leaves with the connections that they share, within this turn.
            if !self.connections.has_woken() {
                break;
            }
        }
        self.sessions.take_output(&mut self.connections, &mut io);
    }

    fn send_messages(&mut self) {
        let Self { state, endpoint, .. } = self;
        self.held_back = false;
        for to in (0..self.shards).filter(|to| *to != self.id.0) {
            let outbox = state.outbox(ShardId(to));
            outbox.drain(|message| endpoint.push(usize::from(to), message));
            self.held_back |= !outbox.is_empty();
        }
        self.endpoint.flush_wakes();
    }

    /// In the ring, and not in glommio's reactor: measured, that saves seven system calls a sleep, one of them a
    /// memory barrier on every core.
    fn sleep(&mut self) {
        let (now, instant) = self.clock.read();
        self.meter.end(&mut self.connections.metrics, instant);
        let until = self.next_due(now, instant);
        let timeout = until.map_or(NAP_MAX, |until| until.saturating_duration_since(instant).min(NAP_MAX));
        if timeout.is_zero() {
            return;
        }
        self.endpoint.bell().prepare_sleep();
        if self.endpoint.is_empty() && self.control.is_empty() && self.balance.waiting() == 0 {
            self.connections.metrics.sleeps += 1;
            match self.pongs.filter(|(_, until)| *until > instant) {
                None => self.uring.sleep(timeout),
                Some((pongs, until)) => self.uring.sleep_for_several(timeout, pongs, until - instant),
            }
        }
        self.endpoint.bell().awake();
    }

    fn next_due(&self, now: Now, instant: Instant) -> Option<Instant> {
        let of_state = [self.state.next_timeout(), self.state.next_flush()];
        let of_runtime = [self.connections.next_timeout(), self.sessions.next_timeout()];
        let timers = of_state.into_iter().chain(of_runtime).flatten();
        let timers = timers.map(|at| self.clock.instant(at.max(now.at)));
        let retry = (self.held_back || self.is_handing_over()).then(|| instant + RETRY);
        timers
            .chain(self.uring.next_closing_deadline())
            .chain(self.acceptor.next_resume())
            .chain(self.connections.stop_at())
            .chain(self.drain.as_ref().and_then(Drain::next_due))
            .chain(retry)
            .min()
    }
}
