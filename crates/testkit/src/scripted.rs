//! What all HTTP fakes share: they remember what they were sent, and can be told how to behave next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::any};

use crate::http_server::HttpServer;

/// One request as a fake received it.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl ReceivedRequest {
    /// Reads the body as JSON; fails the test when it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Gives a header as text, empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }

    /// Gives a query parameter, percent-decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.uri.query()?.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// How a fake meets one request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers with a status, headers and a body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Waits, then answers as it ordinarily would.
    Slow(Duration),
    /// Never answers.
    Hang,
}

impl Behaviour {
    /// Answers with a status and an empty body.
    pub fn status(status: u16) -> Self {
        Behaviour::Answer(status, Vec::new(), String::new())
    }
}

/// A fake's server, its memory and its orders.
pub(crate) struct Scripted {
    server: HttpServer,
    script: Arc<Script>,
}

#[derive(Default)]
struct Script {
    received: Mutex<Vec<ReceivedRequest>>,
    orders: Mutex<VecDeque<Behaviour>>,
}

impl Scripted {
    /// Serves every path with `ordinary` unless an order stands.
    pub(crate) fn start(ordinary: impl Fn(&ReceivedRequest) -> Response + Send + Sync + 'static) -> Self {
        let script = Arc::new(Script::default());
        let (shared, ordinary) = (Arc::clone(&script), Arc::new(ordinary));
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let request = ReceivedRequest {
                method,
                uri,
                headers,
                body,
            };
            let (script, ordinary) = (Arc::clone(&shared), Arc::clone(&ordinary));
            async move { script.meet(request, &*ordinary).await }
        };
        Scripted {
            server: HttpServer::start(Router::new().fallback(any(handler))),
            script,
        }
    }

    pub(crate) fn server(&self) -> &HttpServer {
        &self.server
    }

    pub(crate) fn order(&self, behaviour: Behaviour) {
        let mut orders = self.script.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.push_back(behaviour);
    }

    pub(crate) fn received(&self) -> Vec<ReceivedRequest> {
        self.script
            .received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Script {
    #[expect(clippy::disallowed_methods, reason = "a slow peer is slow in real time")]
    async fn meet(
        &self,
        request: ReceivedRequest,
        ordinary: &(dyn Fn(&ReceivedRequest) -> Response + Send + Sync),
    ) -> Response {
        let order = {
            let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
            received.push(request.clone());
            let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
            orders.pop_front()
        };
        match order {
            None => ordinary(&request),
            Some(Behaviour::Slow(span)) => {
                tokio::time::sleep(span).await;
                ordinary(&request)
            }
            Some(Behaviour::Hang) => std::future::pending().await,
            Some(Behaviour::Answer(status, headers, body)) => answer(status, &headers, body),
        }
    }
}

pub(crate) fn answer(status: u16, headers: &[(&'static str, String)], body: impl Into<String>) -> Response {
    let status = axum::http::StatusCode::from_u16(status).expect("the test names a status code");
    let mut response = (status, body.into()).into_response();
    for (name, value) in headers {
        let value = value.parse().expect("the test names a header value");
        response.headers_mut().insert(*name, value);
    }
    response
}
