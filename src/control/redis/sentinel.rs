//! Sentinels: which server is master now. They are asked before every connection, and again and again while there is one, for a
//! server that was replaced may stay connected: what it is asked then is lost, and it tells nothing any more.

use super::connection::{Connection, within};
use super::options::{Address, Endpoint, Sentinels};
use ringcast_proto::redis::Value;
use std::io;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Time between two questions. Whoever waits to connect does so at once when another master is named.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Says who is master for as long as somebody listens. What sentinels do not know changes nothing.
pub async fn watch(sentinels: Sentinels, endpoint: Endpoint, places: watch::Sender<Vec<Address>>) {
    let mut asked = None;
    while !places.is_closed() {
        sleep(ASK_EVERY).await;
        let answer = within(endpoint.io_timeout, ask_again(&mut asked, &sentinels, &endpoint)).await;
        match answer {
            Ok(master) => drop(places.send_if_modified(|known| {
                let is_new = known.first() != Some(&master);
                *known = vec![master];
                is_new
            })),
            Err(_) => asked = None,
        }
    }
}

/// Asks the sentinel that was asked before, or the first that answers.
async fn ask_again(asked: &mut Option<Connection>, sentinels: &Sentinels, endpoint: &Endpoint) -> io::Result<Address> {
    if let Some(connection) = asked {
        return ask(connection, sentinels).await;
    }
    let (connection, master) = find(sentinels, endpoint).await?;
    *asked = Some(connection);
    Ok(master)
}

/// Where the master is.
pub async fn find_master(sentinels: &Sentinels, endpoint: &Endpoint) -> io::Result<Address> {
    find(sentinels, endpoint).await.map(|(_, master)| master)
}

/// Where replicas are that have all of their master, as far as a sentinel knows.
pub async fn find_replicas(sentinels: &Sentinels, endpoint: &Endpoint) -> io::Result<Vec<Address>> {
    let (mut connection, _) = find(sentinels, endpoint).await?;
    let question: &[&[u8]] = &[b"SENTINEL", b"REPLICAS", sentinels.master.as_bytes()];
    let answer = connection.ask(&[question]).await?.pop().and_then(Value::into_array).unwrap_or_default();
    Ok(answer.into_iter().filter_map(Value::into_array).filter_map(|fields| healthy(&fields)).collect())
}

/// Names and values in turn.
fn healthy(fields: &[Value]) -> Option<Address> {
    let text = |value: &Value| value.text().and_then(|text| String::from_utf8(text.to_vec()).ok());
    let field = |name: &str| fields.chunks_exact(2).find(|pair| text(&pair[0]).as_deref() == Some(name))?[1].text();
    let word = |name: &str| field(name).and_then(|text| std::str::from_utf8(text).ok());
    let is_up = word("flags")? == "slave" && word("master-link-status")? == "ok";
    if is_up { Some(Address::of(word("ip")?, word("port")?)) } else { None }
}

/// Asks one sentinel after the other, each for its share of the time.
async fn find(sentinels: &Sentinels, endpoint: &Endpoint) -> io::Result<(Connection, Address)> {
    let share = endpoint.connect_timeout / (sentinels.addresses.len() as u32 + 1);
    let mut last = io::Error::other("no sentinel is configured");
    for address in &sentinels.addresses {
        let attempt = async {
            let mut connection = Connection::dial(address, endpoint.sentinel_tls.as_ref()).await?;
            connection.greet(&sentinels.login, endpoint.force_resp2).await?;
            let master = ask(&mut connection, sentinels).await?;
            Ok((connection, master))
        };
        match within(share, attempt).await {
            Ok(found) => return Ok(found),
            Err(error) => last = io::Error::new(error.kind(), format!("sentinel {address}: {error}")),
        }
    }
    Err(last)
}

async fn ask(connection: &mut Connection, sentinels: &Sentinels) -> io::Result<Address> {
    let question: &[&[u8]] = &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", sentinels.master.as_bytes()];
    let answer = connection.ask(&[question]).await?.pop().and_then(Value::into_array).unwrap_or_default();
    let text = |index: usize| answer.get(index).and_then(Value::text).and_then(|text| std::str::from_utf8(text).ok());
    match (text(0), text(1)) {
        (Some(host), Some(port)) => Ok(Address::of(host, port)),
        _ => Err(io::Error::other(format!("it knows no master {}", sentinels.master))),
    }
}
