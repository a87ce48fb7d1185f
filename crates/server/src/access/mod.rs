//! Who may ask what: one layer around every route, before any handler and before a body is read.
//!
//! The order is fixed: who asks (after trusted proxies), whether that address may, who that is, whether the role
//! suffices. What a route needs stands in the table of routes; what a credential is worth is decided in the room
//! `access`. Whoever passes is known to the handler as [`Caller`], and a request that changes something leaves a line
//! in the audit log however it ends.
//!
//! Invariant: nothing here reads a body, and nothing that blocks runs on the async threads.

pub mod credential;
pub mod refusal;
mod trail;

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts, Request};
use axum::response::Response;
use http::request::Parts as Head;
use http::{HeaderMap, Method, Uri};
use marketprism_access::{Access, Client, Identity, Refusal};

use self::refusal::Surface;
use crate::Server;
use crate::problem::Problem;
use crate::routes::{self, Needs, Route};
use crate::workers::WorkError;

pub use self::trail::{Subject, run};

/// Whoever sent a request that passed.
#[derive(Clone)]
pub struct Caller {
    /// Where it comes from, and the request's trace id.
    pub client: Client,
    /// Who it is; `None` on routes that ask nobody.
    pub identity: Option<Identity>,
}

impl Caller {
    /// Gives who asks. Only a route that needs a role may call it; elsewhere the answer is a fault of ours.
    pub fn identity(&self) -> Result<&Identity, Problem> {
        self.identity.as_ref().ok_or_else(|| {
            tracing::error!("a handler asks for an identity where none is needed");
            Problem::internal()
        })
    }
}

impl FromRequestParts<Server> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Head, _: &Server) -> Result<Self, Problem> {
        head.extensions.get::<Caller>().cloned().ok_or_else(|| {
            tracing::error!("a handler asks who calls on a route that asks nothing");
            Problem::internal()
        })
    }
}

/// What stands in the table for a request.
#[derive(Clone, Copy)]
pub struct Asked {
    /// What it needs.
    pub needs: Needs,
    /// In which shape it answers.
    pub surface: Surface,
    /// Its row; `None` for unknown paths and methods.
    pub route: Option<&'static Route>,
}

impl Asked {
    /// Finds the row of a request.
    ///
    /// An unknown path asks for an address only, for it answers 404 to everybody alike. An unknown method of a known
    /// path needs what the path's most open method needs, so that it tells nobody more than that one does.
    pub fn of(method: &Method, pattern: Option<&str>) -> Self {
        let Some(pattern) = pattern else {
            return Asked {
                needs: Needs::Address,
                surface: Surface::Own,
                route: None,
            };
        };
        let wanted = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let rows = || routes::ROUTES.iter().filter(|route| route.path == pattern);
        let route = rows().find(|route| route.method == *wanted);
        let most_open = rows().map(|route| route.needs).min();
        Asked {
            needs: route
                .map(|route| route.needs)
                .or(most_open)
                .unwrap_or(Needs::ADMIN),
            surface: Surface::of(pattern),
            route,
        }
    }
}

/// Says who asks and whether that address may; `None` where nothing is needed.
pub fn admit(
    server: &Server,
    asked: Asked,
    request: &Request,
    trace_id: &str,
) -> Result<Option<Client>, Problem> {
    if asked.needs == Needs::Nothing {
        return Ok(None);
    }
    let access = server.access()?;
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() else {
        tracing::error!("a request came without its peer's address");
        return Err(Problem::internal());
    };
    let client = access.client(peer.ip(), request.headers());
    access.admit(&client)?;
    Ok(Some(client.with_trace_id(trace_id)))
}

/// Says who the client is and whether that suffices.
pub async fn identify(
    server: &Server,
    asked: Asked,
    client: Client,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Caller, Problem> {
    let mut caller = Caller {
        client,
        identity: None,
    };
    let Needs::Role(role) = asked.needs else {
        return Ok(caller);
    };
    let access = server.access()?;
    let identity = recognise(server, &caller.client, headers).await?;
    let required = access.require(&identity, role);
    caller.identity = Some(identity);
    if let Err(refusal) = required {
        if let Some(route) = asked.route {
            trail::refused(server, &caller, route, uri.path()).await;
        }
        return Err(refusal.into());
    }
    Ok(caller)
}

/// Asks whose credential the headers carry.
pub async fn recognise(server: &Server, client: &Client, headers: &HeaderMap) -> Result<Identity, Problem> {
    let credential = credential::read(headers).map_err(|_| Refusal::BadCredential)?;
    let is_slow = match &credential {
        Some(credential) => !server.access()?.is_quick(credential),
        None => false,
    };
    let client = client.clone();
    ask(server, is_slow, move |access| {
        access.identify(&client, credential.as_ref())
    })
    .await
}

/// Asks the room `access` off the async threads. Whatever checks a password has workers of its own, so that guessing
/// holds up nobody who has a session, a token, or a password that was found right a moment ago.
pub async fn ask<T: Send + 'static, E: Into<Problem> + Send + 'static>(
    server: &Server,
    is_slow: bool,
    ask: impl FnOnce(&Access) -> Result<T, E> + Send + 'static,
) -> Result<T, Problem> {
    let access = server.access()?;
    let shared = server.shared();
    let workers = if is_slow {
        &shared.passwords
    } else {
        &shared.sessions
    };
    match workers.run(move || ask(&access)).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(error @ WorkError::Full { .. }) => Err(Problem::busy(error.to_string())),
        Err(WorkError::Panicked) => Err(Problem::internal()),
    }
}

/// Answers a refused request in the shape of its surface.
pub fn refused(asked: Asked, problem: Problem, request: &Request) -> Response {
    refusal::answer(
        asked.surface,
        problem,
        request.method(),
        request.uri(),
        request.headers(),
    )
}
