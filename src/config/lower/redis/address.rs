//! An address of a Redis with all that it may say: `redis://user:password@host:port/db?option=value`. Source: config §4.2.

use crate::config::duration;
use crate::control::redis::{Address, Endpoint, Login, Place, Sentinels, Tls};
use crate::tls::ClientTls;
use std::time::Duration;

/// What may stand before `://`.
const SCHEMES: [&str; 7] = ["redis", "rediss", "tcp", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster"];

/// What the keys of a Redis connection say where the address says nothing.
pub struct Base {
    /// The place is not looked at.
    pub endpoint: Endpoint,
    /// Config key `sentinel_master_name`.
    pub master: String,
    /// Config keys `sentinel_user`, `sentinel_password`, `sentinel_client_name`.
    pub sentinel_login: Login,
}

/// `host:port`, `redis://`, `rediss://` or `tcp://` with `[user:password@]host:port[/db]`, `unix://[user:password@]path`,
/// `redis+sentinel://host:port?sentinel_master_name=name`, `redis+cluster://host:port`, each with options behind a question mark.
pub fn read(base: &Base, address: &str) -> Result<Endpoint, String> {
    let mut endpoint = base.endpoint.clone();
    let (scheme, rest) = address.split_once("://").unwrap_or(("redis", address));
    if !SCHEMES.contains(&scheme) {
        return Err(format!("address begins with {scheme}://, expected one of {}", SCHEMES.join(", ")));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let options = Options::read(query)?;
    let rest = take_login(rest, &mut endpoint.login)?;
    let is_sentinel = scheme.ends_with("+sentinel") || options.get("sentinel_master_name").is_some();
    options.apply(&mut endpoint)?;
    if scheme.starts_with("rediss") {
        secure(&mut endpoint.tls)?;
        if is_sentinel {
            secure(&mut endpoint.sentinel_tls)?;
        }
    }
    let mut addresses = vec![match scheme {
        "unix" => Address::Unix(rest.into()),
        _ => {
            let (host, db) = rest.split_once('/').unwrap_or((rest, ""));
            if !db.is_empty() {
                endpoint.db =
                    db.parse().map_err(|_| format!("address names the database {db:?}, expected a number"))?;
            }
            server(host)?
        }
    }];
    for more in options.all("addr") {
        addresses.push(server(more)?);
    }
    endpoint.place = if is_sentinel {
        let master = options.get("sentinel_master_name").unwrap_or(&base.master).to_owned();
        if master.is_empty() {
            return Err("address has no option sentinel_master_name, expected the name that the sentinels know".into());
        }
        let mut login = base.sentinel_login.clone();
        options.take("sentinel_user", &mut login.user);
        options.take("sentinel_password", &mut login.password);
        Place::Sentinel(Sentinels { addresses, master, login })
    } else if scheme == "redis+cluster" || addresses.len() > 1 {
        Place::Cluster(addresses)
    } else {
        Place::Fixed(addresses.remove(0))
    };
    Ok(endpoint)
}

/// `host[:port]`.
fn server(address: &str) -> Result<Address, String> {
    if address.is_empty() {
        return Err("address names no host, expected host:port".to_owned());
    }
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(Address::Tcp(if has_port { address.to_owned() } else { format!("{address}:6379") }))
}

/// The part behind `user:password@`, whose words replace those of the keys unless they are empty.
fn take_login<'a>(rest: &'a str, login: &mut Login) -> Result<&'a str, String> {
    let Some((words, rest)) = rest.rsplit_once('@') else { return Ok(rest) };
    let (user, password) = words.split_once(':').map_or((words, None), |(user, password)| (user, Some(password)));
    if !user.is_empty() {
        login.user = decoded(user)?;
    }
    if let Some(password) = password {
        login.password = decoded(password)?;
    }
    Ok(rest)
}

/// TLS with the authorities of the system, where the keys do not say more.
fn secure(tls: &mut Option<Tls>) -> Result<(), String> {
    if tls.is_none() {
        let system = ClientTls::system().map_err(|error| format!("address wants TLS: {error}"))?;
        *tls = Some(system.into());
    }
    Ok(())
}

/// What stands behind the question mark.
struct Options(Vec<(String, String)>);

impl Options {
    /// All that are known.
    const KNOWN: [&str; 10] = [
        "addr",
        "connect_timeout",
        "io_timeout",
        "tls_enabled",
        "force_resp2",
        "sentinel_master_name",
        "sentinel_user",
        "sentinel_password",
        "sentinel_tls_enabled",
        "replica_client_enabled",
    ];

    fn read(query: &str) -> Result<Self, String> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !Self::KNOWN.contains(&name) {
                return Err(format!("address has the option {name}, expected one of {}", Self::KNOWN.join(", ")));
            }
            Ok((name.to_owned(), decoded(&value.replace('+', " "))?))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// A text that is set where the option is there.
    fn take(&self, name: &str, target: &mut String) {
        if let Some(value) = self.get(name) {
            value.clone_into(target);
        }
    }

    fn duration(&self, name: &str, target: &mut Duration) -> Result<(), String> {
        let Some(text) = self.get(name) else { return Ok(()) };
        let wrong = || format!("address has {name}={text}, expected a duration such as 2s");
        let span = duration::parse(text).and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
        *target = Duration::from_nanos(span.filter(|span| *span > 0).ok_or_else(wrong)?);
        Ok(())
    }

    fn bool(&self, name: &str) -> Result<Option<bool>, String> {
        match self.get(name) {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(Some(false)),
            Some(text) => Err(format!("address has {name}={text}, expected true or false")),
        }
    }

    fn apply(&self, endpoint: &mut Endpoint) -> Result<(), String> {
        self.duration("connect_timeout", &mut endpoint.connect_timeout)?;
        self.duration("io_timeout", &mut endpoint.io_timeout)?;
        if self.bool("tls_enabled")? == Some(true) {
            secure(&mut endpoint.tls)?;
        }
        if self.bool("sentinel_tls_enabled")? == Some(true) {
            secure(&mut endpoint.sentinel_tls)?;
        }
        if let Some(is_on) = self.bool("force_resp2")? {
            endpoint.force_resp2 = is_on;
        }
        if let Some(is_on) = self.bool("replica_client_enabled")? {
            endpoint.has_replica_client = is_on;
        }
        Ok(())
    }
}

/// Percent signs of a URL, read.
pub fn decoded(text: &str) -> Result<String, String> {
    let broken = || "address has a broken percent sign".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2).ok_or_else(broken)?;
        let digits = std::str::from_utf8(digits).map_err(|_| broken())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| broken())?);
        rest = behind;
    }
    String::from_utf8(bytes).map_err(|_| broken())
}
