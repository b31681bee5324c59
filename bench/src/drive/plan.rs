//! What a run is made of, and how it is set up: against the server, or against a writer that shows the kernel's price.

use std::io;
use std::net::SocketAddr;

use super::audience::Audience;
use super::books::{Books, Latencies};
use super::churn::Churn;
use super::{Run, Unit};
use crate::crowd;
use crate::endpoint::Endpoint;
use crate::engine::{Batch, Engine, Peer, Session, Subscription, Target};
use crate::failure::Failure;
use crate::lanes::Lanes;
use crate::ledger::Ledger;
use crate::measure::Meter;
use crate::options::Common;
use crate::payload::PUBLISHERS_MAX;
use crate::problems::Problems;
use crate::rounds::{Length, Rounds};
use crate::token::Tokens;

/// Publications before the first window: they warm caches, allocators and branch predictors.
const WARM_UP_PUBLICATIONS: u64 = 200;

/// Clients, channels and pace of a run.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    pub target: Target<'a>,
    pub audience: Audience,
    /// Clients that subscribe and stay.
    pub subscribers: usize,
    /// Ask for recoverable subscriptions.
    pub recoverable: bool,
    /// Connections to the API.
    pub connections: usize,
    /// Publications of a request.
    pub batch: usize,
    /// Deliveries that a lane may still await when it publishes again.
    pub backlog: u64,
    /// Publications per second of an open loop.
    pub rate: Option<u64>,
    /// Clients per second that come and go.
    pub churn: u64,
    pub length: Length,
    pub unit: Unit,
}

impl<'a> Plan<'a> {
    /// One publisher in a closed loop, one publication at a time to one channel; to be changed where a scenario differs.
    pub fn new(target: Target<'a>, subscribers: usize, length: Length) -> Self {
        Self {
            target,
            audience: Audience::Shared,
            subscribers,
            recoverable: false,
            connections: 1,
            batch: 1,
            backlog: 0,
            rate: None,
            churn: 0,
            length,
            unit: Unit::Delivery,
        }
    }

    /// Connects everybody to the server of the command line and warms up.
    pub fn start(&self, common: &Common) -> Result<Run, Failure> {
        let endpoint = common.endpoint()?;
        let session = Session::new(common)?;
        let tokens = Tokens::new(common.token_secret.as_deref());
        let login = |number: usize| {
            let channel = self.target.name(self.audience.channel_of_subscriber(number));
            let subscription = Subscription { channel: &channel, recoverable: self.recoverable, since: None };
            session.login(&tokens.of(number), Some(subscription))
        };
        let clients = Peer::new(&endpoint, common)?;
        let churn = Churn::new(clients.clone(), login(self.subscribers), self.churn);
        let api = Peer::new(&Endpoint::resolve(&common.api, "http")?, common)?;
        let mut engine = Engine::new(session.clone(), common).map_err(Failure::system("starting the loop"))?;
        let subscribers = crowd::gather(&mut engine, &clients, self.subscribers, |number| Some(login(number)))?;
        self.join(common, Meter::new(common)?, engine, &subscribers, &api, churn)
    }

    /// The same against a writer that takes any login and reads no request; `introduce` tells it who the subscribers are.
    pub fn start_bare(
        &self,
        common: &Common,
        meter: Meter,
        writer: &Peer,
        introduce: impl FnOnce(&[SocketAddr]) -> io::Result<()>,
    ) -> Result<Run, Failure> {
        let session = Session::bare(common)?;
        let churn = Churn::new(writer.clone(), session.login("", None), 0);
        let mut engine = Engine::new(session, common).map_err(Failure::system("starting the loop"))?;
        let subscribers = crowd::gather(&mut engine, writer, self.subscribers, |_| None)?;
        let addresses = subscribers.iter().map(|client| engine.local_address(*client)).collect::<io::Result<Vec<_>>>();
        let introduced = addresses.and_then(|addresses| introduce(&addresses));
        introduced.map_err(Failure::system("introducing the subscribers"))?;
        self.join(common, meter, engine, &subscribers, writer, churn)
    }

    /// The request that its publishers make.
    pub fn request(&self, common: &Common) -> Result<Batch, Failure> {
        let api = Endpoint::resolve(&common.api, "http")?;
        Ok(Batch::new(&api, &common.api_key, self.target, common.payload, self.batch))
    }

    /// Opens the connections to the API and the accounts, and warms up.
    fn join(
        &self,
        common: &Common,
        meter: Meter,
        mut engine: Engine,
        subscribers: &[usize],
        api: &Peer,
        churn: Churn,
    ) -> Result<Run, Failure> {
        let batch = self.request(common)?;
        for _ in 0..self.connections {
            engine.open_publisher(api, batch.clone()).map_err(Failure::dialing)?;
        }
        assert!(self.connections <= PUBLISHERS_MAX);
        let lanes = Lanes::new(self.connections, self.batch as u32, self.backlog);
        let mut books = Books {
            ledger: Ledger::new(self.audience.publishers(lanes.count()), common.patience),
            due_ns: vec![0; lanes.count()],
            lanes,
            audience: self.audience,
            churn,
            latencies: Latencies::default(),
            roles: Vec::new(),
            stayers: Vec::new(),
            problems: Problems::default(),
            broken: false,
        };
        for (number, client) in subscribers.iter().enumerate() {
            books.enter(*client, number);
        }
        let mut run = Run { engine, meter, length: self.length, rate: None, unit: self.unit, books };
        self.warm_up(&mut run)?;
        run.rate = self.rate;
        Ok(run)
    }

    fn warm_up(&self, run: &mut Run) -> Result<(), Failure> {
        run.window_of(Length::Publications(WARM_UP_PUBLICATIONS))?;
        if run.is_broken() {
            return Err(Failure::Api(run.problems().to_string()));
        }
        Ok(())
    }
}
