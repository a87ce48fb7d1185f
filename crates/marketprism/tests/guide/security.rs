//! Who gets in: the guide's sections on tokens, addresses and HTTPS.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use marketprism_testkit::{TestAuthority, is_true_within};
use serde_json::{Value, json};

use crate::guide::step;
use crate::host::admin_password;
use crate::program::{PATIENCE, Program};
use crate::settings::{Settings, VARIABLES};
use crate::web;

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("a JWT has three parts");
    let bytes = URL_SAFE_NO_PAD.decode(part).expect("base64 without padding");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[test]
fn a_login_gives_a_token_for_a_day_and_the_list_keeps_strangers_out() {
    // A test has but the loopback; a trusted proxy there speaks for other addresses.
    let settings = Settings::of_the_guide().replace(
        "    allowed_ips:\n",
        "    trusted_proxies: [\"127.0.0.1\"]\n    allowed_ips:\n",
    );
    assert!(
        settings.0.contains(
            &step("安全配置 / API认证")
                .text
                .lines()
                .next()
                .expect("a line")
                .to_owned()
        )
    );
    let mut program = Program::prepare(&settings.0);
    // The Slack of whoever runs the tests is not told.
    program.set_environment("SLACK_WEBHOOK_URL", "");
    program.launch(&VARIABLES);
    program.wait_until_ready();
    let get = |path: &str, headers: &[(&str, &str)]| web::get(&(program.url() + path), headers);

    let (status, body) = get("/api/v1/alerts", &[]);
    assert_eq!(status, 401, "{body}");
    let password = admin_password(&program.home().join("data"));
    let login = |password: &str| {
        let body = json!({"username": "admin", "password": password});
        web::post_json(&(program.url() + "/api/v1/auth/login"), &body)
    };
    assert_eq!(login("not the password").0, 401);
    let answer = web::json(login(&password));
    let token = answer["token"].as_str().expect("a token");
    let claims = claims(token);
    let lasts = claims["exp"].as_i64().zip(claims["iat"].as_i64());
    assert_eq!(lasts.map(|(end, begin)| end - begin), Some(24 * 3600), "{claims}");
    let bearer = format!("Bearer {token}");
    assert_eq!(get("/api/v1/alerts", &[("Authorization", &bearer)]).0, 200);
    assert_eq!(
        get("/api/v1/alerts", &[("Authorization", "Bearer no.such.token")]).0,
        401
    );

    let from = |client: &str, path: &str| {
        let headers = [("X-Forwarded-For", client), ("Authorization", &*bearer)];
        get(path, &headers).0
    };
    for client in ["10.1.2.3", "172.16.0.1", "172.31.255.254", "192.168.1.1"] {
        assert_eq!(from(client, "/api/v1/alerts"), 200, "{client}");
    }
    for client in [
        "203.0.113.9",
        "11.0.0.1",
        "172.32.0.1",
        "192.169.0.1",
        "2001:db8::1",
    ] {
        assert_eq!(from(client, "/api/v1/alerts"), 403, "{client}");
        assert_eq!(from(client, "/metrics"), 403, "{client}");
        // What asks after health comes from anywhere.
        assert_eq!(from(client, "/health"), 200, "{client}");
        assert_eq!(from(client, "/ready"), 200, "{client}");
    }
}

#[test]
fn the_port_speaks_https_with_the_files_of_the_guide() {
    let authority = TestAuthority::new();
    let certificate = authority.issue(&["localhost", "127.0.0.1"]);
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let settings = Settings(step("安全配置 / HTTPS配置").text)
        .replace("/etc/ssl/certs/server.crt", &path(&certificate.cert_file))
        .replace("/etc/ssl/private/server.key", &path(&certificate.key_file));
    let mut program = Program::prepare(&settings.0);
    program.launch(&[]);
    let address = program.url().replace("http://", "https://");
    let ask = |path: &str, more: &[&str]| {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--noproxy",
                "*",
                "--write-out",
                "\n%{http_code}",
            ])
            .args(more)
            .arg(address.clone() + path)
            .output()
            .expect("curl is there; run: apt-get install curl");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout).lines().last().unwrap_or("").to_owned(),
            text(&output.stderr),
        )
    };
    let authority = path(&authority.ca_file());
    let is_ready = is_true_within(PATIENCE, || ask("/ready", &["--cacert", &authority]).1 == "200");
    assert!(is_ready, "{}", program.log());
    let (_, status, _) = ask("/api/v1/alerts", &["--cacert", &authority]);
    assert_eq!(status, "401");
    let (is_done, _, complaint) = ask("/health", &[]);
    assert!(!is_done, "a certificate of nobody's authority is not believed");
    assert!(complaint.contains("certificate"), "{complaint}");
    let (status, _) = web::get(&(program.url() + "/health"), &[]);
    assert_ne!(status, 200, "no plain HTTP beside it");
}

#[test]
fn a_certificate_that_is_not_there_ends_the_start_by_name() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let absent = |name: &str| home.path().join(name).to_str().expect("UTF-8").to_owned();
    let settings = Settings(step("安全配置 / HTTPS配置").text)
        .replace("/etc/ssl/certs/server.crt", &absent("server.crt"))
        .replace("/etc/ssl/private/server.key", &absent("server.key"));
    let mut program = Program::prepare(&settings.0);
    program.launch(&[]);
    let status = program.wait_for_exit(PATIENCE);
    assert!(
        status.is_some_and(|status| !status.success()),
        "{}",
        program.log()
    );
    assert!(program.log().contains(&absent("server.crt")), "{}", program.log());
}
