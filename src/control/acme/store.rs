//! What the shards look up in a handshake: certificates by host, and certificates that answer challenges.

use super::AcmeOptions;
use crate::tls::Certificate;
use crate::utc;
use ringcast_runtime::tls::{ACME_PROTOCOL, OnDemand, Readiness};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Hosts that wait to be ordered; handshakes for more fail at once.
const WANTED_MAX: usize = 64;

/// Hosts whose last order failed and that are not asked for again too early; when there are more, they are forgotten.
const FAILED_MAX: usize = 1024;

/// Waits after the first failed order of a host, doubled up to the longest. Let's Encrypt allows five failures an hour.
const RETRY_MIN_SECONDS: u64 = 60;
const RETRY_MAX_SECONDS: u64 = 3600;

/// Longest name that DNS has.
const HOST_BYTES_MAX: usize = 253;

/// Shared by shards and worker; locked for a look in the map.
pub struct Store {
    pub options: AcmeOptions,
    held: RwLock<Held>,
    wanted: Sender<String>,
    /// Until the worker takes it.
    orders: Mutex<Option<Receiver<String>>>,
}

#[derive(Default)]
struct Held {
    certificates: HashMap<String, Certificate>,
    challenges: HashMap<String, Arc<CertifiedKey>>,
    /// Answers of http-01 by token.
    tokens: HashMap<String, String>,
    failed: HashMap<String, Failed>,
}

struct Failed {
    times: u32,
    retry_at: u64,
}

impl Store {
    pub fn new(options: AcmeOptions) -> Arc<Self> {
        let (wanted, orders) = channel(WANTED_MAX);
        Arc::new(Self { options, held: RwLock::default(), wanted, orders: Mutex::new(Some(orders)) })
    }

    /// Hosts that handshakes ask for; once only.
    pub fn take_orders(&self) -> Option<Receiver<String>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A host as certificates have it, if it may have one.
    pub fn allowed(&self, host: &str) -> Option<String> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let list = &self.options.host_whitelist;
        let is_listed = list.is_empty() || list.iter().any(|listed| listed.eq_ignore_ascii_case(&host));
        let is_name = host.len() <= HOST_BYTES_MAX && host.contains('.') && !host.contains(['/', '\\']);
        // A listed name may be one word, which only an authority of one's own signs.
        (is_listed && (is_name || !list.is_empty())).then_some(host)
    }

    /// The certificate of a host.
    pub fn certificate(&self, host: &str) -> Option<Certificate> {
        self.read(|held| held.certificates.get(host).cloned())
    }

    /// Hosts with a certificate.
    pub fn hosts(&self) -> Vec<String> {
        self.read(|held| held.certificates.keys().cloned().collect())
    }

    /// When an order of this host may be tried, Unix seconds; 0 at once.
    pub fn retry_at(&self, host: &str) -> u64 {
        self.read(|held| held.failed.get(host).map_or(0, |failed| failed.retry_at))
    }

    /// The answer of http-01.
    pub fn token(&self, token: &str) -> Option<String> {
        self.read(|held| held.tokens.get(token).cloned())
    }

    pub fn add(&self, host: &str, certificate: Certificate) {
        self.write(|held| {
            held.failed.remove(host);
            held.certificates.insert(host.to_owned(), certificate);
        });
    }

    /// An order failed; gives the seconds until the next try.
    pub fn add_failure(&self, host: &str) -> u64 {
        self.write(|held| {
            if held.failed.len() >= FAILED_MAX && !held.failed.contains_key(host) {
                held.failed.clear();
            }
            let failed = held.failed.entry(host.to_owned()).or_insert(Failed { times: 0, retry_at: 0 });
            let wait = (RETRY_MIN_SECONDS << failed.times.min(16)).min(RETRY_MAX_SECONDS);
            failed.times = failed.times.saturating_add(1);
            failed.retry_at = utc::now() + wait;
            wait
        })
    }

    pub fn present_tls(&self, host: &str, answer: Arc<CertifiedKey>) {
        self.write(|held| held.challenges.insert(host.to_owned(), answer));
    }

    pub fn present_http(&self, token: &str, answer: String) {
        self.write(|held| held.tokens.insert(token.to_owned(), answer));
    }

    /// No order is under way any more.
    pub fn withdraw_challenges(&self) {
        self.write(|held| {
            held.challenges.clear();
            held.tokens.clear();
        });
    }

    fn read<T>(&self, read: impl FnOnce(&Held) -> T) -> T {
        read(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Held) -> T) -> T {
        write(&mut self.held.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The host of a handshake.
    fn host(&self, hello: &ClientHello<'_>) -> Option<String> {
        let name = hello.server_name().unwrap_or(&self.options.server_name);
        self.allowed(name).filter(|host| !host.is_empty())
    }
}

fn is_challenge(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut names| names.any(|name| name == ACME_PROTOCOL))
}

impl ResolvesServerCert for Store {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if is_challenge(&hello) {
            let host = hello.server_name()?.to_ascii_lowercase();
            return self.read(|held| held.challenges.get(&host).cloned());
        }
        let host = self.host(&hello)?;
        self.read(|held| held.certificates.get(&host).map(|found| found.certified.clone()))
    }
}

impl OnDemand for Store {
    fn look_up(&self, hello: &ClientHello<'_>) -> Readiness {
        if is_challenge(hello) {
            return Readiness::Ready;
        }
        let Some(host) = self.host(hello) else { return Readiness::Ready };
        let now = utc::now();
        if self.certificate(&host).is_some_and(|found| found.validity.not_after >= now) || self.retry_at(&host) > now {
            return Readiness::Ready;
        }
        match self.wanted.try_send(host) {
            Ok(()) => Readiness::Pending,
            Err(_) => Readiness::Ready,
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(hosts: &[&str]) -> Arc<Store> {
        Store::new(AcmeOptions {
            host_whitelist: hosts.iter().map(|host| (*host).to_owned()).collect(),
            cache_dir: String::new(),
            email: String::new(),
            server_name: String::new(),
            http_addr: None,
            directory_url: String::new(),
            directory_ca_file: String::new(),
        })
    }

    #[test]
    fn only_listed_hosts_are_allowed_and_any_name_without_a_list() {
        let listed = store(&["a.example", "localhost"]);
        assert_eq!(listed.allowed("A.Example.").as_deref(), Some("a.example"));
        assert_eq!(listed.allowed("localhost").as_deref(), Some("localhost"));
        assert_eq!(listed.allowed("b.a.example"), None);
        let open = store(&[]);
        assert_eq!(open.allowed("b.example").as_deref(), Some("b.example"));
        for host in ["", "localhost", "../../x.y", &"a.".repeat(200)] {
            assert_eq!(open.allowed(host), None, "{host}");
        }
    }

    #[test]
    fn failed_hosts_wait_longer_each_time() {
        let store = store(&[]);
        let waits: Vec<_> = (0..9).map(|_| store.add_failure("a.example")).collect();
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        assert!(store.retry_at("a.example") > utc::now() && store.retry_at("b.example") == 0);
    }
}
