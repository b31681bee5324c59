//! What happens in a world step by step: turns, deeds of clients and the backend, faults.

use crate::client::{Aim, Phase};
use crate::content::payload;
use crate::model::Publish;
use crate::world::World;
use ringcast_proto::client::{
    Encoding, HistoryRequest, PresenceRequest, PresenceStatsRequest, PublishRequest, Request, RpcRequest,
    StreamPosition, UnsubscribeRequest,
};
use std::time::Duration;

impl World {
    /// One event, and the faults that fall on it.
    pub fn step(&mut self) {
        let micros = self.random.below(self.scenario.tick_max as usize + 1) as u64;
        self.pass(Duration::from_micros(micros));
        self.fault();
        match self.random.below(100) {
            0..60 => {
                let shard = self.random.below(self.stations.len());
                self.turn(shard, false);
            }
            60..92 => {
                let client = self.random.below(self.clients.len());
                self.deed(client);
            }
            _ => {
                let (backend, mut context, random, users) = self.backend();
                let request = backend.call(&mut context, random, users);
                self.operations += 1;
                self.call(request);
            }
        }
    }

    fn fault(&mut self) {
        let client = self.random.below(self.clients.len());
        if self.falls_on(self.scenario.block_one_in) {
            let span = Duration::from_micros(self.random.scale(100, 3_000_000));
            self.block(client, span);
        }
        if self.falls_on(self.scenario.cut_one_in) {
            self.cut(client);
        }
        if self.falls_on(self.scenario.stall_one_in) {
            let span = Duration::from_micros(self.random.scale(1000, 5_000_000));
            self.stall(span);
        }
        if self.falls_on(self.scenario.jump_one_in) {
            let span = Duration::from_micros(self.random.scale(10_000, 100_000_000));
            self.trace.note(|| format!("{span:?} pass"));
            self.pass(span);
        }
        if self.falls_on(self.scenario.dry_one_in) {
            let span = Duration::from_micros(self.random.scale(100, 3_000_000));
            self.dry(span);
        }
        if self.falls_on(self.scenario.full_one_in) {
            let span = Duration::from_micros(self.random.scale(1000, 5_000_000));
            self.fill(span);
        }
        if self.falls_on(self.scenario.turn_clock_one_in) {
            let by_ms = self.random.scale(1, 3_600_000) as i64;
            let is_forward = self.random.one_in(2);
            self.turn_clock(if is_forward { by_ms } else { -by_ms });
        }
        if self.falls_on(self.scenario.reload_one_in) {
            self.reload();
        }
        if self.falls_on(self.scenario.restart_one_in) {
            self.restart();
        }
    }

    fn falls_on(&mut self, one_in: usize) -> bool {
        one_in > 0 && self.random.one_in(one_in)
    }

    /// A client does something that is possible to it.
    fn deed(&mut self, client: usize) {
        match self.clients[client].phase {
            Phase::Away if self.random.one_in(3) => {
                // Nobody is accepted where no descriptor is left.
                if !self.open(client) {
                    return;
                }
                // Some never say who they are.
                if !self.random.one_in(50) {
                    self.connect(client);
                }
                self.clients[client].is_deaf = self.random.one_in(50);
            }
            Phase::Away => {}
            Phase::Connecting if self.random.one_in(100) => self.cut(client),
            // A command that comes too early is an error, which ends the connection.
            Phase::Connecting if self.random.one_in(200) => {
                self.clients[client].excuses.push(3501);
                self.send(client, b"{}".to_vec());
            }
            Phase::Connecting => {}
            Phase::Refused => self.cut(client),
            Phase::Live => self.commands(client),
        }
    }

    /// One frame of commands; or something that ends the connection.
    fn commands(&mut self, client: usize) {
        if self.random.one_in(400) {
            self.clients[client].excuses.push(3501);
            let garbage = *self.random.pick(&[&b"{"[..], b"", b"\xff\xff\xff", b"[1]\n\n"]);
            return self.send(client, garbage.to_vec());
        }
        let mut frame = Vec::new();
        let count = if self.random.one_in(10) { self.random.between(2, 12) } else { 1 };
        for _ in 0..count {
            self.command(client, &mut frame);
        }
        self.send(client, frame);
    }

    fn command(&mut self, number: usize, frame: &mut Vec<u8>) {
        let channel = self.random.pick(&self.scenario.channels).clone();
        let is_subscribed = self.clients[number].subscriptions.contains_key(&channel);
        let (request, aim) = match self.random.below(20) {
            0..8 if !is_subscribed || self.random.one_in(15) => self.subscribe_request(number, channel),
            8 => (Request::Unsubscribe(UnsubscribeRequest { channel }), Aim::default()),
            9 => self.refresh_of_some_kind(number, channel),
            10 => (Request::Presence(PresenceRequest { channel }), Aim::default()),
            11 => (Request::PresenceStats(PresenceStatsRequest { channel }), Aim::default()),
            12 => (self.history_request(number, channel), Aim::default()),
            13 if self.random.one_in(4) => {
                (Request::Rpc(RpcRequest { method: "none".into(), ..RpcRequest::default() }), Aim::default())
            }
            _ => self.publish_request(number, channel),
        };
        self.operations += 1;
        let (client, mut context) = self.client(number);
        client.ask(&mut context, request, aim, frame);
    }

    fn refresh_of_some_kind(&mut self, number: usize, channel: String) -> (Request, Aim) {
        let refresh =
            if self.random.one_in(2) { self.refresh_request(number) } else { self.sub_refresh_request(number) };
        refresh.unwrap_or((Request::Unsubscribe(UnsubscribeRequest { channel }), Aim::default()))
    }

    fn publish_request(&mut self, number: usize, channel: String) -> (Request, Aim) {
        let publication = self.model.new_id();
        let may_be_binary = self.scenario.binary && channel.starts_with("plain");
        let is_protobuf = self.clients[number].means.encoding == Encoding::Protobuf;
        let is_binary = may_be_binary && is_protobuf && self.random.one_in(10);
        let user = Some(self.clients[number].user.clone());
        let publish = Publish { at: self.now.at, user, is_binary, ..Publish::default() };
        self.model.publish(&channel, publication, publish);
        let data = payload(publication, is_binary).into();
        let request = Request::Publish(PublishRequest { channel, data, ..PublishRequest::default() });
        (request, Aim { publication, ..Aim::default() })
    }

    fn history_request(&mut self, number: usize, channel: String) -> Request {
        let position = self.clients[number].positions.get(&channel).cloned();
        let since = position.filter(|(offset, _)| *offset > 0 && self.random.one_in(2));
        Request::History(HistoryRequest {
            channel,
            limit: *self.random.pick(&[-1, -1, 0, 1, 5]),
            since: since.map(|(offset, epoch)| StreamPosition { offset, epoch }),
            reverse: self.random.one_in(4),
        })
    }
}
