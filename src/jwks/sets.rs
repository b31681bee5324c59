//! Which key sets are known, which are being fetched, and when one may be fetched again. Time and results are inputs.

use ringcast_state::auth::{KeyAnswer, KeyQuestion, KeySetAddress, NamedKey, PublicKey};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a set is used without asking for it again.
const KEPT: Duration = Duration::from_secs(3600);

/// How often a set may be fetched for ids that it does not have: so many times in the period.
const FETCHES_MAX: usize = 2;
const FETCHES_PERIOD: Duration = Duration::from_secs(60);

/// How long an id counts as absent from a set without looking again.
const ABSENT: Duration = Duration::from_secs(60);

/// Absent ids that are remembered of a set.
const ABSENT_MAX: usize = 256;

/// Wait after a failed fetch.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Endpoints that are remembered; the one that was not asked for longest goes.
const ENDPOINTS_MAX: usize = 256;

/// Fetches at a time; more wait.
const IN_FLIGHT_MAX: usize = 16;

/// Questions that wait for one fetch; more are answered with no.
const WAITING_MAX: usize = 4096;

/// Key sets by address. `W` is who asks.
///
/// Bound: 256 endpoints of a set of at most 1 MiB each, 16 fetches at a time, and the constants above.
#[derive(Debug)]
pub struct Sets<W> {
    endpoints: HashMap<KeySetAddress, Endpoint<W>>,
    /// Wait for a fetch, oldest first.
    queue: VecDeque<KeySetAddress>,
    in_flight: usize,
}

#[derive(Debug)]
struct Endpoint<W> {
    keys: HashMap<String, Arc<PublicKey>>,
    fetched_at: Option<Instant>,
    failed_at: Option<Instant>,
    asked_at: Instant,
    /// The last fetches, oldest first.
    fetches: VecDeque<Instant>,
    absent: HashMap<String, Instant>,
    /// Wait for the fetch that is under way or queued; nobody waits, none is.
    waiting: Vec<(W, Arc<KeyQuestion>)>,
}

impl<W> Default for Sets<W> {
    fn default() -> Self {
        Sets { endpoints: HashMap::new(), queue: VecDeque::new(), in_flight: 0 }
    }
}

impl<W> Sets<W> {
    /// The answer, or `None` when it will come out of `finish`.
    pub fn ask(&mut self, now: Instant, who: W, question: Arc<KeyQuestion>) -> Option<KeyAnswer> {
        let no = no(&question);
        if !self.endpoints.contains_key(&question.address) && !self.make_room() {
            return Some(no);
        }
        let endpoint = self.endpoints.entry(question.address.clone()).or_insert_with(|| Endpoint::new(now));
        endpoint.asked_at = now;
        if let Some((key, valid_for)) = endpoint.get(now, &question.kid) {
            return Some(KeyAnswer { question, key: Some(key), valid_for });
        }
        if endpoint.waiting.is_empty() {
            if !endpoint.may_fetch(now, &question.kid) {
                return Some(no);
            }
            self.queue.push_back(question.address.clone());
        } else if endpoint.waiting.len() >= WAITING_MAX {
            return Some(no);
        }
        endpoint.waiting.push((who, question));
        None
    }

    /// A set to fetch now; `finish` must follow for each.
    pub fn take_fetch(&mut self) -> Option<KeySetAddress> {
        if self.in_flight >= IN_FLIGHT_MAX {
            return None;
        }
        let address = self.queue.pop_front()?;
        self.in_flight += 1;
        Some(address)
    }

    /// A fetch has ended; `None` when it failed. Gives back the answers for all who waited.
    pub fn finish(
        &mut self,
        now: Instant,
        address: &KeySetAddress,
        keys: Option<Vec<NamedKey>>,
    ) -> Vec<(W, KeyAnswer)> {
        self.in_flight -= 1;
        let Some(endpoint) = self.endpoints.get_mut(address) else { return Vec::new() };
        endpoint.finish(now, keys);
        let waiting = std::mem::take(&mut endpoint.waiting);
        let answers = waiting.into_iter().map(|(who, question)| {
            let answer = match endpoint.get(now, &question.kid) {
                Some((key, valid_for)) => KeyAnswer { question, key: Some(key), valid_for },
                None => no(&question),
            };
            (who, answer)
        });
        answers.collect()
    }

    /// Forgets everything but who waits.
    pub fn clear(&mut self) {
        self.endpoints.retain(|_, endpoint| !endpoint.waiting.is_empty());
        for endpoint in self.endpoints.values_mut() {
            endpoint.keys.clear();
            endpoint.fetched_at = None;
        }
    }

    /// Room for one more endpoint; false when all are being fetched.
    fn make_room(&mut self) -> bool {
        if self.endpoints.len() < ENDPOINTS_MAX {
            return true;
        }
        let idle = self.endpoints.iter().filter(|(_, endpoint)| endpoint.waiting.is_empty());
        let oldest = idle.min_by_key(|(_, endpoint)| endpoint.asked_at).map(|(address, _)| address.clone());
        oldest.is_some_and(|address| self.endpoints.remove(&address).is_some())
    }
}

impl<W> Endpoint<W> {
    fn new(now: Instant) -> Self {
        Endpoint {
            keys: HashMap::new(),
            fetched_at: None,
            failed_at: None,
            asked_at: now,
            fetches: VecDeque::new(),
            absent: HashMap::new(),
            waiting: Vec::new(),
        }
    }

    /// How long the set is good for; `None` when there is none.
    fn good_for(&self, now: Instant) -> Option<Duration> {
        let left = KEPT.saturating_sub(now.duration_since(self.fetched_at?));
        Some(left).filter(|left| !left.is_zero())
    }

    fn get(&self, now: Instant, kid: &str) -> Option<(Arc<PublicKey>, Duration)> {
        let good_for = self.good_for(now)?;
        self.keys.get(kid).map(|key| (key.clone(), good_for))
    }

    /// Whether it is worth a fetch that a key is not there. The first unknown ids are, so that a new key works at once; a flood of
    /// them is not.
    fn may_fetch(&mut self, now: Instant, kid: &str) -> bool {
        let is_within = |at: &Instant, span: Duration| now.duration_since(*at) < span;
        if self.failed_at.is_some_and(|at| is_within(&at, FAILED_PAUSE)) {
            return false;
        }
        if self.good_for(now).is_none() {
            return true;
        }
        self.fetches.retain(|at| is_within(at, FETCHES_PERIOD));
        let is_absent = self.absent.get(kid).is_some_and(|at| is_within(at, ABSENT));
        !is_absent && self.fetches.len() < FETCHES_MAX
    }

    fn finish(&mut self, now: Instant, keys: Option<Vec<NamedKey>>) {
        self.fetches.push_back(now);
        if self.fetches.len() > FETCHES_MAX {
            self.fetches.pop_front();
        }
        let Some(keys) = keys else {
            self.failed_at = Some(now);
            return;
        };
        self.failed_at = None;
        self.fetched_at = Some(now);
        self.keys = keys.into_iter().map(|named| (named.kid, named.key)).collect();
        self.absent.clear();
        let absent = self.waiting.iter().map(|(_, question)| &question.kid).filter(|kid| !self.keys.contains_key(*kid));
        self.absent.extend(absent.take(ABSENT_MAX).map(|kid| (kid.clone(), now)));
    }
}

fn no(question: &Arc<KeyQuestion>) -> KeyAnswer {
    KeyAnswer { question: question.clone(), key: None, valid_for: Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringcast_state::auth::decode_key_set;

    /// Sets asked by one who gives each question a number; time in seconds.
    struct Desk {
        sets: Sets<u32>,
        start: Instant,
        asked: u32,
    }

    impl Desk {
        fn new() -> Self {
            Desk { sets: Sets::default(), start: Instant::now(), asked: 0 }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        /// `yes`, `no` or `wait`.
        fn ask(&mut self, seconds: u64, host: &str, kid: &str) -> &'static str {
            self.asked += 1;
            let question = Arc::new(KeyQuestion { address: address(host), kid: kid.to_owned() });
            match self.sets.ask(self.at(seconds), self.asked, question) {
                None => "wait",
                Some(answer) if answer.key.is_some() => "yes",
                Some(_) => "no",
            }
        }

        /// Ends a fetch with keys of these ids, or fails it; who was answered, with yes or no.
        fn finish(&mut self, seconds: u64, host: &str, kids: Option<&[&str]>) -> Vec<(u32, bool)> {
            assert_eq!(self.sets.take_fetch(), Some(address(host)));
            let answers = self.sets.finish(self.at(seconds), &address(host), kids.map(keys));
            answers.into_iter().map(|(who, answer)| (who, answer.key.is_some())).collect()
        }
    }

    fn address(host: &str) -> KeySetAddress {
        KeySetAddress { url: format!("http://{host}/jwks").into(), is_guarded: false }
    }

    fn keys(kids: &[&str]) -> Vec<NamedKey> {
        let key = |kid: &&str| {
            format!(r#"{{"kty":"OKP","crv":"Ed25519","use":"sig","kid":"{kid}","x":"{}"}}"#, "A".repeat(43))
        };
        let keys: Vec<String> = kids.iter().map(key).collect();
        decode_key_set(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).expect("a set")
    }

    /// U04
    #[test]
    fn one_fetch_serves_all_who_wait_and_everybody_for_an_hour() {
        let mut desk = Desk::new();
        assert_eq!([desk.ask(0, "h", "a"), desk.ask(0, "h", "b"), desk.ask(0, "h", "x")], ["wait"; 3]);
        assert_eq!(desk.finish(1, "h", Some(&["a", "b"])), [(1, true), (2, true), (3, false)]);
        assert_eq!(desk.sets.take_fetch(), None);
        assert_eq!(desk.ask(3600, "h", "b"), "yes");
        assert_eq!(desk.ask(3601, "h", "b"), "wait");
    }

    /// U04
    #[test]
    fn a_new_key_works_at_once() {
        let mut desk = Desk::new();
        desk.ask(0, "h", "a");
        desk.finish(0, "h", Some(&["a"]));
        assert_eq!(desk.ask(1, "h", "b"), "wait");
        assert_eq!(desk.finish(1, "h", Some(&["b"])), [(2, true)]);
        assert_eq!(desk.ask(2, "h", "a"), "no", "it is gone from the set");
    }

    /// U04
    #[test]
    fn unknown_ids_cost_two_fetches_a_minute() {
        let mut desk = Desk::new();
        desk.ask(0, "h", "a");
        desk.finish(0, "h", Some(&["a"]));
        let mut fetches = 0;
        for second in 1..=120 {
            if desk.ask(second, "h", &format!("x{second}")) == "wait" {
                desk.finish(second, "h", Some(&["a"]));
                fetches += 1;
            }
            assert_eq!(desk.ask(second, "h", "a"), "yes");
        }
        // In seconds 1, 60 and 61, and 120: with the first one, never more than two in a minute.
        assert_eq!(fetches, 4);
    }

    /// U04
    #[test]
    fn an_id_that_is_not_there_is_not_looked_for_again_for_a_minute() {
        let mut desk = Desk::new();
        desk.ask(0, "h", "x");
        desk.finish(0, "h", Some(&["a"]));
        assert_eq!(desk.ask(59, "h", "x"), "no");
        assert_eq!(desk.ask(60, "h", "x"), "wait");
    }

    /// U04
    #[test]
    fn after_a_failure_comes_a_short_pause() {
        let mut desk = Desk::new();
        assert_eq!([desk.ask(0, "h", "a"), desk.ask(0, "h", "b")], ["wait"; 2]);
        assert_eq!(desk.finish(2, "h", None), [(1, false), (2, false)]);
        assert_eq!(desk.ask(2, "h", "a"), "no");
        for second in 3..10 {
            assert_eq!(desk.ask(second, "h", "a"), "wait", "there is no set: every second one may be asked for");
            desk.finish(second, "h", None);
        }
        desk.ask(10, "h", "a");
        assert_eq!(desk.finish(10, "h", Some(&["a"])), [(11, true)]);
        assert_eq!(desk.ask(10, "h", "a"), "yes");
    }

    /// U04
    #[test]
    fn sets_of_two_endpoints_do_not_mix() {
        let mut desk = Desk::new();
        desk.ask(0, "h", "a");
        desk.finish(0, "h", Some(&["a"]));
        assert_eq!(desk.ask(0, "other", "a"), "wait");
        assert_eq!(desk.finish(0, "other", Some(&["b"])), [(2, false)]);
        let guarded = KeySetAddress { is_guarded: true, ..address("h") };
        let question = Arc::new(KeyQuestion { address: guarded, kid: "a".to_owned() });
        assert!(desk.sets.ask(desk.at(0), 3, question).is_none(), "asked under another rule");
    }

    #[test]
    fn sixteen_are_fetched_at_a_time_and_the_others_wait() {
        let mut desk = Desk::new();
        for host in 0..20 {
            assert_eq!(desk.ask(0, &host.to_string(), "a"), "wait");
        }
        let begun: Vec<_> = std::iter::from_fn(|| desk.sets.take_fetch()).collect();
        assert_eq!(begun.len(), IN_FLIGHT_MAX);
        desk.sets.finish(desk.at(1), &begun[3], None);
        assert_eq!(desk.sets.take_fetch(), Some(address("16")));
        assert_eq!(desk.sets.take_fetch(), None);
    }

    #[test]
    fn the_endpoint_not_asked_for_longest_makes_room() {
        let mut desk = Desk::new();
        for host in 0..ENDPOINTS_MAX as u64 {
            desk.ask(host, &host.to_string(), "a");
            desk.finish(host, &host.to_string(), Some(&["a"]));
        }
        assert_eq!(desk.ask(300, "0", "a"), "yes");
        assert_eq!(desk.ask(301, "new", "a"), "wait");
        assert_eq!(desk.ask(302, "0", "a"), "yes");
        assert_eq!(desk.ask(302, "1", "a"), "wait", "forgotten");
        assert!(desk.sets.endpoints.len() <= ENDPOINTS_MAX);
    }

    #[test]
    fn no_number_of_questions_fills_the_memory() {
        let mut desk = Desk::new();
        for index in 0..WAITING_MAX {
            assert_eq!(desk.ask(0, "h", &index.to_string()), "wait");
        }
        assert_eq!(desk.ask(0, "h", "one more"), "no");
        assert_eq!(desk.finish(0, "h", Some(&["0"])).len(), WAITING_MAX);
        assert_eq!(desk.sets.endpoints[&address("h")].absent.len(), ABSENT_MAX);
        for host in 0..ENDPOINTS_MAX {
            desk.ask(0, &host.to_string(), "a");
        }
        assert_eq!(desk.ask(0, "no room", "a"), "no", "all others are being fetched");
    }

    /// L10
    #[test]
    fn keys_are_forgotten_and_those_who_wait_are_not() {
        let mut desk = Desk::new();
        desk.ask(0, "h", "a");
        desk.finish(0, "h", Some(&["a"]));
        desk.ask(0, "slow", "a");
        desk.sets.clear();
        assert_eq!(desk.finish(1, "slow", Some(&["a"])), [(2, true)]);
        assert_eq!(desk.ask(1, "h", "a"), "wait");
    }
}
