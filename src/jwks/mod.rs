//! Published keys: gets the key sets that the shards ask for. Control plane, on threads of its own; a server that hangs delays
//! nobody but clients who need its keys.

mod address;
mod fetch;
mod sets;

pub use fetch::{Fetcher, without_secrets};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use fetch::Fetched;
use ringcast_runtime::KeyLine;
use ringcast_state::ShardId;
use ringcast_state::auth::{KeyQuestion, KeySetAddress};
use sets::Sets;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tracing::warn;

/// At most one warning in this time: a token can name many endpoints.
const WARNING_PERIOD: Duration = Duration::from_secs(60);

/// The running thread; it ends with the shards.
pub struct Jwks {
    forget: Sender<()>,
}

impl Jwks {
    /// Answers the shards from now on.
    pub fn start(line: KeyLine) -> io::Result<Jwks> {
        let (forget, forgets) = bounded(1);
        let desk = Desk {
            line,
            forgets,
            fetcher: Arc::new(Fetcher::new()),
            sets: Sets::default(),
            warnings: Warnings::default(),
        };
        thread::Builder::new().name("jwks".to_owned()).spawn(move || desk.run())?;
        Ok(Jwks { forget })
    }

    /// Forgets all keys, as when other endpoints were configured.
    pub fn forget(&self) {
        // Full: it is about to be done.
        let _ = self.forget.try_send(());
    }
}

/// A fetch that has come to its end.
type Finished = (KeySetAddress, Fetched);

struct Desk {
    line: KeyLine,
    forgets: Receiver<()>,
    fetcher: Arc<Fetcher>,
    sets: Sets<ShardId>,
    warnings: Warnings,
}

impl Desk {
    fn run(mut self) {
        // Bounded by the number of fetches that run at a time.
        let (finish, finished) = unbounded();
        loop {
            select! {
                recv(self.line.questions()) -> question => match question {
                    Ok((shard, question)) => self.ask(shard, question),
                    Err(_) => return,
                },
                recv(finished) -> finished => {
                    let (address, fetched) = finished.expect("this thread holds a sender");
                    self.finish(&address, fetched);
                }
                recv(self.forgets) -> _ => self.sets.clear(),
            }
            while let Some(address) = self.sets.take_fetch() {
                self.fetch(address, finish.clone());
            }
        }
    }

    fn ask(&mut self, shard: ShardId, question: Arc<KeyQuestion>) {
        if let Some(answer) = self.sets.ask(Instant::now(), shard, question) {
            self.line.answer(shard, answer);
        }
    }

    fn fetch(&mut self, address: KeySetAddress, finish: Sender<Finished>) {
        let (fetcher, wanted, done) = (self.fetcher.clone(), address.clone(), finish.clone());
        let thread = thread::Builder::new().name("jwks-fetch".to_owned());
        let spawned = thread.spawn(move || {
            let fetched = fetcher.fetch(&wanted);
            let _ = done.send((wanted, fetched));
        });
        if let Err(error) = spawned {
            let _ = finish.send((address, Err(error.into())));
        }
    }

    fn finish(&mut self, address: &KeySetAddress, fetched: Fetched) {
        let now = Instant::now();
        if let Err(error) = &fetched {
            self.warnings.failed(now, address, error);
        }
        for (shard, answer) in self.sets.finish(now, address, fetched.ok()) {
            self.line.answer(shard, answer);
        }
    }
}

/// Tells an operator of failures without filling the log.
#[derive(Default)]
struct Warnings {
    last: Option<Instant>,
    /// Failures not told of.
    silent: u64,
}

impl Warnings {
    fn failed(&mut self, now: Instant, address: &KeySetAddress, error: &fetch::FetchError) {
        if self.last.is_some_and(|last| now.duration_since(last) < WARNING_PERIOD) {
            self.silent += 1;
            return;
        }
        let silent = std::mem::take(&mut self.silent);
        self.last = Some(now);
        let endpoint = fetch::without_secrets(&address.url);
        warn!(endpoint, %error, failures_before = silent, "error fetching JWKS, tokens signed with its keys are refused");
    }
}
