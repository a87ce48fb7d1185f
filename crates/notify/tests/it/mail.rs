//! Mail through a real server.

use marketprism_model::{AlertState, Level, NotificationStatus};
use marketprism_testkit::{SmtpOptions, SmtpSecurity, SmtpServer};

use crate::fixture::{Desk, PATIENCE, alert, firing, notification};

fn desk(server: &SmtpServer, more: &str) -> Desk {
    Desk::new(&format!(
        "channels:\n  email: {{smtp_server: 127.0.0.1, smtp_port: {}, ca_file: '{}', {more}}}",
        server.port(),
        server.ca_file().display(),
    ))
}

const PLAIN: &str =
    "security: none, username: '', from: 'MarketPrism <alerts@example.org>', to: ops@example.org";

fn header<'a>(mail: &'a str, name: &str) -> &'a str {
    let head = mail.split("\r\n\r\n").next().unwrap_or("");
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {head}"))
}

#[tokio::test]
async fn a_firing_and_its_resolve_arrive_as_one_thread() {
    let server = SmtpServer::start(&SmtpOptions::default());
    let desk = desk(&server, PLAIN);
    let running = desk.run();
    let first = firing(1, "email");
    let over = alert("HostDown", AlertState::Resolved, Level::Critical);
    let mut second = notification(2, "email", vec![over]);
    second.group_key.clone_from(&first.group_key);
    let (first, second) = (desk.put(first), desk.put(second));
    desk.wait_for_status(second, NotificationStatus::Delivered).await;

    let mails = server.wait_for_mails(PATIENCE, 2);
    assert_eq!(
        (mails[0].from.as_str(), &mails[0].to[..]),
        ("alerts@example.org", &["ops@example.org".to_owned()][..])
    );
    let texts: Vec<String> = mails.iter().map(|mail| mail.text()).collect();
    assert_eq!(header(&texts[0], "Message-ID"), format!("<{first}@example.org>"));
    assert_eq!(header(&texts[1], "Message-ID"), format!("<{second}@example.org>"));
    let root = header(&texts[0], "References");
    assert!(
        root.starts_with("<group-") && root.ends_with("@example.org>"),
        "{root}"
    );
    for text in &texts {
        assert_eq!(
            (header(text, "References"), header(text, "In-Reply-To")),
            (root, root)
        );
        assert_eq!(header(text, "Auto-Submitted"), "auto-generated");
        assert!(header(text, "Content-Type").starts_with("multipart/alternative"));
    }
    assert_eq!(header(&texts[0], "Date"), "Tue, 24 Nov 2026 04:10:43 +0000");
    assert_eq!(header(&texts[0], "Importance"), "high");
    // `printf '[P1 严重] HostDown：db1:9100' | base64`, within RFC 2047's words.
    assert_eq!(decoded_subject(&texts[0]), "[P1 严重] HostDown：db1:9100");
    assert_eq!(decoded_subject(&texts[1]), "[已恢复] HostDown：db1:9100");
    desk.cancel.cancel();
    running.await.expect("the loop ends");
}

/// Lets Python's mail parser, which shares no code with ours, decode subject and parts.
fn decoded(mail: &str, what: &str) -> String {
    let script = format!(
        "import sys, email, email.policy; m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default); sys.stdout.buffer.write(({what}).encode())"
    );
    let mut child = std::process::Command::new("/usr/bin/python3")
        .args(["-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("/usr/bin/python3 starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), mail.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn decoded_subject(mail: &str) -> String {
    decoded(mail, "m['subject']")
}

#[tokio::test]
async fn both_halves_decode_to_what_was_written() {
    let server = SmtpServer::start(&SmtpOptions::default());
    let desk = desk(&server, PLAIN);
    let delivery = desk.notifier.test_send("email").await.expect("it is in use");
    assert!(format!("{delivery:?}").contains("250"), "{delivery:?}");
    let mail = server.mails()[0].text();
    let plain = decoded(&mail, "m.get_body(('plain',)).get_content()");
    assert!(plain.contains("这是一条测试通知，无需处理"), "{plain}");
    assert!(plain.lines().any(|line| line == "当前值：1"), "{plain}");
    let html = decoded(&mail, "m.get_body(('html',)).get_content()");
    assert!(html.contains("这是一条测试通知，无需处理"), "{html}");
    assert_eq!(decoded(&mail, "str(len(list(m.iter_parts())))"), "2");
}

#[tokio::test]
async fn a_wrong_password_is_refused_once_and_never_shown() {
    let server = SmtpServer::start(&SmtpOptions {
        security: SmtpSecurity::StartTls,
        credentials: Some(("ops@example.org".to_owned(), "right".to_owned())),
        port: 0,
    });
    let desk = desk(&server, "username: ops@example.org, password: hunter2");
    let _running = desk.run();
    let id = desk.put(firing(1, "email"));
    desk.wait_for_status(id, NotificationStatus::Failed).await;
    let attempts = desk.attempts(id);
    assert_eq!(attempts.len(), 1);
    assert!(
        attempts[0].starts_with("refused 535 login refused: 5.7.8"),
        "{attempts:?}"
    );
    assert!(!attempts[0].contains("hunter2"));
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn a_greylisting_server_gets_the_same_mail_again() {
    let server = SmtpServer::start(&SmtpOptions::default());
    let desk = desk(
        &server,
        "security: none, username: '', from: a@example.org, to: once@example.org",
    );
    let _running = desk.run();
    let id = desk.put(firing(1, "email"));
    desk.wait_for_retry(id, 1).await;
    assert!(server.mails().is_empty());
    desk.clock.advance(std::time::Duration::from_secs(5));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    assert_eq!(
        desk.attempts(id),
        [
            "retry 451 put off with 451: 4.7.1 Greylisted, please try again later",
            "delivered 250 2.0.0 OK queued as TEST1",
        ]
    );
    assert_eq!(
        header(&server.mails()[0].text(), "Message-ID"),
        format!("<{id}@example.org>")
    );
}

#[tokio::test]
async fn a_server_that_was_away_gets_the_mail_when_it_is_back() {
    let port = marketprism_testkit::free_port();
    let desk = Desk::new(&format!(
        "channels:\n  email: {{smtp_server: 127.0.0.1, smtp_port: {port}, {PLAIN}}}"
    ));
    let _running = desk.run();
    let id = desk.put(firing(1, "email"));
    desk.wait_for_retry(id, 1).await;
    let server = SmtpServer::start(&SmtpOptions {
        port,
        ..SmtpOptions::default()
    });
    desk.clock.advance(std::time::Duration::from_secs(5));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    assert_eq!(server.mails().len(), 1);
    assert!(
        desk.attempts(id)[0].ends_with("connection refused"),
        "{:?}",
        desk.attempts(id)
    );
}

#[tokio::test]
async fn starttls_and_login_carry_the_mail() {
    let server = SmtpServer::start(&SmtpOptions {
        security: SmtpSecurity::StartTls,
        credentials: Some(("ops@example.org".to_owned(), "right".to_owned())),
        port: 0,
    });
    let desk = desk(&server, "username: ops@example.org, password: right");
    let _running = desk.run();
    let id = desk.put(firing(1, "email"));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    let mail = &server.mails()[0];
    assert_eq!(
        (mail.is_tls, mail.user.as_deref()),
        (true, Some("ops@example.org"))
    );
}
