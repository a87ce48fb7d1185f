//! What attackers try at the door, and what each gets.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, StatusCode};
use marketprism_access::Config as AccessConfig;
use marketprism_model::{Role, Secret};
use marketprism_server::Config;
use ring::hmac;
use serde_json::{Value, json};

use crate::people::{PASSWORD, basic, bearer, behind_a_proxy, json as json_request, session, user};
use crate::reply::{Reply, get, post_json, send};
use crate::rig::{JWT_SECRET, Rig};

async fn me(rig: &Rig, authorization: &str) -> Reply {
    let request = Request::get("/api/v1/auth/me").header("authorization", authorization);
    send(rig.address, request, "").await
}

/// Writes a JWT by hand.
fn forged(header: &Value, claims: &Value, secret: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a JWT has three parts");
    let payload = URL_SAFE_NO_PAD.decode(payload).expect("it is base64url");
    serde_json::from_slice(&payload).expect("it is JSON")
}

#[tokio::test]
async fn a_session_carries_the_promised_claims_and_any_reader_of_hs256_agrees_with_its_signature() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    user(&access, "vera", Role::Viewer);
    let login = json!({ "username": "Vera", "password": PASSWORD });
    let reply = post_json(rig.address, "/api/v1/auth/login", &login).await;
    assert_eq!(reply.status, StatusCode::OK, "{:?}", reply.body);
    assert_eq!(reply.header("cache-control"), "no-store");
    let told = reply.json();
    assert_eq!(
        told["expires_at"], "2026-08-02T09:30:00.000Z",
        "24 hours from now"
    );
    let token = told["token"].as_str().expect("a text").to_owned();
    let claims = claims(&token);
    let names: Vec<&String> = claims.as_object().expect("a map").keys().collect();
    assert_eq!(names, ["exp", "iat", "jti", "role", "sub"]);
    assert_eq!(
        (&claims["sub"], &claims["role"]),
        (&json!("vera"), &json!("viewer"))
    );
    // `date -ud 2026-08-01T09:30:00Z +%s`
    assert_eq!(
        (&claims["iat"], &claims["exp"]),
        (&json!(1_785_576_600), &json!(1_785_663_000))
    );
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let key = hmac::Key::new(hmac::HMAC_SHA256, JWT_SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("it is base64url");
    assert!(hmac::verify(&key, signed.as_bytes(), &signature).is_ok());
}

#[tokio::test]
async fn tokens_that_were_forged_tampered_with_or_ended_are_worth_nothing() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    user(&access, "vera", Role::Viewer);
    user(&access, "root", Role::Admin);
    let good = session(&access, "vera", &Secret::new(PASSWORD))
        .expose()
        .to_owned();
    let claims = claims(&good);
    let hs256 = json!({ "alg": "HS256", "typ": "JWT" });
    let with = |name: &str, value: Value| {
        let mut changed = claims.clone();
        changed[name] = value;
        changed
    };
    let unsigned = |alg: &str| {
        let header = json!({ "alg": alg, "typ": "JWT" }).to_string();
        format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(with("role", json!("admin")).to_string())
        )
    };
    assert_eq!(me(&rig, &format!("Bearer {good}")).await.json()["name"], "vera");

    let (head, rest) = good.split_once('.').expect("three parts");
    let (payload, signature) = rest.split_once('.').expect("three parts");
    let admin_payload = URL_SAFE_NO_PAD.encode(with("role", json!("admin")).to_string());
    let wrong = [
        ("alg none", unsigned("none")),
        ("alg None", unsigned("None")),
        (
            "alg none with the old signature",
            format!("{}{signature}", unsigned("none")),
        ),
        (
            "alg HS384, the right key",
            forged(&json!({ "alg": "HS384", "typ": "JWT" }), &claims, JWT_SECRET),
        ),
        (
            "alg RS256, the right key",
            forged(&json!({ "alg": "RS256", "typ": "JWT" }), &claims, JWT_SECRET),
        ),
        (
            "a kid that leads to a file",
            forged(&json!({ "alg": "HS256", "kid": "/dev/null" }), &claims, ""),
        ),
        (
            "another key",
            forged(&hs256, &claims, "another secret of the tests, as long"),
        ),
        ("an empty key", forged(&hs256, &claims, "")),
        ("a stronger role", format!("{head}.{admin_payload}.{signature}")),
        (
            "another user",
            forged(&hs256, &with("sub", json!("root")), "guessed"),
        ),
        ("no signature", format!("{head}.{payload}.")),
        (
            "half a signature",
            format!("{head}.{payload}.{}", &signature[..20]),
        ),
        ("two parts", format!("{head}.{payload}")),
        ("four parts", format!("{good}.x")),
        ("nothing", String::new()),
        ("an API token that nobody made", format!("mp_{}", "a".repeat(49))),
    ];
    for (what, token) in wrong {
        let reply = me(&rig, &format!("Bearer {token}")).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{what}");
        assert_eq!(
            reply.json()["detail"],
            "the credentials are not accepted",
            "{what}"
        );
        let cookie = Request::get("/api/v1/auth/me").header("cookie", format!("marketprism_session={token}"));
        assert_eq!(
            send(rig.address, cookie, "").await.status,
            StatusCode::UNAUTHORIZED,
            "{what} as a cookie"
        );
    }
    // Each letter of the signature counts; the last one may differ in bits that base64 leaves over.
    for at in 0..good.len() - 1 {
        let mut letters = good.clone().into_bytes();
        letters[at] = if letters[at] == b'A' { b'B' } else { b'A' };
        let token = String::from_utf8(letters).expect("letters");
        if token != good {
            let reply = me(&rig, &format!("Bearer {token}")).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "letter {at} differs");
        }
    }
    // Signed with the right key, but with claims that were never given.
    for (what, claims) in [
        ("a longer life", with("exp", json!(9_999_999_999_u64))),
        ("no life", with("exp", json!(0))),
        ("from the future", with("iat", json!(1_785_586_600))),
        ("a further claim", with("admin", json!(true))),
        ("a role that is none", with("role", json!("root"))),
        ("nobody", with("sub", json!("nobody"))),
    ] {
        let reply = me(&rig, &format!("Bearer {}", forged(&hs256, &claims, JWT_SECRET))).await;
        let expected = if what == "a longer life" { 200 } else { 401 };
        assert_eq!(reply.status.as_u16(), expected, "{what}");
    }
    rig.rooms.clock.advance(Duration::from_secs(24 * 3600));
    let reply = me(&rig, &format!("Bearer {good}")).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(reply.json()["detail"], "the session or token has ended");
    let longer = forged(&hs256, &with("exp", json!(9_999_999_999_u64)), JWT_SECRET);
    assert_eq!(
        me(&rig, &format!("Bearer {longer}")).await.status,
        StatusCode::UNAUTHORIZED,
        "no longer than set"
    );
}

#[tokio::test]
async fn whoever_was_shut_out_weakened_or_logged_out_is_out_at_once() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    let root = bearer(&access, "root", Role::Admin);
    let change = async |name: &str, body: Value| {
        let request = json_request("PATCH", &format!("/api/v1/users/{name}"), &root);
        let reply = send(rig.address, request, body.to_string()).await;
        assert_eq!(reply.status, StatusCode::OK, "{name} {body}: {:?}", reply.body);
    };
    let cases = [
        ("disabled", json!({ "is_disabled": true })),
        ("weakened", json!({ "role": "viewer" })),
        ("renewed", json!({ "password": "another fine password" })),
    ];
    for (name, body) in cases {
        let credential = bearer(&access, name, Role::Operator);
        assert_eq!(me(&rig, &credential).await.status, StatusCode::OK);
        let tool = basic(name, PASSWORD);
        assert_eq!(me(&rig, &tool).await.status, StatusCode::OK);
        change(name, body).await;
        assert_eq!(
            me(&rig, &credential).await.status,
            StatusCode::UNAUTHORIZED,
            "{name}"
        );
        let tool = me(&rig, &tool).await;
        match name {
            "weakened" => assert_eq!(tool.json()["role"], "viewer"),
            _ => assert_eq!(tool.status, StatusCode::UNAUTHORIZED, "{name}"),
        }
    }
    let credential = bearer(&access, "leaver", Role::Viewer);
    let leave = || json_request("POST", "/api/v1/auth/logout", &credential);
    assert_eq!(
        send(rig.address, leave(), "").await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(me(&rig, &credential).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        send(rig.address, leave(), "").await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn an_address_counts_only_as_far_as_a_trusted_proxy_wrote_it() {
    // What the header says, who is asking then, and whether 10.0.0.0/8 lets that in.
    let check = async |rig: &Rig, forwarded: &[&str], client: &str, status: u16| {
        let mut request = Request::get("/api/v1/auth/me");
        for value in forwarded {
            request = request.header("x-forwarded-for", *value);
        }
        let reply = send(rig.address, request, "").await;
        assert_eq!(reply.status.as_u16(), status, "{forwarded:?}: {:?}", reply.body);
        if status == 200 {
            assert_eq!(reply.json()["client"], client, "{forwarded:?}");
        } else {
            assert_eq!(
                reply.json()["type"],
                "urn:marketprism:problem:address-refused",
                "{forwarded:?}"
            );
            assert!(
                !reply.text().contains("10."),
                "the answer tells nothing of the list"
            );
        }
    };
    let mut open = behind_a_proxy(&["10.0.0.0/8"]);
    open.api_auth.enabled = false;
    let (rig, _) = Rig::guarded(Config::default(), &open).await;
    check(&rig, &[], "127.0.0.1", 200).await;
    check(&rig, &["10.1.2.3"], "10.1.2.3", 200).await;
    check(&rig, &["203.0.113.9"], "", 403).await;
    // The client wrote what stands left; the proxy added what stands right.
    check(&rig, &["10.1.2.3, 203.0.113.9"], "", 403).await;
    check(&rig, &["127.0.0.1, 203.0.113.9"], "", 403).await;
    check(&rig, &["10.1.2.3", "203.0.113.9"], "", 403).await;
    check(&rig, &["203.0.113.9, 10.1.2.3"], "10.1.2.3", 200).await;
    check(&rig, &["::ffff:203.0.113.9"], "", 403).await;
    // From a machine that is no trusted proxy the header is nothing but words.
    open.access_control.trusted_proxies = vec!["10.0.0.0/8".to_owned()];
    let (rig, _) = Rig::guarded(Config::default(), &open).await;
    check(&rig, &["10.1.2.3"], "127.0.0.1", 200).await;
    check(&rig, &["203.0.113.9"], "127.0.0.1", 200).await;
    // Nor do headers of other programs count, or a neighbour's word that nobody signed.
    open.access_control.trusted_proxies = vec!["127.0.0.1".to_owned()];
    let (rig, _) = Rig::guarded(Config::default(), &open).await;
    for name in [
        "x-real-ip",
        "forwarded",
        "x-client-ip",
        "true-client-ip",
        "x-marketprism-client",
    ] {
        let request = Request::get("/api/v1/auth/me")
            .header("x-forwarded-for", "203.0.113.9")
            .header(name, "10.1.2.3");
        assert_eq!(
            send(rig.address, request, "").await.status,
            StatusCode::FORBIDDEN,
            "{name}"
        );
    }
}

#[tokio::test]
async fn guessing_is_slowed_down_and_right_passwords_from_elsewhere_still_work() {
    let mut settings = behind_a_proxy(&["0.0.0.0/0"]);
    settings.api_auth.login_attempts.per_address = 10;
    let (rig, access) = Rig::guarded(Config::default(), &settings).await;
    user(&access, "vera", Role::Viewer);
    let guess = async |from: &str, name: &str, password: &str| {
        let request = Request::post("/api/v1/auth/login")
            .header("content-type", "application/json")
            .header("x-forwarded-for", from);
        let body = json!({ "username": name, "password": password }).to_string();
        send(rig.address, request, body).await
    };
    // 200 guesses without a pause: five are judged, the rest is not even looked at.
    let mut counts = std::collections::BTreeMap::new();
    for number in 0..200 {
        let reply = guess("198.51.100.7", "vera", &format!("guess {number:04}")).await;
        *counts.entry(reply.status.as_u16()).or_insert(0) += 1;
        if reply.status == StatusCode::TOO_MANY_REQUESTS {
            assert!(
                reply
                    .header("retry-after")
                    .parse::<u32>()
                    .is_ok_and(|wait| wait >= 1)
            );
            assert_eq!(reply.json()["type"], "urn:marketprism:problem:too-many-attempts");
        }
    }
    assert_eq!(counts, [(401, 5), (429, 195)].into());
    assert_eq!(
        guess("198.51.100.7", "vera", PASSWORD).await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(
        guess("198.51.100.8", "vera", PASSWORD).await.status,
        StatusCode::OK,
        "nobody is locked out"
    );
    // Whoever tries many names is slowed down for all of them.
    let mut counts = std::collections::BTreeMap::new();
    for number in 0..50 {
        let reply = guess("198.51.100.9", &format!("name{number}"), "a common password").await;
        *counts.entry(reply.status.as_u16()).or_insert(0) += 1;
    }
    assert_eq!(counts, [(401, 10), (429, 40)].into());
    // Waiting as told is enough for one more try.
    let told = guess("198.51.100.7", "vera", PASSWORD).await;
    let wait = told.header("retry-after").parse().expect("seconds");
    rig.rooms.clock.advance(Duration::from_secs(wait));
    assert_eq!(
        guess("198.51.100.7", "vera", PASSWORD).await.status,
        StatusCode::OK
    );
    // Guessing by basic authentication counts as well.
    let mut counts = std::collections::BTreeMap::new();
    for number in 0..20 {
        let request = Request::get("/api/v1/alerts")
            .header("x-forwarded-for", "198.51.100.10")
            .header("authorization", basic("vera", &format!("guess {number:04}")));
        let reply = send(rig.address, request, "").await;
        *counts.entry(reply.status.as_u16()).or_insert(0) += 1;
    }
    assert_eq!(counts, [(401, 5), (429, 15)].into());
}

#[tokio::test]
async fn whether_a_user_exists_is_not_told() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    user(&access, "vera", Role::Viewer);
    user(&access, "gone", Role::Viewer);
    let disable = marketprism_access::UserChange {
        is_disabled: Some(true),
        ..marketprism_access::UserChange::default()
    };
    access.change_user("gone", disable).expect("the user is there");
    let mut answers = Vec::new();
    for (name, password) in [
        ("vera", "wrong password"),
        ("nobody", "wrong password"),
        ("gone", PASSWORD),
        ("no name at all!", "wrong password"),
        ("", ""),
    ] {
        let body = json!({ "username": name, "password": password });
        let reply = post_json(rig.address, "/api/v1/auth/login", &body).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{name:?}");
        answers.push(reply.text().to_owned());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn each_surface_refuses_in_its_own_shape_and_says_what_to_send() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    let challenges = |reply: &Reply| -> Vec<String> {
        let values = reply.headers.get_all("www-authenticate").iter();
        values
            .map(|value| value.to_str().expect("text").to_owned())
            .collect()
    };
    let basic = "Basic realm=\"MarketPrism\", charset=\"UTF-8\"";
    let bearer_only = "Bearer realm=\"MarketPrism\"";
    let own = get(rig.address, "/api/v1/alerts").await;
    assert_eq!(own.header("content-type"), "application/problem+json");
    assert_eq!(
        own.json(),
        json!({
            "type": "urn:marketprism:problem:unauthorized",
            "title": "Unauthorized",
            "status": 401,
            "detail": "credentials are needed",
            "instance": "/api/v1/alerts",
        })
    );
    assert_eq!(challenges(&own), [basic, bearer_only]);
    let compatible = get(rig.address, "/prometheus/api/v1/query?query=up").await;
    assert_eq!(compatible.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        compatible.json(),
        json!({ "status": "error", "errorType": "unauthorized", "error": "credentials are needed" })
    );
    assert_eq!(challenges(&compatible), [basic, bearer_only]);
    // A script of a page must not make the browser ask for a password by itself.
    let request = Request::get("/api/v1/alerts").header("sec-fetch-mode", "cors");
    assert_eq!(challenges(&send(rig.address, request, "").await), [bearer_only]);
    let viewer = bearer(&access, "vera", Role::Viewer);
    let request = Request::get("/prometheus/api/v1/status/config").header("authorization", &viewer);
    let forbidden = send(rig.address, request, "").await;
    assert_eq!(
        forbidden.json(),
        json!({ "status": "error", "errorType": "forbidden", "error": "this needs the role admin" })
    );
    let request = Request::get("/api/v1/users").header("authorization", &viewer);
    let forbidden = send(rig.address, request, "").await;
    assert_eq!(forbidden.status, StatusCode::FORBIDDEN);
    assert_eq!(forbidden.json()["detail"], "this needs the role admin");
    assert!(challenges(&forbidden).is_empty());
}

#[tokio::test]
async fn a_refused_request_is_refused_before_its_body_is_read() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (rig, _) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    for path in ["/api/v1/write", "/api/v1/users", "/prometheus/api/v1/query"] {
        let mut stream = tokio::net::TcpStream::connect(rig.address)
            .await
            .expect("the server listens");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("the server reads");
        let mut begun = [0; 12];
        let answer = tokio::time::timeout(Duration::from_secs(30), stream.read_exact(&mut begun));
        answer
            .await
            .expect("without waiting for the body")
            .expect("an answer");
        assert_eq!(&begun, b"HTTP/1.1 401", "{path}");
    }
}

#[tokio::test]
async fn bodies_that_are_bombs_or_carry_what_is_unknown_are_refused_by_name() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    let root = bearer(&access, "root", Role::Admin);
    let check = async |method: &str, path: &str, body: &str, status: u16, words: &str| {
        let reply = send(rig.address, json_request(method, path, &root), body.to_owned()).await;
        let shown: String = body.chars().take(60).collect();
        assert_eq!(reply.status.as_u16(), status, "{path} {shown}: {:?}", reply.body);
        let detail = reply.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(
            detail.contains(words),
            "{path} {shown}: {detail:?} lacks {words:?}"
        );
    };
    let deep = format!("{{\"name\":{}", "[".repeat(10_000));
    check("POST", "/api/v1/users", &deep, 400, "line 1 column").await;
    let deep = format!("{{\"username\":\"a\",\"password\":{}1", "{\"a\":".repeat(3000));
    check("POST", "/api/v1/auth/login", &deep, 400, "line 1 column").await;
    let long = format!("{{\"username\":\"{}\"}}", "a".repeat(20_000));
    check(
        "POST",
        "/api/v1/auth/login",
        &long,
        413,
        "longer than 16384 bytes",
    )
    .await;
    let twice = "{\"username\":\"a\",\"username\":\"b\",\"password\":\"c\"}";
    check(
        "POST",
        "/api/v1/auth/login",
        twice,
        400,
        "duplicate field `username`",
    )
    .await;
    let more = "{\"username\":\"a\",\"password\":\"b\",\"role\":\"admin\"}";
    check(
        "POST",
        "/api/v1/auth/login",
        more,
        400,
        "unknown field `role`, expected `username` or `password`",
    )
    .await;
    check(
        "POST",
        "/api/v1/auth/login",
        "{\"username\":\"a\"}",
        400,
        "missing field `password`",
    )
    .await;
    check(
        "POST",
        "/api/v1/auth/login",
        "{\"username\":\"a\",\"password\":\"b\"} {}",
        400,
        "trailing characters",
    )
    .await;
    check("POST", "/api/v1/auth/login", "[\"a\"]", 400, "").await;
    check(
        "POST",
        "/api/v1/users",
        "{\"name\":\"a\",\"role\":\"root\",\"password\":\"12345678\"}",
        400,
        "unknown variant `root`",
    )
    .await;
    check(
        "POST",
        "/api/v1/users",
        "{\"name\":\"a b\",\"role\":\"viewer\",\"password\":\"12345678\"}",
        400,
        "name: \"a b\" is no name",
    )
    .await;
    check(
        "POST",
        "/api/v1/users",
        "{\"name\":\"ab\",\"role\":\"viewer\",\"password\":\"1234567\"}",
        400,
        "password: a password has 8 to 1024 bytes",
    )
    .await;
    check(
        "PATCH",
        "/api/v1/users/root",
        "{\"passwort\":\"12345678\"}",
        400,
        "unknown field `passwort`",
    )
    .await;
    check(
        "POST",
        "/api/v1/tokens",
        "{\"name\":\"t\",\"role\":\"viewer\",\"expires_at\":\"soon\"}",
        400,
        "expires_at: ",
    )
    .await;
    check(
        "POST",
        "/api/v1/tokens",
        "{\"name\":\"t\",\"role\":\"viewer\",\"expires_at\":\"2020-01-01T00:00:00Z\"}",
        400,
        "has passed",
    )
    .await;
    check(
        "GET",
        "/api/v1/audit?actr=root",
        "",
        400,
        "actr: unknown; known are actor, action, limit, cursor",
    )
    .await;
}

/// Passwords are slow to check by design; whoever sends many at once must not keep others out with that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_logins_is_told_to_come_back_and_holds_up_nobody_else() {
    let (rig, access) = Rig::guarded(Config::default(), &behind_a_proxy(&["0.0.0.0/0"])).await;
    let vera = bearer(&access, "vera", Role::Viewer);
    let tool = basic("vera", PASSWORD);
    assert_eq!(me(&rig, &tool).await.status, StatusCode::OK);
    let address = rig.address;
    let guesses: Vec<_> = (0..150)
        .map(|number: u32| {
            let request = Request::post("/api/v1/auth/login")
                .header("content-type", "application/json")
                .header("x-forwarded-for", format!("198.51.100.{number}"));
            let body = json!({ "username": "vera", "password": format!("guess {number:03}") }).to_string();
            tokio::spawn(async move { send(address, request, body).await })
        })
        .collect();
    while !guesses.iter().any(tokio::task::JoinHandle::is_finished) {
        assert_eq!(me(&rig, &vera).await.status, StatusCode::OK, "a session");
        assert_eq!(
            me(&rig, &tool).await.status,
            StatusCode::OK,
            "a password that was right a moment ago"
        );
        assert_eq!(get(rig.address, "/health").await.status, StatusCode::OK);
    }
    let mut counts = std::collections::BTreeMap::new();
    for guess in guesses {
        let reply = guess.await.expect("no panic");
        *counts.entry(reply.status.as_u16()).or_insert(0) += 1;
        assert_eq!(
            !reply.header("retry-after").is_empty(),
            reply.status == StatusCode::SERVICE_UNAVAILABLE
        );
    }
    println!("150 logins at once: {counts:?}");
    let known: Vec<u16> = counts.keys().copied().collect();
    assert_eq!(
        known,
        [401, 503],
        "some were checked, some were told to come back: {counts:?}"
    );
}
