//! Who may ask what: every route, with every method, by every kind of caller.
//!
//! The table is written by hand from the documentation, not from the router's own; it fails when either has a route that
//! the other lacks. Each request goes over a real socket, with an empty body, so that whatever passes gets the
//! handler's own answer to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use marketprism_access::{Access, Client as Asking, Identity, NewToken, NewUser};
use marketprism_model::{Role, Secret};
use marketprism_server::{Config, ROUTES};

use crate::people::{basic, session};
use crate::rig::Rig;

/// What a route needs, and so who may ask.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Need {
    Anybody,
    Listed,
    Viewer,
    Operator,
    Admin,
}
use Need::{Admin, Anybody, Listed, Operator, Viewer};

/// Method, path, what it needs, and what a caller gets who may ask and sends nothing with it.
#[rustfmt::skip]
const TABLE: &[(&str, &str, Need, &[u16])] = &[
    ("GET",    "/health",                                 Anybody,  &[200]),
    ("GET",    "/ready",                                  Anybody,  &[200]),
    ("GET",    "/metrics",                                Listed,   &[200]),
    ("POST",   "/-/reload",                               Admin,    &[200]),
    ("GET",    "/",                                       Viewer,   &[200]),
    ("GET",    "/alerts/{id}",                            Viewer,   &[404]),
    ("GET",    "/graph",                                  Viewer,   &[200]),
    ("GET",    "/login",                                  Listed,   &[200, 303]), // 303: there is a session already
    ("POST",   "/login",                                  Listed,   &[415]),
    ("POST",   "/logout",                                 Listed,   &[303]),
    ("GET",    "/assets/{name}",                          Listed,   &[200]),
    ("GET",    "/api/v1/alerts",                          Viewer,   &[200]),
    ("GET",    "/api/v1/alerts/{id}",                     Viewer,   &[404]),
    ("POST",   "/api/v1/alerts/{id}/acknowledge",         Operator, &[415]),
    ("POST",   "/api/v1/alerts/{id}/resolve",             Operator, &[415]),
    ("GET",    "/api/v1/notifications",                   Viewer,   &[200]),
    ("GET",    "/api/v1/rules",                           Viewer,   &[200]),
    ("POST",   "/api/v1/rules",                           Operator, &[415]),
    ("GET",    "/api/v1/rules/{id}",                      Viewer,   &[404]),
    ("PUT",    "/api/v1/rules/{id}",                      Operator, &[415]),
    ("DELETE", "/api/v1/rules/{id}",                      Operator, &[404]),
    ("POST",   "/api/v1/rules/backtest",                  Operator, &[415]),
    ("GET",    "/api/v1/stats/performance",               Listed,   &[200]),
    ("GET",    "/api/v1/stats/{section}",                 Viewer,   &[200]),
    ("POST",   "/api/v1/write",                           Operator, &[400]),
    ("POST",   "/api/v1/auth/login",                      Listed,   &[415]),
    ("POST",   "/api/v1/auth/logout",                     Viewer,   &[204, 409]), // 409: no session asks
    ("GET",    "/api/v1/auth/me",                         Viewer,   &[200]),
    ("POST",   "/api/v1/auth/password",                   Viewer,   &[415]),
    ("GET",    "/api/v1/users",                           Admin,    &[200]),
    ("POST",   "/api/v1/users",                           Admin,    &[415]),
    ("PATCH",  "/api/v1/users/{name}",                    Admin,    &[415]),
    ("DELETE", "/api/v1/users/{name}",                    Admin,    &[404]),
    ("GET",    "/api/v1/tokens",                          Admin,    &[200]),
    ("POST",   "/api/v1/tokens",                          Admin,    &[415]),
    ("DELETE", "/api/v1/tokens/{name}",                   Admin,    &[404]),
    ("GET",    "/api/v1/audit",                           Admin,    &[200]),
    ("GET",    "/prometheus/-/healthy",                   Listed,   &[200]),
    ("GET",    "/prometheus/-/ready",                     Listed,   &[200]),
    ("POST",   "/prometheus/-/reload",                    Admin,    &[200]),
    ("GET",    "/prometheus/graph",                       Viewer,   &[200]),
    ("POST",   "/prometheus/api/v1/write",                Operator, &[400]),
    ("GET",    "/prometheus/api/v1/query",                Viewer,   &[400]),
    ("POST",   "/prometheus/api/v1/query",                Viewer,   &[400]),
    ("GET",    "/prometheus/api/v1/query_range",          Viewer,   &[400]),
    ("POST",   "/prometheus/api/v1/query_range",          Viewer,   &[400]),
    ("GET",    "/prometheus/api/v1/query_exemplars",      Viewer,   &[400]),
    ("POST",   "/prometheus/api/v1/query_exemplars",      Viewer,   &[400]),
    ("GET",    "/prometheus/api/v1/format_query",         Viewer,   &[400]),
    ("POST",   "/prometheus/api/v1/format_query",         Viewer,   &[400]),
    ("GET",    "/prometheus/api/v1/parse_query",          Viewer,   &[400]),
    ("POST",   "/prometheus/api/v1/parse_query",          Viewer,   &[400]),
    ("GET",    "/prometheus/api/v1/series",               Viewer,   &[400]),
    ("POST",   "/prometheus/api/v1/series",               Viewer,   &[400]),
    ("GET",    "/prometheus/api/v1/labels",               Viewer,   &[200]),
    ("POST",   "/prometheus/api/v1/labels",               Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/label/{name}/values",  Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/metadata",             Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/targets",              Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/scrape_pools",         Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/targets/metadata",     Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/rules",                Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/alerts",               Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/alertmanagers",        Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/status/buildinfo",     Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/status/flags",         Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/status/config",        Admin,    &[200]),
    ("GET",    "/prometheus/api/v1/status/runtimeinfo",   Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/status/tsdb",          Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/status/walreplay",     Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/features",             Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/notifications",        Viewer,   &[200]),
    ("GET",    "/prometheus/api/v1/notifications/live",   Viewer,   &[204]),
    ("POST",   "/api/v1/alerts/{id}/unacknowledge",      Operator, &[415]),
    ("POST",   "/api/v1/alerts/{id}/assign",             Operator, &[415]),
    ("POST",   "/api/v1/alerts/{id}/unassign",           Operator, &[415]),
    ("POST",   "/api/v1/alerts/{id}/note",               Operator, &[415]),
    ("POST",   "/api/v1/alerts/{id}/suppress",           Operator, &[415]),
    ("POST",   "/api/v1/alerts/actions",                 Operator, &[415]),
    ("GET",    "/api/v1/alerts/{id}/why",               Viewer,   &[404]),
    ("GET",    "/api/v1/silences",                       Viewer,   &[200]),
    ("POST",   "/api/v1/silences",                       Operator, &[415]),
    ("POST",   "/api/v1/silences/preview",               Viewer,   &[415]),
    ("GET",    "/api/v1/silences/{id}",                  Viewer,   &[404]),
    ("PUT",    "/api/v1/silences/{id}",                  Operator, &[415]),
    ("DELETE", "/api/v1/silences/{id}",                  Operator, &[404]),
    ("GET",    "/api/v1/routes",                         Viewer,   &[200]),
    ("POST",   "/api/v1/routes/test",                    Viewer,   &[415]),
    ("GET",    "/api/v1/incidents",                      Viewer,   &[200]),
    ("GET",    "/api/v1/incidents/{id}",                 Viewer,   &[404]),
    ("POST",   "/api/v1/incidents/{id}/own",             Operator, &[415]),
    ("POST",   "/api/v1/incidents/{id}/rename",          Operator, &[415]),
    ("POST",   "/api/v1/incidents/{id}/note",            Operator, &[415]),
    ("POST",   "/api/v1/incidents/{id}/resolve",         Operator, &[415]),
    ("POST",   "/api/v1/incidents/{id}/reopen",          Operator, &[415]),
    ("GET",    "/api/v1/schedules",                      Viewer,   &[200]),
    ("GET",    "/api/v1/schedules/{name}",               Viewer,   &[404]),
    ("POST",   "/api/v1/overrides",                      Operator, &[415]),
    ("DELETE", "/api/v1/overrides/{id}",                 Operator, &[404]),
    ("GET",    "/alertmanager/-/healthy",                Listed,   &[200]),
    ("GET",    "/alertmanager/-/ready",                  Listed,   &[200]),
    ("POST",   "/alertmanager/-/reload",                 Admin,    &[200]),
    ("GET",    "/alertmanager/metrics",                  Viewer,   &[200]),
    ("GET",    "/alertmanager/api/v2/status",            Viewer,   &[200]),
    ("GET",    "/alertmanager/api/v2/receivers",         Viewer,   &[200]),
    ("GET",    "/alertmanager/api/v2/alerts",            Viewer,   &[200]),
    ("POST",   "/alertmanager/api/v2/alerts",            Operator, &[415]),
    ("GET",    "/alertmanager/api/v2/alerts/groups",     Viewer,   &[200]),
    ("GET",    "/alertmanager/api/v2/silences",          Viewer,   &[200]),
    ("POST",   "/alertmanager/api/v2/silences",          Operator, &[415]),
    ("GET",    "/alertmanager/api/v2/silence/{id}",      Viewer,   &[404]),
    ("DELETE", "/alertmanager/api/v2/silence/{id}",      Operator, &[404]),
];

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Somebody who asks.
struct Caller {
    name: &'static str,
    /// The strongest need that is met.
    may: Need,
    header: header::HeaderName,
    value: String,
    /// The user whose session it is, to begin it anew.
    user: Option<&'static str>,
}

impl Caller {
    fn new(name: &'static str, may: Need, value: String) -> Self {
        Caller {
            name,
            may,
            header: header::AUTHORIZATION,
            value,
            user: None,
        }
    }
}

/// The callers, each with a credential of its own kind.
fn callers(access: &Access) -> Vec<Caller> {
    let mut callers = vec![
        Caller::new("nobody", Listed, String::new()),
        Caller::new("wrong token", Listed, "Bearer mp_nonsense".to_owned()),
        Caller::new("wrong scheme", Listed, "Digest username=\"viewer\"".to_owned()),
    ];
    for (name, role, may) in [
        ("viewer", Role::Viewer, Viewer),
        ("operator", Role::Operator, Operator),
        ("admin", Role::Admin, Admin),
    ] {
        let password = Secret::new(format!("the password of {name}"));
        let new = NewUser {
            name: name.to_owned(),
            role,
            password: password.clone(),
        };
        access.create_user(new).expect("the name is free");
        let new = NewToken {
            name: name.to_owned(),
            role,
            expires_at: None,
        };
        let (_, token) = access
            .create_token(&Identity::anybody(), new)
            .expect("the name is free");
        callers.push(Caller {
            user: Some(name),
            ..Caller::new(name, may, String::new())
        });
        callers.push(Caller {
            header: header::COOKIE,
            user: Some(name),
            ..Caller::new("its cookie", may, String::new())
        });
        callers.push(Caller::new(
            "API token",
            may,
            format!("Bearer {}", token.expose()),
        ));
        callers.push(Caller::new(
            "token as password",
            may,
            basic("grafana", token.expose()),
        ));
        callers.push(Caller::new(
            "name and password",
            may,
            basic(name, password.expose()),
        ));
    }
    renew(&mut callers, access);
    callers
}

/// Begins each session anew.
fn renew(callers: &mut [Caller], access: &Access) {
    for caller in callers {
        let Some(user) = caller.user else { continue };
        let session = session(access, user, &Secret::new(format!("the password of {user}")));
        caller.value = match caller.header == header::COOKIE {
            true => format!("marketprism_session={}", session.expose()),
            false => format!("Bearer {}", session.expose()),
        };
    }
}

/// Gives what a caller is told, by the table alone.
fn expected(path: &str, method: &str, may: Need) -> Vec<u16> {
    let rows = || TABLE.iter().filter(|row| row.1 == path);
    let served = if method == "HEAD" { "GET" } else { method };
    let (need, told) = match rows().find(|row| row.0 == served) {
        Some((_, _, need, told)) => (*need, told.to_vec()),
        // A method that is not served needs what the most open one needs.
        None => (
            rows().map(|row| row.2).min().expect("the path is in the table"),
            vec![405],
        ),
    };
    match () {
        () if need <= may => told,
        () if may <= Listed => vec![401],
        () => vec![403],
    }
}

/// Gives a path that can be asked for.
fn example(path: &str) -> String {
    path.replace("/assets/{name}", "/assets/style.css")
        .replace("{id}", "0190163d-8694-739b-aea5-966c26f8ad91")
        .replace("{section}", "storage")
        .replace("{name}", "somebody")
}

async fn ask(
    client: &Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    method: &str,
    path: &str,
    caller: &Caller,
) -> (u16, http::HeaderMap) {
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).expect("a method"))
        .uri(format!("http://{address}{}", example(path)));
    if !caller.value.is_empty() {
        request = request.header(&caller.header, &caller.value);
    }
    let request = request.body(Full::default()).expect("a valid request");
    let response = client.request(request).await.expect("the server answers");
    let (head, body) = response.into_parts();
    body.collect().await.expect("the whole body comes");
    (head.status.as_u16(), head.headers)
}

#[test]
fn the_table_and_the_router_hold_the_same_routes() {
    let by_hand: BTreeSet<(String, String)> = TABLE
        .iter()
        .map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    assert_eq!(by_hand.len(), TABLE.len(), "a route stands twice in the table");
    let served: BTreeSet<(String, String)> = ROUTES
        .iter()
        .map(|route| (route.method.to_string(), route.path.to_owned()))
        .collect();
    let only = |these: &BTreeSet<_>, those| these.difference(those).cloned().collect::<Vec<_>>();
    assert_eq!(only(&by_hand, &served), [], "in the table, and not served");
    assert_eq!(only(&served, &by_hand), [], "served, and not in the table");
}

#[test]
fn whatever_changes_something_has_a_name_in_the_audit_log() {
    // Queries as forms and backtests change nothing; pushed samples are too many for an audit log.
    let changes_nothing = |path: &str| {
        path.ends_with("/write")
            || ["/api/v1/rules/backtest", "/api/v1/silences/preview", "/api/v1/routes/test"].contains(&path)
            // Alerts that other programs send again and again.
            || path == "/alertmanager/api/v2/alerts"
            || [
                "query",
                "query_range",
                "query_exemplars",
                "format_query",
                "parse_query",
                "series",
                "labels",
            ]
            .iter()
            .any(|name| path == format!("/prometheus/api/v1/{name}"))
    };
    for route in ROUTES {
        let is_act = route.method != Method::GET && !changes_nothing(route.path);
        assert_eq!(route.action.is_some(), is_act, "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn every_route_answers_every_method_to_every_caller_as_the_table_says() {
    let (rig, access) = Rig::guarded(Config::default(), &marketprism_access::Config::default()).await;
    let access: Arc<Access> = access;
    let mut callers = callers(&access);
    let client = Client::builder(TokioExecutor::new()).build_http();
    let paths: BTreeSet<&str> = TABLE.iter().map(|row| row.1).collect();
    let mut wrong = String::new();
    let mut counts = BTreeMap::new();
    for path in paths {
        for method in METHODS {
            for caller in &callers {
                let (status, headers) = ask(&client, rig.address, method, path, caller).await;
                let expected = expected(path, method, caller.may);
                *counts.entry(status).or_insert(0) += 1;
                if !expected.contains(&status) {
                    let _ = writeln!(
                        wrong,
                        "{method:7} {path:40} {:18} got {status}, expected {expected:?}",
                        caller.name
                    );
                }
                let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter().count();
                assert_eq!(challenges > 0, status == 401, "{method} {path} {}", caller.name);
            }
            if method == "POST" && path.ends_with("/logout") {
                renew(&mut callers, &access);
            }
        }
    }
    println!("answers by status: {counts:?}");
    assert!(wrong.is_empty(), "\n{wrong}");
    // Each kind of answer was seen, so the table tests something.
    for status in [200, 204, 303, 400, 401, 403, 404, 405, 409, 415] {
        assert!(counts.contains_key(&status), "nobody got {status}: {counts:?}");
    }
}

#[tokio::test]
async fn whatever_is_not_in_the_table_is_nowhere_and_says_so_to_everybody_alike() {
    let (rig, access) = Rig::guarded(Config::default(), &marketprism_access::Config::default()).await;
    let callers = callers(&access);
    let client = Client::builder(TokioExecutor::new()).build_http();
    for path in [
        "/admin",
        "/api",
        "/api/v1",
        "/api/v2/alerts",
        "/api/v1/users/a/b",
        "/API/V1/ALERTS",
        "/api/v1/alerts/",
        "//api/v1/users",
        "/api/v1/../v1/users",
        "/api/v1/%75sers",
        "/prometheus",
        "/prometheus/metrics",
        "/prometheus/api/v1/admin/tsdb/delete_series",
        "/alertmanager",
        "/alertmanager/",
        "/alertmanager/api/v1/alerts",
        "/alertmanager/alertmanager/api/v2/status",
        "/alertmanager/api/v1/status/buildinfo",
        "/alertmanager/api/v2/nonsense",
        "/debug/pprof/",
        "/.env",
        "/assets",
        "/metrics/",
        "/health/",
    ] {
        for method in METHODS {
            for caller in &callers {
                let (status, _) = ask(&client, rig.address, method, path, caller).await;
                assert_eq!(status, 404, "{method} {path} {}", caller.name);
            }
        }
    }
}

#[tokio::test]
async fn outside_the_allow_list_everybody_gets_health_and_nothing_else() {
    let access = crate::people::behind_a_proxy(&["10.0.0.0/8"]);
    let (rig, access) = Rig::guarded(Config::default(), &access).await;
    let asking = Asking::direct([127, 0, 0, 1].into());
    assert!(access.admit(&asking).is_ok(), "this machine itself always may");
    let callers = callers(&access);
    let is_admin = |caller: &&Caller| caller.name == "API token" && caller.may == Admin;
    let admin = callers.iter().find(is_admin).expect("a token of an admin");
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    for (from, is_listed) in [("203.0.113.9", false), ("10.1.2.3", true)] {
        for (method, path, need, told) in TABLE {
            let request = Request::builder()
                .method(*method)
                .uri(format!("http://{}{}", rig.address, example(path)))
                .header("x-forwarded-for", from)
                .header(&admin.header, &admin.value)
                .body(Full::default())
                .expect("a valid request");
            let status = client
                .request(request)
                .await
                .expect("the server answers")
                .status()
                .as_u16();
            if is_listed || *need == Anybody {
                assert!(told.contains(&status), "{method} {path} from {from}: {status}");
            } else {
                assert_eq!(status, 403, "{method} {path} from {from}");
            }
        }
    }
}

#[tokio::test]
async fn odd_request_lines_lead_nowhere() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (rig, _) = Rig::guarded(Config::default(), &marketprism_access::Config::default()).await;
    for (line, status) in [
        ("OPTIONS * HTTP/1.1", "404"),
        ("CONNECT 127.0.0.1:22 HTTP/1.1", "404"),
        ("TRACE /api/v1/users HTTP/1.1", "401"),
        ("BREW /api/v1/users HTTP/1.1", "401"),
        ("TRACE /health HTTP/1.1", "405"),
        ("GET http://other.example/api/v1/users HTTP/1.1", "401"),
        ("GET /api/v1/users?x=/health HTTP/1.1", "401"),
        ("GET /health/../api/v1/users HTTP/1.1", "404"),
        ("GET /api/v1/users;/health HTTP/1.1", "404"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(rig.address)
            .await
            .expect("the server listens");
        let head =
            format!("{line}\r\nhost: x\r\nx-http-method-override: GET\r\nx-original-url: /health\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("the server reads");
        let mut begun = [0; 12];
        stream.read_exact(&mut begun).await.expect("an answer");
        assert_eq!(
            String::from_utf8_lossy(&begun),
            format!("HTTP/1.1 {status}"),
            "{line}"
        );
    }
}
