//! The thread that orders: what is due, then what handshakes ask for, one at a time.

use super::cache::Cache;
use super::http;
use super::order::{account, order};
use super::store::Store;
use crate::tls::Validity;
use crate::utc;
use instant_acme::Account;
use ringcast_runtime::CertificateLine;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;
use tracing::{error, info};

/// Renewed so long before the end. Source: `autocert`'s `RenewBefore`.
const RENEW_BEFORE_SECONDS: u64 = 30 * 86_400;

/// Longest sleep: clocks are set, too.
const NAP_MAX_SECONDS: u64 = 3600;

/// Longest time of an order; what hangs must not keep the others waiting.
const ORDER_TIMEOUT: Duration = Duration::from_secs(120);

/// Where http-01 is answered; bound before anything else starts.
pub struct Listener {
    /// With the name by which another process finds it; none without http-01.
    socket: Option<(String, TcpListener)>,
}

impl Listener {
    /// Binds key `http_addr`, if http-01 is asked for and `take` has no socket of this name.
    pub fn bind(store: &Store, take: impl FnOnce(&str) -> Option<OwnedFd>) -> io::Result<Self> {
        let Some(address) = &store.options.http_addr else { return Ok(Self { socket: None }) };
        let address = if address.starts_with(':') { format!("[::]{address}") } else { address.clone() };
        let name = format!("acme {address}");
        let socket = match take(&name) {
            Some(socket) => socket.into(),
            None => TcpListener::bind(&address).map_err(|error| {
                io::Error::new(error.kind(), format!("http_server.tls_autocert.http_addr {address}: {error}"))
            })?,
        };
        socket.set_nonblocking(true)?;
        info!("serving ACME http-01 challenges on {}", socket.local_addr()?);
        Ok(Self { socket: Some((name, socket)) })
    }

    /// The socket that another process may go on with, by its name.
    pub fn spare(&self) -> io::Result<Option<(String, OwnedFd)>> {
        let copy = self.socket.as_ref().map(|(name, socket)| Ok((name.clone(), socket.try_clone()?.into())));
        copy.transpose()
    }
}

/// Starts the thread. `line` hears of every new certificate.
pub fn start(store: Arc<Store>, listener: Listener, line: CertificateLine) -> io::Result<()> {
    let cache = Cache::open(&store.options.cache_dir)?;
    let orders = store.take_orders().ok_or_else(|| io::Error::other("ACME has been started before"))?;
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let mut worker = Worker { store, cache, line, account: None };
    worker.load();
    thread::Builder::new().name("acme".to_owned()).spawn(move || {
        runtime.block_on(async {
            if let Some((_, socket)) = listener.socket
                && let Err(error) = http::serve(socket, worker.store.clone())
            {
                error!(%error, "ACME http-01 challenges are not answered");
            }
            worker.run(orders).await;
        });
    })?;
    Ok(())
}

struct Worker {
    store: Arc<Store>,
    cache: Option<Cache>,
    line: CertificateLine,
    account: Option<Account>,
}

impl Worker {
    /// Takes what the cache has of the hosts that are known by name.
    fn load(&mut self) {
        for host in self.store.options.host_whitelist.clone() {
            if let Some(host) = self.store.allowed(&host) {
                self.load_host(&host);
            }
        }
    }

    fn load_host(&self, host: &str) -> bool {
        let found = self.cache.as_ref().and_then(|cache| cache.certificate(host));
        let Some(certificate) = found.filter(|found| found.validity.not_after > utc::now()) else { return false };
        info!(host, until = utc::rfc3339(certificate.validity.not_after), "certificate of the cache");
        self.store.add(host, certificate);
        true
    }

    async fn run(mut self, mut orders: Receiver<String>) {
        loop {
            let now = utc::now();
            let mut next = now + NAP_MAX_SECONDS;
            for (host, due) in self.due() {
                if due <= now {
                    self.obtain(&host).await;
                    // It is due later now, be it that it failed.
                    next = now;
                } else {
                    next = next.min(due);
                }
            }
            let nap = Duration::from_secs(next.saturating_sub(utc::now()));
            match timeout(nap, orders.recv()).await {
                Ok(Some(host)) => self.wanted(&host).await,
                Ok(None) => return,
                Err(_) => {}
            }
        }
    }

    /// Hosts, and when each is due.
    fn due(&self) -> Vec<(String, u64)> {
        let listed = self.store.options.host_whitelist.iter().filter_map(|host| self.store.allowed(host));
        let mut hosts: Vec<_> = listed.chain(self.store.hosts()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let due = |host: String| {
            let renewal = self.store.certificate(&host).map_or(0, |found| renew_at(found.validity));
            let at = renewal.max(self.store.retry_at(&host));
            (host, at)
        };
        hosts.into_iter().map(due).collect()
    }

    /// A handshake waits for it, or did and many asked.
    async fn wanted(&mut self, host: &str) {
        let now = utc::now();
        let is_there = self.store.certificate(host).is_some_and(|found| found.validity.not_after >= now);
        if is_there || self.store.retry_at(host) > now || self.load_host(host) {
            self.line.changed();
        } else {
            self.obtain(host).await;
        }
    }

    /// Orders, and tells the shards whatever came of it, so that nobody waits for nothing.
    async fn obtain(&mut self, host: &str) {
        info!(host, directory = self.store.options.directory_url, "ordering a certificate");
        let ordered = match timeout(ORDER_TIMEOUT, self.try_obtain(host)).await {
            Ok(ordered) => ordered,
            Err(_) => Err(format!("nothing came of it within {} s", ORDER_TIMEOUT.as_secs())),
        };
        if let Err(error) = ordered {
            let wait = self.store.add_failure(host);
            error!(host, error, retry_in_seconds = wait, "no certificate");
        }
        self.line.changed();
    }

    async fn try_obtain(&mut self, host: &str) -> Result<(), String> {
        let text = |error: Box<dyn std::error::Error>| error.to_string();
        if self.account.is_none() {
            self.account = Some(account(&self.store, self.cache.as_ref()).await.map_err(text)?);
        }
        let Some(account) = &self.account else { return Ok(()) };
        let (certificate, file) = order(&self.store, account, host).await.map_err(text)?;
        info!(host, until = utc::rfc3339(certificate.validity.not_after), "certificate obtained");
        self.store.add(host, certificate);
        if let Some(Err(error)) = self.cache.as_ref().map(|cache| cache.put_certificate(host, &file)) {
            error!(host, %error, "the certificate cannot be written to http_server.tls_autocert.cache_dir");
        }
        Ok(())
    }
}

/// 30 days before the end, or a third of a life that is shorter than 90.
fn renew_at(validity: Validity) -> u64 {
    let life = validity.not_after.saturating_sub(validity.not_before);
    validity.not_after - RENEW_BEFORE_SECONDS.min(life / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_renewed_in_the_last_third_of_their_life_or_30_days_before_its_end() {
        let day = 86_400;
        let at = |from: u64, until: u64| renew_at(Validity { not_before: from * day, not_after: until * day });
        assert_eq!([at(0, 90), at(0, 365), at(100, 106)], [60 * day, 335 * day, 104 * day]);
    }
}
