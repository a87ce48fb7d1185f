//! The login page and the way out: forms drawn by the server, no script.
//!
//! The session goes into a cookie that no script can read. Afterwards the browser is sent back to the page that was
//! asked for, and only ever to a path of this server.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use marketprism_access::{Event, Identity, Session};
use marketprism_model::{AuditOutcome, Secret, StoreError};
use maud::{Markup, html};

use super::frame::{self, View};
use super::language::{Language, Texts};
use super::{drawn, story, view_of, wording};
use crate::Server;
use crate::access::refusal::challenge_of_forms;
use crate::access::{self, Caller, credential};
use crate::answer::Gzip;
use crate::problem::Problem;
use crate::prometheus::params::Params;
use crate::request::{LOGIN_BYTES_MAX, Query, has_media_type, read_body};

/// Where the page is.
pub const PATH: &str = "/login";
/// A longer way back is forgotten.
const NEXT_BYTES_MAX: usize = 2048;

/// `GET /login?next=…`: the form, or the way back for a browser that has a session.
pub async fn form(
    State(server): State<Server>,
    caller: Caller,
    headers: HeaderMap,
    query: Query,
) -> Response {
    let next = local(query.params.get("next"));
    if access::recognise(&server, &caller.client, &headers).await.is_ok() {
        return see_other(&next);
    }
    let view = view_of(&server, &query.params, &headers, None);
    let page = page(
        &view,
        &Entry {
            next: &next,
            ..Entry::default()
        },
    );
    drawn(StatusCode::OK, page, query.gzip)
}

/// `POST /login`: begins a session and goes back, or shows the form again with what is wrong.
pub async fn submit(
    State(server): State<Server>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    if !has_media_type(&head.headers, "application/x-www-form-urlencoded") {
        return Err(Problem::unsupported_media_type(
            "the body must be application/x-www-form-urlencoded",
        ));
    }
    let body = read_body(body, LOGIN_BYTES_MAX).await?;
    let params = Params::parse("", &body).map_err(|failure| Problem::bad_body(failure.message))?;
    let (name, next) = (params.get("username").to_owned(), local(params.get("next")));
    let password = Secret::new(params.get("password"));
    let outcome = access::ask(&server, true, {
        let (client, name) = (caller.client.clone(), name.clone());
        move |access| access.login(&client, &name, &password)
    })
    .await;
    Ok(match outcome {
        Ok(session) => begun(&server, &session, &next, server.is_secured()),
        Err(problem) => {
            let view = view_of(&server, &params, &head.headers, None);
            refused(
                &view,
                problem,
                &Entry {
                    name: &name,
                    next: &next,
                    ..Entry::default()
                },
            )
        }
    })
}

/// `POST /logout`: ends the browser's session, if it still has one, and shows the form.
pub async fn logout(
    State(server): State<Server>,
    caller: Caller,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, Problem> {
    if credential::cookie(&headers).is_some()
        && let Ok(identity) = access::recognise(&server, &caller.client, &headers).await
    {
        let client = caller.client;
        access::ask(&server, false, move |access| {
            access.logout(&identity)?;
            access.record(Event {
                identity: Some(&identity),
                action: "logout",
                subject: &identity.actor,
                outcome: AuditOutcome::Done,
                client: Some(&client),
                trace_id: "",
                detail: "",
            });
            Ok::<(), StoreError>(())
        })
        .await?;
    }
    let view = view_of(&server, &query.params, &headers, None);
    let mut response = see_other(&view.link("/login"));
    let cookie = credential::no_cookie(server.is_secured());
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Sends a browser to the login, and from there back to what it asked for.
pub fn redirect(asked: &Uri) -> Response {
    let path = asked.path_and_query().map_or("/", |path| path.as_str());
    match local(path).as_str() {
        "/" => see_other("/login"),
        next => see_other(&format!("/login?next={}", story::encoded(next))),
    }
}

/// Keeps a way back that stays on this server; anything else becomes `/`.
///
/// Browsers read `//host`, `/\host` and, because they drop tabs and line ends, `/<tab>/host` as another server's
/// address.
fn local(next: &str) -> String {
    let is_plain = next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    let is_path = next.starts_with('/') && !next.starts_with("//");
    let leads_here = next
        .split(['?', '#'])
        .next()
        .is_some_and(|path| path == "/login" || path == "/logout");
    let is_kept = is_plain && is_path && !leads_here && next.len() <= NEXT_BYTES_MAX;
    if is_kept { next.to_owned() } else { "/".to_owned() }
}

fn see_other(path: &str) -> Response {
    let location = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

fn begun(server: &Server, session: &Session, next: &str, is_secure: bool) -> Response {
    let lasts = session.expires_at.since(server.shared().clock.now());
    let mut response = see_other(next);
    match credential::session_cookie(&session.token, lasts.as_secs(), is_secure) {
        Some(cookie) => response.headers_mut().insert(header::SET_COOKIE, cookie),
        None => return Problem::internal().into_response(),
    };
    response
}

fn refused(view: &View, problem: Problem, entry: &Entry<'_>) -> Response {
    let texts = view.language.texts();
    let fault = match problem.status {
        StatusCode::TOO_MANY_REQUESTS => {
            let wait = problem.retry_after.unwrap_or(Duration::from_secs(1));
            let wait = Duration::from_secs(wait.as_secs().max(1));
            format!("{}{}", texts.login_too_many, wording::span(texts, wait))
        }
        StatusCode::UNAUTHORIZED => texts.login_wrong.to_owned(),
        _ => texts.login_unavailable.to_owned(),
    };
    let page = page(
        view,
        &Entry {
            fault: &fault,
            ..*entry
        },
    );
    let mut response = drawn(problem.status, page, Gzip(false));
    if problem.status == StatusCode::UNAUTHORIZED {
        challenge_of_forms(&mut response);
    }
    if let Some(span) = problem.retry_after {
        let seconds = HeaderValue::from(span.as_secs().max(1));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// What the form is drawn with.
#[derive(Clone, Copy, Default)]
struct Entry<'a> {
    name: &'a str,
    next: &'a str,
    fault: &'a str,
}

fn page(view: &View, entry: &Entry<'_>) -> Markup {
    let texts = view.language.texts();
    let path = match entry.next {
        "" | "/" => "/login".to_owned(),
        next => format!("/login?next={}", story::encoded(next)),
    };
    let main = html! {
        section.card.login {
            h1 { (texts.login_title) }
            p.soft { (texts.login_lead) }
            @if !entry.fault.is_empty() { p.fault.notice role="alert" { (entry.fault) } }
            form action="/login" method="post" {
                @if view.is_language_chosen { input type="hidden" name="lang" value=(view.language.tag()); }
                input type="hidden" name="next" value=(entry.next);
                label for="username" { (texts.user_name) }
                input id="username" name="username" value=(entry.name) autocomplete="username" autocapitalize="none"
                    spellcheck="false" required autofocus[entry.name.is_empty()];
                label for="password" { (texts.password) }
                input id="password" name="password" type="password" autocomplete="current-password" required
                    autofocus[!entry.name.is_empty()];
                button type="submit" { (texts.log_in) }
            }
            p.soft { (texts.login_help) }
        }
    };
    frame::page(view, texts.login_title, &path, None, &main)
}

/// Who is logged in, as the head of each page shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Who {
    /// The name.
    pub name: String,
    /// The role, in the page's language.
    pub role: &'static str,
    /// Whether there is a session to end.
    pub has_session: bool,
}

impl Who {
    /// Reads it from an identity; `None` when nobody is asked who they are.
    pub fn of(identity: &Identity, language: Language) -> Option<Self> {
        let texts: &Texts = language.texts();
        (!identity.actor.is_empty()).then(|| Who {
            name: identity.actor.clone(),
            role: texts.role(identity.role),
            has_session: identity.session.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_never_leaves_the_server() {
        let check = |next: &str, expected: &str| assert_eq!(local(next), expected, "{next:?}");
        check(
            "/alerts/0190163d-8694-739b-aea5-966c26f8ad91",
            "/alerts/0190163d-8694-739b-aea5-966c26f8ad91",
        );
        check(
            "/graph?g0.expr=up%7Ba%3D%22b%22%7D&lang=zh",
            "/graph?g0.expr=up%7Ba%3D%22b%22%7D&lang=zh",
        );
        for evil in [
            "",
            "https://evil.example/",
            "//evil.example/",
            "/\\evil.example/",
            "\\/evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/a\r\nset-cookie: x=y",
            " /a",
            "javascript:alert(1)",
            "evil.example",
            "/login",
            "/login?next=/login",
            "/logout",
            "/温",
        ] {
            check(evil, "/");
        }
        check(&format!("/{}", "a".repeat(NEXT_BYTES_MAX)), "/");
    }
}
