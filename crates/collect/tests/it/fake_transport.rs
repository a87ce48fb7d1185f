//! Targets that answer as a test tells them, without a network.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use marketprism_model::{BoxFuture, Clock, Timestamp};
use marketprism_net::{NetError, Request, Response, Transport};
use marketprism_testkit::ManualClock;
use parking_lot::Mutex;

/// What a target answers.
#[derive(Clone)]
pub enum Answer {
    /// Text in Prometheus' format.
    Text(String),
    /// Any status and content type.
    Raw(u16, Option<&'static str>, String),
    /// Nobody is there.
    Refused,
    /// It answers after this many seconds of the test's clock.
    Late(u64, String),
    /// It never answers.
    Never,
}

#[derive(Default)]
struct State {
    answers: HashMap<String, Answer>,
    requests: Vec<(Timestamp, Request)>,
    in_flight: usize,
    answered: usize,
    in_flight_max: usize,
}

/// The transport of a test; clones share their targets.
#[derive(Clone)]
pub struct FakeTransport {
    clock: ManualClock,
    state: Arc<Mutex<State>>,
}

impl FakeTransport {
    pub fn new(clock: &ManualClock) -> Self {
        FakeTransport {
            clock: clock.clone(),
            state: Arc::default(),
        }
    }

    /// Says what a URL answers from now on.
    pub fn answer(&self, url: &str, answer: Answer) {
        self.state.lock().answers.insert(url.to_owned(), answer);
    }

    /// Gives the moments at which a URL was asked.
    pub fn times(&self, url: &str) -> Vec<i64> {
        let state = self.state.lock();
        state
            .requests
            .iter()
            .filter(|(_, request)| request.url == url)
            .map(|(at, _)| at.millis())
            .collect()
    }

    /// Gives the newest request.
    pub fn last_request(&self) -> Option<Request> {
        self.state
            .lock()
            .requests
            .last()
            .map(|(_, request)| request.clone())
    }

    /// Gives how many requests are under way, and how many were at most.
    pub fn in_flight(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.in_flight, state.in_flight_max)
    }
}

impl FakeTransport {
    /// Gives how many requests got an answer, be it an error.
    pub fn answered(&self) -> usize {
        self.state.lock().answered
    }
}

struct InFlight(Arc<Mutex<State>>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

impl Transport for FakeTransport {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, NetError>> {
        Box::pin(async move {
            let (answer, _guard) = {
                let mut state = self.state.lock();
                let answer = state.answers.get(&request.url).cloned();
                state.requests.push((self.clock.now(), request.clone()));
                state.in_flight += 1;
                state.in_flight_max = state.in_flight_max.max(state.in_flight);
                (answer, InFlight(Arc::clone(&self.state)))
            };
            let (status, content_type, body) = match answer {
                Some(Answer::Text(body)) => (200, Some("text/plain"), body),
                Some(Answer::Raw(status, content_type, body)) => (status, content_type, body),
                Some(Answer::Late(seconds, body)) => {
                    self.clock.sleep(std::time::Duration::from_secs(seconds)).await;
                    (200, Some("text/plain"), body)
                }
                Some(Answer::Never) => std::future::pending().await,
                None => panic!("nobody told the test what {} answers", request.url),
                Some(Answer::Refused) => {
                    self.state.lock().answered += 1;
                    let peer = request.url.clone();
                    return Err(NetError::Connect {
                        peer,
                        reason: "connection refused".to_owned(),
                    });
                }
            };
            self.state.lock().answered += 1;
            if body.len() > request.body_bytes_max {
                return Err(NetError::TooLong {
                    peer: request.url.clone(),
                    limit: request.body_bytes_max,
                });
            }
            let mut headers = HeaderMap::new();
            if let Some(content_type) = content_type {
                headers.insert(
                    http::header::CONTENT_TYPE,
                    content_type.parse().expect("a header's value"),
                );
            }
            Ok(Response {
                status,
                headers,
                body: body.into(),
            })
        })
    }
}
