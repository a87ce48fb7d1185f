//! A plain HTTP client and what it got back.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// One answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// Gives the body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// Gives the body as JSON; fails with the body when it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// Gives a header, empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or("")
    }
}

/// Sends one request, by HTTP/1.1.
pub async fn send(address: SocketAddr, request: http::request::Builder, body: impl Into<Bytes>) -> Reply {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let path = request.uri_ref().expect("the test gives a path").to_string();
    let request: Request<Full<Bytes>> = request
        .uri(format!("http://{address}{path}"))
        .body(Full::new(body.into()))
        .expect("the test makes a valid request");
    let response = client.request(request).await.expect("the server answers");
    reply(response).await
}

async fn reply(response: Response<hyper::body::Incoming>) -> Reply {
    let (head, body) = response.into_parts();
    Reply {
        status: head.status,
        headers: head.headers,
        body: body.collect().await.expect("the whole body comes").to_bytes(),
    }
}

/// Sends a GET. What a browser would encode in the address is encoded here.
pub async fn get(address: SocketAddr, path: &str) -> Reply {
    let mut written = String::new();
    for byte in path.bytes() {
        match byte {
            b'{' | b'}' | b'"' | b'<' | b'>' | b' ' | b'|' | b'^' | b'`' => {
                written.push_str(&format!("%{byte:02X}"))
            }
            byte => written.push(byte as char),
        }
    }
    send(address, Request::get(written), "").await
}

/// Sends a form.
pub async fn post_form(address: SocketAddr, path: &str, form: &str) -> Reply {
    let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
    send(address, request, form.to_owned()).await
}

/// Sends JSON.
pub async fn post_json(address: SocketAddr, path: &str, document: &Value) -> Reply {
    let request = Request::post(path).header("content-type", "application/json");
    send(address, request, document.to_string()).await
}

/// Writes a text so that it can stand in a query string or a form.
pub fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
