//! One key set over HTTP: small, at once, from where it is said to be and nowhere else.

use super::address::is_private;
use ringcast_state::auth::{KeySetAddress, NamedKey, decode_key_set};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

/// Time of one try, from the look-up of the name to the last byte.
const TIMEOUT: Duration = Duration::from_secs(1);

const TRIES: usize = 2;

/// Longest answer.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// What came of a fetch.
pub type Fetched = Result<Vec<NamedKey>, FetchError>;

/// Why there is no key set.
#[derive(Debug)]
pub enum FetchError {
    /// The server could not be asked, or did not answer in time.
    NoAnswer(Error),
    /// It answered with another status than 200; redirects are not followed.
    Status(u16),
    /// It answered with something that is no key set.
    NoKeySet,
    /// No thread could be started.
    Thread(io::Error),
}

/// Kept connections to the servers of key sets.
#[derive(Debug)]
pub struct Fetcher {
    open: Agent,
    /// Of hosts that come out of tokens.
    guarded: Agent,
}

impl Fetcher {
    /// Certificates are checked against those that the system trusts.
    pub fn new() -> Fetcher {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .proxy(None)
            .user_agent("ringcast")
            .tls_config(tls)
            .build();
        Fetcher {
            open: Agent::with_parts(config.clone(), DefaultConnector::default(), DefaultResolver::default()),
            guarded: Agent::with_parts(config, DefaultConnector::default(), PublicOnly::default()),
        }
    }

    /// Gets a key set. Takes two seconds at most.
    pub fn fetch(&self, address: &KeySetAddress) -> Fetched {
        let mut fetched = self.try_once(address);
        for _ in 1..TRIES {
            if fetched.is_ok() {
                break;
            }
            fetched = self.try_once(address);
        }
        fetched
    }

    fn try_once(&self, address: &KeySetAddress) -> Fetched {
        let agent = if address.is_guarded { &self.guarded } else { &self.open };
        let response = agent.get(&*address.url).call().map_err(FetchError::NoAnswer)?;
        if response.status() != 200 {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let body = response.into_body().into_with_config().limit(BODY_BYTES_MAX).read_to_vec();
        decode_key_set(&body.map_err(FetchError::NoAnswer)?).ok_or(FetchError::NoKeySet)
    }
}

/// Finds no address of the machine itself or of a private network.
#[derive(Debug, Default)]
struct PublicOnly {
    all: DefaultResolver,
}

impl Resolver for PublicOnly {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let all = self.all.resolve(uri, config, timeout)?;
        let mut public = self.empty();
        for address in all.iter().filter(|address| !is_private(address.ip())) {
            public.push(*address);
        }
        if public.is_empty() { Err(Error::HostNotFound) } else { Ok(public) }
    }
}

/// The address as a log may show it: without user, password, query and fragment.
pub fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return String::new() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        FetchError::Thread(error)
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Its text repeats the address.
            FetchError::NoAnswer(Error::BadUri(_)) => f.write_str("the address is no URL"),
            FetchError::NoAnswer(Error::HostNotFound) => {
                f.write_str("host not found, or a private address where only public ones are allowed")
            }
            FetchError::NoAnswer(Error::BodyExceedsLimit(limit)) => {
                write!(f, "the answer is longer than {limit} bytes")
            }
            FetchError::NoAnswer(error) => error.fmt(f),
            FetchError::Status(status) => write!(f, "unexpected status code {status}"),
            FetchError::NoKeySet => f.write_str("the answer is no key set"),
            FetchError::Thread(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FetchError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    const SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","kid":"a","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;

    /// Serves answers one after the other, each on a connection of its own; gives the address and the count of requests at the end.
    fn serve(answers: Vec<String>) -> (String, thread::JoinHandle<usize>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let host = listener.local_addr().expect("bound").to_string();
        let server = thread::spawn(move || {
            let mut served = 0;
            for answer in answers {
                let (mut socket, _) = listener.accept().expect("a client");
                let mut request = [0; 2048];
                let length = socket.read(&mut request).expect("a request");
                if length == 0 {
                    break;
                }
                served += 1;
                let _ = socket.write_all(answer.as_bytes());
            }
            served
        });
        (host, server)
    }

    fn answer(head: &str, body: &str) -> String {
        format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    /// Number of keys, or the error; and the number of requests.
    #[track_caller]
    fn check(answers: Vec<String>, is_guarded: bool, want: &str, requests: usize) {
        let (host, server) = serve(answers);
        let address = KeySetAddress { url: format!("http://{host}/jwks").into(), is_guarded };
        let fetched = Fetcher::new().fetch(&address);
        // Ends a server that still waits.
        let _ = std::net::TcpStream::connect(&host);
        assert_eq!(server.join().expect("no panic"), requests, "{fetched:?}");
        let got = fetched.map_or_else(|error| error.to_string(), |keys| format!("{} keys", keys.len()));
        assert_eq!(got, want);
    }

    /// U04
    #[test]
    fn a_key_set_is_got_at_the_second_try() {
        check(vec![answer("200 OK", SET), String::new()], false, "1 keys", 1);
        check(vec![answer("503 Busy", ""), answer("200 OK", SET)], false, "1 keys", 2);
        check(vec![String::new(), answer("200 OK", SET)], false, "1 keys", 2);
    }

    /// U04
    #[test]
    fn other_answers_are_errors() {
        let both = |answer: String| vec![answer.clone(), answer];
        check(both(answer("404 Gone", SET)), false, "unexpected status code 404", 2);
        check(both(answer("201 Created", SET)), false, "unexpected status code 201", 2);
        check(both(answer("200 OK", "[]")), false, "the answer is no key set", 2);
        check(both(answer("200 OK", "")), false, "the answer is no key set", 2);
        let long = format!("{SET}{}", " ".repeat(1 << 20));
        check(both(answer("200 OK", &long)), false, "the answer is longer than 1048576 bytes", 2);
    }

    /// U04
    #[test]
    fn redirects_are_not_followed() {
        let (host, server) = serve(vec![String::new()]);
        let redirect = answer(&format!("302 Found\r\nLocation: http://{host}/jwks"), "");
        check(vec![redirect.clone(), redirect], false, "unexpected status code 302", 2);
        let _ = std::net::TcpStream::connect(&host);
        assert_eq!(server.join().expect("no panic"), 0);
    }

    /// U04
    #[test]
    fn a_guarded_host_is_not_found_at_a_private_address() {
        let want = "host not found, or a private address where only public ones are allowed";
        check(vec![answer("200 OK", SET)], true, want, 0);
        for url in ["http://localhost:1/", "http://[::1]:1/", "http://[::ffff:10.0.0.1]:1/", "http://0/"] {
            let fetched = Fetcher::new().fetch(&KeySetAddress { url: url.into(), is_guarded: true });
            assert_eq!(fetched.map(|_| ()).map_err(|error| error.to_string()), Err(want.to_owned()), "{url}");
        }
    }

    #[test]
    fn logs_show_no_secrets_of_an_address() {
        for (url, want) in [
            ("https://user:secret@h:1/a?key=secret#x", "https://h:1/a"),
            ("https://h?key=secret", "https://h"),
            ("http://h/a@b", "http://h/a@b"),
            ("nothing", ""),
        ] {
            assert_eq!(without_secrets(url), want);
        }
        let broken = Fetcher::new().fetch(&KeySetAddress { url: "http://a b:secret/".into(), is_guarded: false });
        let error = broken.map(|_| ()).expect_err("no URL").to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
