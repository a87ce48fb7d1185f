//! A world of HTTP in memory: named hosts that serve text or take messages, in good and in bad weather.
//!
//! It stands in the place of the outbound door, so that a whole process can live in simulated time: slowness and
//! time-outs are measured by the given clock, and nothing touches a socket.
//! Deliberately absent: TLS, redirects, compression; those belong to the real door's own tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, Uri};
use bytes::Bytes;
use marketprism_model::{BoxFuture, Clock, Timestamp};
use marketprism_net::{NetError, Request, Response, Transport};

const EXPOSITION: &str = "text/plain; version=0.0.4";

/// How a host meets its requests until it is told otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Weather {
    /// It answers at once.
    #[default]
    Fair,
    /// Nobody answers at its address.
    Away,
    /// It answers after so long; a shorter time-out passes first.
    Slow(Duration),
    /// It never answers.
    Hangs,
    /// It answers with this status and, when given, a `Retry-After` of so many seconds.
    Refuses(u16, Option<u64>),
    /// It takes the request, and the connection breaks before the answer.
    Cuts,
}

/// One request as a host met it.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// What the clock's wall showed.
    pub at: Timestamp,
    /// The time since the clock's beginning, whatever the wall showed.
    pub elapsed: Duration,
    /// What was sent.
    pub request: Request,
    /// Whether the host has what was sent: it answered well, however late, or was cut after taking it.
    pub is_taken: bool,
    /// Whether the connection broke before the answer, so that the sender cannot know.
    pub is_cut: bool,
}

impl Arrival {
    /// Reads the body as JSON; fails the test when it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.request.body).expect("the body is JSON")
    }

    /// Gives a header as text, empty when absent.
    pub fn header(&self, name: &str) -> &str {
        let value = self.request.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// The hosts. Clones share them.
#[derive(Clone)]
pub struct FakeWorld {
    clock: Arc<dyn Clock>,
    hosts: Arc<Mutex<BTreeMap<String, Host>>>,
}

#[derive(Default)]
struct Host {
    text: String,
    weather: Weather,
    arrivals: Vec<Arrival>,
    visits: usize,
}

impl FakeWorld {
    /// Makes a world without hosts. `clock` measures slowness and time-outs.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        FakeWorld {
            clock,
            hosts: Arc::default(),
        }
    }

    /// Sets what the host, `name` or `name:port`, answers; an empty text suits a receiver. Makes the host.
    pub fn serve(&self, host: &str, text: impl Into<String>) {
        self.lock().entry(host.to_owned()).or_default().text = text.into();
    }

    /// Sets the weather at the host, which must be there.
    #[track_caller]
    pub fn set_weather(&self, host: &str, weather: Weather) {
        let mut hosts = self.lock();
        hosts.get_mut(host).expect("the host was made before").weather = weather;
    }

    /// Gives the requests with a body that the host met, oldest first.
    pub fn arrivals(&self, host: &str) -> Vec<Arrival> {
        self.lock()
            .get(host)
            .map(|host| host.arrivals.clone())
            .unwrap_or_default()
    }

    /// Counts the requests that reached the host, with a body or without.
    pub fn visits(&self, host: &str) -> usize {
        self.lock().get(host).map_or(0, |host| host.visits)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the request at its host; gives the host's weather and text, `None` where there is no host.
    fn meet(&self, peer: &str, request: &Request) -> Option<(Weather, String)> {
        let mut hosts = self.lock();
        let host = hosts.get_mut(peer)?;
        if host.weather != Weather::Away {
            host.visits += 1;
        }
        if host.weather != Weather::Away && !request.body.is_empty() {
            host.arrivals.push(Arrival {
                at: self.clock.now(),
                elapsed: self.clock.monotonic(),
                request: request.clone(),
                is_taken: matches!(host.weather, Weather::Fair | Weather::Slow(_) | Weather::Cuts),
                is_cut: is_cut(&host.weather, request),
            });
        }
        Some((host.weather.clone(), host.text.clone()))
    }

    async fn answer(&self, peer: String, request: Request) -> Result<Response, NetError> {
        let Some((weather, text)) = self.meet(&peer, &request) else {
            return Err(NetError::Resolve {
                host: peer,
                reason: "no such host in this world".to_owned(),
            });
        };
        let timeout = request.timeout;
        let late = |peer| NetError::Timeout { peer, timeout };
        match weather {
            Weather::Fair => Ok(good(text)),
            Weather::Away => Err(NetError::Connect {
                peer,
                reason: "connection refused".to_owned(),
            }),
            Weather::Slow(span) if span < timeout => {
                self.clock.sleep(span).await;
                Ok(good(text))
            }
            Weather::Slow(_) | Weather::Hangs => {
                self.clock.sleep(timeout).await;
                Err(late(peer))
            }
            Weather::Refuses(status, after) => Ok(refusal(status, after)),
            Weather::Cuts => Err(NetError::Broken {
                peer,
                reason: "connection reset".to_owned(),
            }),
        }
    }
}

/// Says whether the sender learns nothing although the message was taken.
fn is_cut(weather: &Weather, request: &Request) -> bool {
    match weather {
        Weather::Cuts => true,
        Weather::Slow(span) => *span >= request.timeout,
        _ => false,
    }
}

fn good(text: String) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EXPOSITION));
    Response {
        status: 200,
        headers,
        body: Bytes::from(text),
    }
}

fn refusal(status: u16, after: Option<u64>) -> Response {
    let mut headers = HeaderMap::new();
    if let Some(seconds) = after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    Response {
        status,
        headers,
        body: Bytes::new(),
    }
}

impl Transport for FakeWorld {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, NetError>> {
        Box::pin(async move {
            let peer = request
                .url
                .parse::<Uri>()
                .ok()
                .and_then(|uri| uri.authority().map(|authority| authority.as_str().to_owned()));
            match peer {
                Some(peer) => self.answer(peer, request).await,
                None => Err(NetError::Address {
                    url: request.url,
                    reason: "no host in it".to_owned(),
                }),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;
    use axum::http::Method;

    fn world() -> (ManualClock, FakeWorld) {
        let clock = ManualClock::new(Timestamp::from_millis(0));
        let world = FakeWorld::new(Arc::new(clock.clone()));
        world.serve("app:80", "a 1\n");
        (clock, world)
    }

    fn message(url: &str) -> Request {
        let mut request = Request::new(Method::POST, url);
        request.body = Bytes::from_static(b"{\"n\":1}");
        request
    }

    #[tokio::test]
    async fn a_host_answers_its_text_and_others_do_not_exist() {
        let (_, world) = world();
        let answer = world
            .send(Request::new(Method::GET, "http://app:80/metrics"))
            .await;
        assert_eq!(answer.expect("fair weather").body, "a 1\n");
        let nobody = world.send(Request::new(Method::GET, "http://other/")).await;
        assert!(matches!(nobody, Err(NetError::Resolve { .. })), "{nobody:?}");
        assert_eq!((world.visits("app:80"), world.arrivals("app:80").len()), (1, 0));
    }

    #[tokio::test]
    async fn what_was_taken_is_told_apart_from_what_was_refused() {
        let (_, world) = world();
        for weather in [
            Weather::Refuses(429, Some(7)),
            Weather::Cuts,
            Weather::Away,
            Weather::Fair,
        ] {
            world.set_weather("app:80", weather.clone());
            let answer = world.send(message("http://app:80/hook")).await;
            match weather {
                Weather::Refuses(..) => assert_eq!(answer.expect("answered").headers[RETRY_AFTER], "7"),
                Weather::Fair => assert_eq!(answer.expect("answered").status, 200),
                _ => assert!(answer.is_err(), "{weather:?}"),
            }
        }
        let taken: Vec<bool> = world.arrivals("app:80").iter().map(|met| met.is_taken).collect();
        assert_eq!(taken, [false, true, true], "nothing arrives where nobody is");
        assert_eq!(world.arrivals("app:80")[0].json()["n"], 1);
    }

    #[tokio::test]
    async fn slowness_is_measured_by_the_clock_and_bounded_by_the_time_out() {
        for (weather, is_late) in [
            (Weather::Slow(Duration::from_secs(9)), false),
            (Weather::Slow(Duration::from_secs(11)), true),
            (Weather::Hangs, true),
        ] {
            let (clock, world) = world();
            world.set_weather("app:80", weather);
            let asked = world.clone();
            let asking =
                tokio::spawn(async move { asked.send(Request::new(Method::GET, "http://app:80/")).await });
            tokio::task::yield_now().await;
            clock.advance(Duration::from_millis(8_999));
            tokio::task::yield_now().await;
            assert!(!asking.is_finished());
            clock.advance(Duration::from_secs(2));
            let answer = asking.await.expect("no panic");
            assert_eq!(
                matches!(answer, Err(NetError::Timeout { .. })),
                is_late,
                "{answer:?}"
            );
        }
    }
}
