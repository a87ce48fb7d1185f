//! The login as a browser sees it: forms, the cookie, the way back, the way out.

use http::{Request, StatusCode};
use marketprism_access::Config as AccessConfig;
use marketprism_model::{Level, Role};
use marketprism_server::Config;
use std::time::Duration;

use crate::people::{PASSWORD, bearer, user};
use crate::reply::{Reply, encoded, get, send};
use crate::rig::{Rig, open_house};

/// What browsers send for a page.
const ACCEPT: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

async fn browse(rig: &Rig, path: &str, cookie: &str) -> Reply {
    let mut request = Request::get(path).header("accept", ACCEPT);
    if !cookie.is_empty() {
        request = request.header("cookie", format!("theme=dark; {cookie}"));
    }
    send(rig.address, request, "").await
}

async fn log_in(rig: &Rig, name: &str, password: &str, next: &str) -> Reply {
    let form = format!(
        "username={}&password={}&next={}",
        encoded(name),
        encoded(password),
        encoded(next)
    );
    let request = Request::post("/login")
        .header("accept", ACCEPT)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("origin", format!("http://{}", rig.address));
    send(rig.address, request, form).await
}

/// Gives the pair of a cookie that was set, and its attributes.
fn cookie(reply: &Reply) -> (String, Vec<String>) {
    let mut parts = reply.header("set-cookie").split("; ").map(str::to_owned);
    let pair = parts.next().unwrap_or_default();
    (pair, parts.collect())
}

#[tokio::test]
async fn a_browser_is_led_to_the_login_and_back_to_what_it_asked_for() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    user(&access, "chen", Role::Operator);
    let id = rig.rooms.raise(
        "HostDown",
        Level::Critical,
        Duration::ZERO,
        &[("instance", "db1")],
        0.0,
    );
    let story = format!("/alerts/{id}?lang=zh");
    let led = browse(&rig, &story, "").await;
    assert_eq!(led.status, StatusCode::SEE_OTHER);
    let login = led.header("location").to_owned();
    assert_eq!(login, format!("/login?next=%2Falerts%2F{id}%3Flang%3Dzh"));
    assert_eq!(browse(&rig, "/", "").await.header("location"), "/login");

    let form = browse(&rig, &login, "").await;
    assert_eq!(form.status, StatusCode::OK);
    let page = form.text();
    for text in [
        "<form action=\"/login\" method=\"post\">",
        &format!("name=\"next\" value=\"/alerts/{id}?lang=zh\""),
        "type=\"password\" autocomplete=\"current-password\"",
        "autocomplete=\"username\"",
    ] {
        assert!(page.contains(text), "{text:?} is not on {page}");
    }
    assert!(
        !page.contains("<script") && !page.contains("Expression"),
        "nothing but the login"
    );
    assert!(
        form.header("content-security-policy")
            .contains("form-action 'self'")
    );

    let begun = log_in(&rig, "chen", PASSWORD, &story).await;
    assert_eq!(
        (begun.status, begun.header("location")),
        (StatusCode::SEE_OTHER, story.as_str())
    );
    let (session, attributes) = cookie(&begun);
    assert!(session.starts_with("marketprism_session=ey"));
    assert_eq!(
        attributes,
        ["Path=/", "Max-Age=86400", "HttpOnly", "SameSite=Lax"]
    );
    let page = browse(&rig, &story, &session).await;
    assert_eq!(page.status, StatusCode::OK);
    for text in [
        "<b>chen</b> · 运维",
        "action=\"/logout?lang=zh-CN\" method=\"post\"",
        "退出",
    ] {
        assert!(page.text().contains(text), "{text:?} is not on {}", page.text());
    }
    // Whoever has a session is not asked again.
    assert_eq!(browse(&rig, &login, &session).await.header("location"), story);

    let request = Request::post("/logout")
        .header("cookie", &session)
        .header("origin", format!("http://{}", rig.address));
    let out = send(rig.address, request, "").await;
    assert_eq!(
        (out.status, out.header("location")),
        (StatusCode::SEE_OTHER, "/login")
    );
    assert_eq!(cookie(&out).0, "marketprism_session=");
    assert!(cookie(&out).1.contains(&"Max-Age=0".to_owned()));
    assert_eq!(
        browse(&rig, "/", &session).await.status,
        StatusCode::SEE_OTHER,
        "the session itself has ended"
    );
    let filter = marketprism_model::AuditFilter {
        actor: "chen".to_owned(),
        limit: 10,
        ..marketprism_model::AuditFilter::default()
    };
    let audit = access.audit(&filter).expect("memory answers");
    let actions: Vec<&str> = audit.items.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["logout", "login"]);
}

#[tokio::test]
async fn only_browsers_are_led_and_only_to_pages() {
    let (rig, _) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    assert_eq!(
        get(rig.address, "/").await.status,
        StatusCode::UNAUTHORIZED,
        "a program is told"
    );
    for path in ["/api/v1/alerts", "/prometheus/api/v1/query?query=up"] {
        assert_eq!(
            browse(&rig, path, "").await.status,
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
    for path in ["/graph?g0.expr=up", "/prometheus/graph"] {
        assert_eq!(
            browse(&rig, path, "").await.status,
            StatusCode::SEE_OTHER,
            "{path}"
        );
    }
    assert_eq!(
        browse(&rig, "/assets/style.css", "").await.status,
        StatusCode::OK,
        "the login needs it"
    );
    assert_eq!(browse(&rig, "/nope", "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn wrong_passwords_show_the_form_again_and_too_many_say_how_long_to_wait() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    user(&access, "chen", Role::Operator);
    let evil = "\"><script>alert(1)</script>";
    let wrong = log_in(&rig, evil, "not the password", "/graph").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert_eq!(wrong.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(
        wrong.header("www-authenticate"),
        "Bearer realm=\"MarketPrism\"",
        "or the browser asks by itself"
    );
    let page = wrong.text();
    assert!(page.contains("The user name or the password is wrong."));
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"));
    assert!(page.contains("name=\"next\" value=\"/graph\""));
    assert!(!page.contains("not the password"));
    assert!(wrong.header("set-cookie").is_empty());
    let mut statuses = Vec::new();
    for number in 0..8 {
        statuses.push(
            log_in(&rig, "chen", &format!("guess {number:03}"), "/")
                .await
                .status
                .as_u16(),
        );
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
    let late = log_in(&rig, "chen", PASSWORD, "/").await;
    assert_eq!(late.status, StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = late.header("retry-after").parse().expect("seconds");
    assert!(
        late.text()
            .contains(&format!("There were too many attempts. Try again in {wait} s")),
        "{}",
        late.text()
    );
    rig.rooms.clock.advance(Duration::from_secs(wait));
    assert_eq!(
        log_in(&rig, "chen", PASSWORD, "/").await.status,
        StatusCode::SEE_OTHER
    );
    let request = Request::post("/login").header("content-type", "application/json");
    let reply = send(rig.address, request, "{}").await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let request = Request::post("/login").header("content-type", "application/x-www-form-urlencoded");
    let reply = send(rig.address, request, format!("username={}", "a".repeat(20_000))).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn the_way_back_never_leads_to_another_server() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    user(&access, "chen", Role::Operator);
    for evil in [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "/a\r\nset-cookie: a=b",
        "javascript:alert(1)",
        "/login?next=/login",
    ] {
        let begun = log_in(&rig, "chen", PASSWORD, evil).await;
        assert_eq!(
            (begun.status, begun.header("location")),
            (StatusCode::SEE_OTHER, "/"),
            "{evil:?}"
        );
        let form = browse(&rig, &format!("/login?next={}", encoded(evil)), "").await;
        assert!(form.text().contains("name=\"next\" value=\"/\""), "{evil:?}");
    }
}

#[tokio::test]
async fn another_sites_page_can_neither_log_in_nor_log_out_nor_act() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    user(&access, "chen", Role::Admin);
    let (session, _) = cookie(&log_in(&rig, "chen", PASSWORD, "/").await);
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        for path in [
            "/login",
            "/logout",
            "/-/reload",
            "/api/v1/auth/logout",
            "/api/v1/write",
        ] {
            let request = Request::post(path)
                .header(name, value)
                .header("cookie", &session)
                .header("content-type", "application/x-www-form-urlencoded");
            let reply = send(rig.address, request, "username=chen&password=x").await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path} {name}: {value}");
            assert_eq!(reply.json()["type"], "urn:marketprism:problem:cross-site");
        }
    }
    assert_eq!(
        browse(&rig, "/", &session).await.status,
        StatusCode::OK,
        "nothing happened to the session"
    );
}

#[tokio::test]
async fn behind_https_the_cookie_insists_on_it() {
    let config = Config {
        external_url: "https://monitor.example".to_owned(),
        ..Config::default()
    };
    let (rig, access) = Rig::guarded(config, &AccessConfig::default()).await;
    user(&access, "chen", Role::Operator);
    let begun = log_in(&rig, "chen", PASSWORD, "/").await;
    assert!(
        cookie(&begun).1.contains(&"Secure".to_owned()),
        "{:?}",
        cookie(&begun)
    );
}

#[tokio::test]
async fn where_nobody_is_asked_there_is_no_login() {
    let (rig, _) = Rig::guarded(Config::default(), &open_house()).await;
    let page = browse(&rig, "/", "").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(!page.text().contains("/logout"));
    let login = browse(&rig, "/login?next=%2Fgraph", "").await;
    assert_eq!(
        (login.status, login.header("location")),
        (StatusCode::SEE_OTHER, "/graph")
    );
}

#[tokio::test]
async fn pages_show_who_looks_at_them_and_escape_it() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    let vera = bearer(&access, "vera", Role::Viewer);
    let request = Request::get("/?lang=en").header("authorization", vera);
    let page = send(rig.address, request, "").await;
    assert!(page.text().contains("<b>vera</b> · viewer"), "{}", page.text());
}
