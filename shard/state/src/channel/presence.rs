//! Who is in a channel. With the memory engine an entry lives exactly as long as its subscription. Source: behaviour §4.
//!
//! Those who were in it when the process before this one handed the channel over are *guests*: they are on their way here, and count
//! until they have come.

use crate::sparse::GiveBack;
use crate::{ClientId, Time};
use bytes::Bytes;
use ringcast_proto::client::ClientInfo;
use ringcast_proto::handover::Member;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long guests count who do not come: client libraries wait up to 20 s before they connect again.
const GUESTS_TTL: Duration = Duration::from_secs(30);

/// Members by client id; the order makes answers the same for the same state.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    members: BTreeMap<ClientId, Arc<ClientInfo>>,
    guests: Option<Box<Guests>>,
}

/// Guests by user, and how long they count.
#[derive(Debug)]
struct Guests {
    by_user: BTreeMap<String, Vec<(ClientId, Arc<ClientInfo>)>>,
    until: Time,
}

impl Presence {
    /// Enters a member, or changes its info. A guest of the same user is here with that, and is given back.
    pub(crate) fn add(&mut self, client: ClientId, info: Arc<ClientInfo>) -> Option<Arc<ClientInfo>> {
        let is_new = !self.members.contains_key(&client);
        let guest = self.guests.as_mut().filter(|_| is_new).and_then(|guests| guests.take(&info.user));
        self.members.insert(client, info);
        self.drop_guests_if_empty();
        guest
    }

    pub(crate) fn remove(&mut self, client: ClientId) {
        self.members.remove(&client);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.guests.is_none()
    }

    pub(crate) fn members(&self) -> Vec<Arc<ClientInfo>> {
        self.entries().map(|(_, info)| info.clone()).collect()
    }

    fn entries(&self) -> impl Iterator<Item = (ClientId, &Arc<ClientInfo>)> {
        let guests = self.guests.iter().flat_map(|guests| guests.by_user.values()).flatten();
        let members = self.members.iter().map(|(client, info)| (*client, info));
        members.chain(guests.map(|(client, info)| (*client, info)))
    }

    /// When `expire` has something to do.
    pub(crate) fn next_expiry(&self) -> Option<Time> {
        self.guests.as_ref().map(|guests| guests.until)
    }

    /// Gives up the guests that have not come in time.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<Arc<ClientInfo>> {
        let late = self.guests.take_if(|guests| guests.until <= now);
        late.into_iter().flat_map(|guests| guests.by_user.into_values()).flatten().map(|(_, info)| info).collect()
    }

    fn drop_guests_if_empty(&mut self) {
        self.guests.take_if(|guests| guests.by_user.is_empty());
    }

    /// Everybody, for another process.
    pub(crate) fn write_down(&self) -> impl Iterator<Item = Member> {
        self.entries().map(|(client, info)| Member {
            client: Bytes::copy_from_slice(&client.0.to_be_bytes()),
            info: Some(ClientInfo::clone(info)),
        })
    }

    /// Those of another process are guests from now on. Who has no id of a client is none.
    pub(crate) fn read_in(&mut self, members: Vec<Member>, now: Time) {
        let until = now + GUESTS_TTL;
        let guests = self.guests.get_or_insert_with(|| Box::new(Guests { by_user: BTreeMap::new(), until }));
        for member in members {
            let (Ok(client), Some(info)) = (<[u8; 16]>::try_from(&*member.client), member.info) else { continue };
            let of_user = guests.by_user.entry(info.user.clone()).or_default();
            of_user.push((ClientId(u128::from_be_bytes(client)), Arc::new(info)));
        }
        self.drop_guests_if_empty();
    }
}

impl Guests {
    fn take(&mut self, user: &str) -> Option<Arc<ClientInfo>> {
        let of_user = self.by_user.get_mut(user)?;
        let (_, guest) = of_user.pop()?;
        of_user.give_back();
        if of_user.is_empty() {
            self.by_user.remove(user);
        }
        Some(guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(user: &str, client: u128) -> Arc<ClientInfo> {
        Arc::new(ClientInfo { user: user.to_owned(), client: ClientId(client).to_string(), ..ClientInfo::default() })
    }

    /// A presence that has taken in members of another process at time 0.
    fn with_guests(users: &[&str]) -> Presence {
        let mut before = Presence::default();
        for (number, user) in users.iter().enumerate() {
            before.add(ClientId(number as u128), info(user, number as u128));
        }
        let mut presence = Presence::default();
        presence.read_in(before.write_down().collect(), Time(0));
        presence
    }

    #[test]
    fn guests_count_until_they_have_come() {
        let mut presence = with_guests(&["ann", "ann", "bob"]);
        assert_eq!(presence.members().len(), 3);
        let came = presence.add(ClientId(7), info("ann", 7));
        assert!(came.is_some_and(|guest| guest.user == "ann" && guest.client != ClientId(7).to_string()));
        assert_eq!(presence.members().len(), 3);
        assert!(presence.add(ClientId(8), info("cat", 8)).is_none());
        assert!(presence.add(ClientId(7), info("ann", 7)).is_none(), "a member that is renewed is not another one");
        assert!(presence.add(ClientId(9), info("ann", 9)).is_some());
        assert!(presence.add(ClientId(10), info("ann", 10)).is_none());
        assert_eq!(presence.members().len(), 5);
    }

    #[test]
    fn guests_that_do_not_come_go() {
        let mut presence = with_guests(&["ann", "bob"]);
        let end = presence.next_expiry().expect("there are guests");
        assert_eq!(presence.expire(Time(end.0 - 1)).len(), 0);
        assert!(!presence.is_empty());
        assert_eq!(presence.expire(end).len(), 2);
        assert!(presence.is_empty() && presence.next_expiry().is_none());
    }
}
