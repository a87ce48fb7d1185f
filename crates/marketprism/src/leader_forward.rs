//! The way from a standby to the replica that leads, over `net`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use marketprism_model::BoxFuture;
use marketprism_net::{Request, TlsPolicy, Transport};
use marketprism_server::{Forward, TlsConfig};

/// A query may take two minutes; a little more is left for the way.
const TIMEOUT: Duration = Duration::from_secs(140);
/// The longest answer that is passed on.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Sends requests to the replica that leads. Clones lead to the same one.
#[derive(Clone)]
pub struct LeaderForward {
    transport: Arc<dyn Transport>,
    scheme: &'static str,
    tls: TlsPolicy,
    leader: Arc<Mutex<String>>,
}

impl LeaderForward {
    /// Leads nowhere yet. Replicas share one configuration, so all show the same certificate or none does.
    pub fn new(transport: Arc<dyn Transport>, ssl: &TlsConfig) -> Self {
        LeaderForward {
            transport,
            scheme: if ssl.enabled { "https" } else { "http" },
            // It names the service, not this replica; so it is known by being the same as ours.
            tls: TlsPolicy {
                pinned_file: ssl.enabled.then(|| ssl.cert_file.clone()),
                ..TlsPolicy::default()
            },
            leader: Arc::default(),
        }
    }

    /// Leads to this address from now on.
    pub fn lead_to(&self, address: &str) {
        address.clone_into(&mut self.leader.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Forward for LeaderForward {
    fn forward(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<Bytes>, String>> {
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (transport, scheme, tls) = (Arc::clone(&self.transport), self.scheme, self.tls.clone());
        Box::pin(async move {
            if leader.is_empty() {
                return Err("the leader told no address; give each replica --advertise".to_owned());
            }
            let (head, body) = request.into_parts();
            let mut outgoing = Request::new(head.method, format!("{scheme}://{leader}{}", head.uri));
            outgoing.headers = head.headers;
            outgoing.body = body;
            outgoing.timeout = TIMEOUT;
            outgoing.body_bytes_max = ANSWER_BYTES_MAX;
            outgoing.tls = tls;
            let answer = transport
                .send(outgoing)
                .await
                .map_err(|error| error.to_string())?;
            let mut response = http::Response::new(answer.body);
            *response.status_mut() =
                http::StatusCode::from_u16(answer.status).map_err(|error| error.to_string())?;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}
