//! A receiver of webhooks that counts: what was told of which alert, to whom and when.
//!
//! It speaks just enough HTTP/1.1 for the clients of both sides: requests with a length, connections that stay open.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::clock;

/// No message of the runs comes near this.
const BODY_BYTES_MAX: usize = 64 << 20;

/// What has come.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Messages.
    pub messages: usize,
    /// Alerts in them, repeated ones included.
    pub alerts: usize,
    /// When an alert was first told, in milliseconds since the epoch; by receiver, state and the label `id`.
    pub first_ms: HashMap<String, i64>,
    /// Messages that could not be read.
    pub faults: Vec<String>,
}

impl Received {
    /// Counts what was told for the first time: receiver and state, then how many alerts.
    pub fn told(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for key in self.first_ms.keys() {
            let (kind, _) = key.rsplit_once(' ').unwrap_or((key, ""));
            *counts.entry(kind.to_owned()).or_default() += 1;
        }
        counts
    }
}

/// A running receiver; it listens until the program ends.
#[derive(Debug)]
pub struct Webhook {
    port: u16,
    received: Arc<Mutex<Received>>,
}

impl Webhook {
    /// Starts it on a free port of loopback.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let received = Arc::new(Mutex::new(Received::default()));
        let shared = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    if let Err(error) = serve(stream, &shared) {
                        lock(&shared).faults.push(format!("{error:#}"));
                    }
                });
            }
        });
        Ok(Webhook { port, received })
    }

    /// Gives the address for a receiver of this name.
    pub fn url(&self, receiver: &str) -> String {
        format!("http://127.0.0.1:{}/{receiver}", self.port)
    }

    /// Looks at what has come so far.
    pub fn look<T>(&self, look: impl FnOnce(&Received) -> T) -> T {
        look(&lock(&self.received))
    }
}

fn lock(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: TcpStream, received: &Mutex<Received>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut answers = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        // A client may drop a connection that rests.
        if !matches!(reader.read_line(&mut line), Ok(1..)) {
            return Ok(());
        }
        let path = line.split(' ').nth(1).context("no request line")?;
        let receiver = path.trim_start_matches('/').to_owned();
        let mut length = None;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse::<usize>()?);
            }
        }
        let length = length.context("a request without a length")?;
        ensure!(length <= BODY_BYTES_MAX, "a message of {length} bytes");
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let at_ms = clock::now_ms();
        answers.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
        take(&receiver, &body, at_ms, received)?;
    }
}

fn take(receiver: &str, body: &[u8], at_ms: i64, received: &Mutex<Received>) -> Result<()> {
    let message: Value = serde_json::from_slice(body).context("a message is not JSON")?;
    let alerts = message["alerts"].as_array().context("a message has no alerts")?;
    let keys = alerts.iter().map(|alert| {
        let status = alert["status"].as_str().context("an alert has no status")?;
        let id = alert["labels"]["id"].as_str().context("an alert has no id")?;
        Ok(format!("{receiver} {status} {id}"))
    });
    let keys = keys.collect::<Result<Vec<String>>>()?;
    let mut received = lock(received);
    received.messages += 1;
    received.alerts += keys.len();
    for key in keys {
        received.first_ms.entry(key).or_insert(at_ms);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn messages_on_one_connection_are_counted_and_alerts_are_told_once() {
        let webhook = Webhook::start().expect("it starts");
        let agent = ureq::Agent::new_with_defaults();
        let body = r#"{"alerts":[{"status":"firing","labels":{"id":"1"}},{"status":"resolved","labels":{"id":"2"}}]}"#;
        for _ in 0..2 {
            agent.post(webhook.url("a")).send(body).expect("it answers");
        }
        agent.post(webhook.url("b")).send("{}").expect("it answers");
        let all = || Ok(webhook.look(|received| received.messages == 2 && received.faults.len() == 1));
        clock::poll("messages", Duration::from_secs(20), Duration::from_millis(5), all).expect("they come");
        let told = webhook.look(|received| (received.alerts, received.told()));
        let expected = BTreeMap::from([("a firing".to_owned(), 1), ("a resolved".to_owned(), 1)]);
        assert_eq!(told, (4, expected));
    }
}
