//! The world at rest: all that is on its way arrives, and then everybody must agree on everything.

use crate::answers::{Call, client_info, is_error, top};
use crate::client::Phase;
use crate::world::World;
use ringcast_state::Time;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Longest wait for answers that never come: a connect may wait for two of them, one second each.
const WAIT_MAX: Duration = Duration::from_millis(2200);
const WAIT: Duration = Duration::from_millis(20);
/// Ping intervals up to this are waited for.
const SHORT: Duration = Duration::from_secs(2);
/// How late a ping may come: two ticks of the timer wheel, a turn, and steps of the clock.
const LATE_MAX: Duration = Duration::from_millis(100);
/// How late any timer may fire.
const TIMERS_LATE_MAX: Duration = Duration::from_millis(40);
/// How late an end may come: ends are told in seconds.
const END_LATE_MAX: Duration = Duration::from_millis(1200);

impl World {
    /// Lets everything arrive, and checks what must be true then.
    pub fn rest(&mut self) {
        self.settle();
        // What fell due while the process slept is seen to within two ticks of the timers.
        self.pass(TIMERS_LATE_MAX);
        self.settle();
        self.check_pings();
        let answers = self.answers();
        self.check(&answers);
        if self.random.one_in(6) {
            let answers = self.outlive(&answers);
            self.check(&answers);
        }
    }

    /// Answers to everything that can be asked, all of the same moment.
    pub(super) fn answers(&mut self) -> Vec<(Call, Value)> {
        loop {
            let before = self.connected();
            let answers = self.ask_everything();
            // Somebody may be closed for its silence while the answers come.
            if self.connected() == before {
                return answers;
            }
        }
    }

    fn check(&mut self, answers: &[(Call, Value)]) {
        self.check_counts(answers);
        self.check_positions(answers);
        self.model.check_promises(&self.scenario, self.now.at);
        self.check_members();
        self.check_ends();
        self.check_queues();
    }

    /// Every socket has accepted what was for it: when memory runs short now, nobody is slow.
    fn check_queues(&mut self) {
        for station in &mut self.stations {
            let shed = station.shard.snapshot().metrics.shed_clients;
            station.shard.shed_queues(self.now);
            assert_eq!(
                station.shard.snapshot().metrics.shed_clients,
                shed,
                "a client counts as slow that has read everything"
            );
        }
    }

    /// With shards that take their turns, everybody is pinged in time, whatever the clock did before.
    fn check_pings(&mut self) {
        let interval = self.scenario.options().client.ping_interval;
        if interval.is_zero() || interval > SHORT || !self.random.one_in(4) {
            return;
        }
        let span = interval + LATE_MAX;
        let mut passed = Duration::ZERO;
        while passed < span {
            self.pass(WAIT);
            passed += WAIT;
            for shard in 0..self.stations.len() {
                self.turn(shard, true);
            }
        }
        for client in self.clients.iter().filter(|client| client.phase == Phase::Live) {
            let silent = self.now.at - client.pinged_at;
            assert!(silent <= span, "client {} was not pinged for {silent:?}", client.number);
        }
        self.settle();
    }

    /// Who is connected, and to how many channels.
    fn connected(&self) -> Vec<(String, usize)> {
        let live = self.clients.iter().filter(|client| client.phase == Phase::Live);
        live.map(|client| (client.id.clone(), client.subscriptions.len())).collect()
    }

    fn ask_everything(&mut self) -> Vec<(Call, Value)> {
        self.keep_answers = true;
        let (backend, mut context, ..) = self.backend();
        let requests = backend.ask_everything(&mut context);
        for request in requests {
            self.call(request);
        }
        self.settle();
        self.keep_answers = false;
        std::mem::take(&mut self.backend.kept)
    }

    /// Everybody goes; nothing may be left.
    pub fn end(&mut self) {
        for client in 0..self.clients.len() {
            self.cut(client);
        }
        self.rest();
        for station in &self.stations {
            assert_eq!(station.shard.connections(), 0, "a connection is left");
        }
        // Longer than anything lives.
        for _ in 0..4 {
            self.pass(Duration::from_secs(60 * 24 * 3600));
            for shard in 0..self.stations.len() {
                self.turn(shard, true);
            }
        }
        for station in &self.stations {
            assert_eq!(station.shard.next_timeout(), None, "something is left that waits");
            assert_eq!(station.shard.next_flush(), None, "output is left that waits");
        }
    }

    /// Turns until nothing is on its way. Who waits then waits for a deadline.
    pub(super) fn settle(&mut self) {
        self.heal();
        let mut waited = Duration::ZERO;
        loop {
            let mut is_busy = false;
            for shard in 0..self.stations.len() {
                is_busy |= self.turn(shard, true);
            }
            self.pass(Duration::from_micros(50));
            if self.is_idle() {
                return;
            }
            if is_busy {
                waited = Duration::ZERO;
            } else if self.has_messages() {
                self.pass(Duration::from_micros(self.scenario.ring_delay_max));
            } else {
                waited += WAIT;
                self.pass(WAIT);
                assert!(waited <= WAIT_MAX, "somebody waits for ever: {}", self.waiting());
            }
        }
    }

    fn waiting(&self) -> String {
        let asked = self.clients.iter().filter(|client| client.phase != Phase::Away && !client.asked.is_empty());
        let asked = asked.map(|client| format!("client {}: {:?}", client.number, client.asked)).collect::<Vec<_>>();
        format!("{asked:?}, backend {:?}", self.backend)
    }

    /// Channels with the numbers of the clients that are subscribed.
    fn subscribers(&self) -> BTreeMap<&str, Vec<usize>> {
        let mut subscribers = BTreeMap::<&str, Vec<usize>>::new();
        for client in &self.clients {
            for channel in client.subscriptions.keys() {
                subscribers.entry(channel).or_default().push(client.number);
            }
        }
        subscribers
    }

    fn ids(&self, clients: Option<&Vec<usize>>) -> BTreeSet<String> {
        clients.into_iter().flatten().map(|number| self.clients[*number].id.clone()).collect()
    }

    fn check_counts(&self, answers: &[(Call, Value)]) {
        let subscribers = self.subscribers();
        let live = self.clients.iter().filter(|client| client.phase == Phase::Live).collect::<Vec<_>>();
        for (call, answer) in answers.iter().filter(|(_, answer)| !is_error(answer)) {
            let result = &answer["result"];
            match call {
                Call::Channels => {
                    let want =
                        subscribers.iter().map(|(channel, clients)| ((*channel).to_owned(), clients.len() as u64));
                    let channels = result["channels"].as_object().expect("channels by name");
                    let got = channels.iter().map(|(name, info)| (name.clone(), count(&info["num_clients"])));
                    assert_eq!(got.collect::<BTreeMap<_, _>>(), want.collect(), "active channels");
                }
                Call::Info => {
                    let node = &result["nodes"][0];
                    let users = live.iter().map(|client| &client.user).collect::<BTreeSet<_>>();
                    let got = ["num_clients", "num_users", "num_channels", "num_subs"].map(|name| count(&node[name]));
                    let subscriptions = subscribers.values().map(Vec::len).sum();
                    let want = [live.len(), users.len(), subscribers.len(), subscriptions].map(|n| n as u64);
                    assert_eq!(got, want, "clients, users, channels, subscriptions of the node");
                }
                Call::Presence { channel } => {
                    let members = result["presence"].as_object().expect("members by client id");
                    let got = members.iter().map(|(id, info)| (id.clone(), client_info(info).user));
                    self.check_presence(channel, &got.collect(), subscribers.get(&**channel));
                }
                Call::PresenceStats { channel } if !self.scenario.may_be_unknown(channel) => {
                    let clients = subscribers.get(&**channel).into_iter().flatten().collect::<Vec<_>>();
                    let users = clients.iter().map(|number| &self.clients[**number].user).collect::<BTreeSet<_>>();
                    let got = [count(&result["num_clients"]), count(&result["num_users"])];
                    assert_eq!(got, [clients.len() as u64, users.len() as u64], "{channel}: presence stats");
                }
                _ => {}
            }
        }
    }

    /// Present is who is subscribed, but for subscriptions made while the options of the channel were gone.
    fn check_presence(&self, channel: &str, got: &BTreeMap<String, String>, subscribers: Option<&Vec<usize>>) {
        let subscribers = subscribers.into_iter().flatten().map(|number| &self.clients[*number]);
        let want = subscribers.map(|client| (client.id.clone(), client.user.clone())).collect::<BTreeMap<_, _>>();
        if self.scenario.may_be_unknown(channel) {
            assert!(
                got.iter().all(|(id, user)| want.get(id) == Some(user)),
                "{channel}: present {got:?}, not {want:?}"
            );
        } else {
            assert_eq!(*got, want, "{channel}: presence");
        }
    }

    /// Nobody outlives its token, and of a user with a single connection there is one.
    fn check_ends(&self) {
        let options = &self.scenario.options().client;
        let mut users = BTreeSet::new();
        // The server counts whole seconds.
        let is_over = |at: Option<Time>, grace: Duration| at.is_some_and(|at| at + grace + END_LATE_MAX < self.now.at);
        for client in self.clients.iter().filter(|client| client.phase == Phase::Live) {
            let number = client.number;
            let is_over_due = is_over(client.expire_at, options.expired_close_delay);
            assert!(!is_over_due, "client {number} outlived its token, {:?}", client.expire_at);
            for (channel, subscription) in &client.subscriptions {
                let is_over_due = is_over(subscription.expire_at, options.expired_sub_close_delay);
                assert!(!is_over_due, "client {number}: {channel} outlived its token, {:?}", subscription.expire_at);
            }
            let is_second = !client.user.is_empty() && !users.insert(&client.user);
            assert!(!is_second || !self.scenario.is_single(), "{} is connected twice", client.user);
        }
    }

    fn check_positions(&mut self, answers: &[(Call, Value)]) {
        let tops = answers.iter().filter_map(|(call, answer)| match call {
            Call::History { channel } if !is_error(answer) => Some((channel.as_str(), top(answer))),
            _ => None,
        });
        let tops = tops.collect::<BTreeMap<_, _>>();
        for (channel, (offset, epoch)) in &tops {
            self.model.check_top(channel, *offset, epoch);
        }
        for client in &mut self.clients {
            for (channel, subscription) in &mut client.subscriptions {
                let top = tops.get(channel.as_str()).map(|(offset, epoch)| (*offset, &**epoch));
                self.model.check_level(channel, subscription, top);
            }
        }
    }

    /// Whom a subscriber saw come and not go is there; and it saw everybody come who came later than itself.
    fn check_members(&self) {
        let subscribers = self.subscribers();
        for client in &self.clients {
            for (channel, subscription) in &client.subscriptions {
                if !subscription.sees_members || self.scenario.may_be_unknown(channel) {
                    continue;
                }
                let others = subscribers.get(&**channel);
                if let Some(roster) = &subscription.roster {
                    assert_eq!(*roster, self.ids(others), "{channel}: who client {} thinks is there", client.number);
                }
                let gone = subscription.members.difference(&self.ids(others)).cloned().collect::<Vec<_>>();
                assert!(gone.is_empty(), "{channel}: client {} still sees {gone:?}", client.number);
                for other in others.into_iter().flatten().map(|number| &self.clients[*number]) {
                    if other.subscriptions[channel].asked > subscription.live {
                        let is_seen = subscription.members.contains(&other.id);
                        assert!(is_seen, "{channel}: client {} did not see {} join", client.number, other.number);
                    }
                }
            }
        }
    }
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}
