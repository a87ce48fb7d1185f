//! `marketprism healthcheck`: one question to a running service, for images and units without curl.

use std::time::Duration;

use anyhow::{Context, bail};
use http::Method;
use marketprism_net::{Egress, HttpClient, Request, TlsPolicy, Transport as _};

use crate::cli;
use crate::commands::load;
use crate::config::Config;

/// An orchestrator asks every few seconds; a service that takes longer is not well.
const TIMEOUT: Duration = Duration::from_secs(8);

/// Asks; the error says why the service is not well.
pub fn healthcheck(options: &cli::Healthcheck) -> anyhow::Result<String> {
    let url = match &options.url {
        Some(url) => url.clone(),
        None => own_url(&load(&options.place)?.config),
    };
    let mut request = Request::new(Method::GET, &url);
    request.timeout = TIMEOUT;
    // The certificate names the service's public host, not the loopback address that is asked here.
    request.tls = TlsPolicy {
        is_verification_skipped: true,
        ..TlsPolicy::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let answer = runtime.block_on(HttpClient::new(Egress::default()).send(request));
    let answer = answer.with_context(|| format!("{url} does not answer"))?;
    let words = String::from_utf8_lossy(&answer.body);
    if answer.status != 200 {
        bail!("{url} answers {}: {}", answer.status, words.trim());
    }
    Ok(format!("{}\n", words.trim()))
}

/// Gives the address of a service with this configuration, as asked from its own machine.
fn own_url(config: &Config) -> String {
    let listen = &config.server.listen;
    let (host, port) = listen.rsplit_once(':').unwrap_or((listen, "8082"));
    let host = match host {
        "" | "0.0.0.0" | "*" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    let scheme = if config.server.ssl.enabled {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{host}:{port}/health")
}
