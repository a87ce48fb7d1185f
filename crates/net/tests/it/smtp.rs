//! Mail against a real server, Debian's aiosmtpd.

use std::time::Duration;

use marketprism_net::smtp::{
    MailEnvelope, MailTransport, SmtpClient, SmtpError, SmtpReceipt, SmtpSecurity, SmtpServer,
};
use marketprism_net::{NetError, TlsPolicy};
use marketprism_testkit as testkit;

const MESSAGE: &[u8] = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: x\r\n\r\n.dot\r\nlast line\r\n";

fn started(security: testkit::SmtpSecurity, has_login: bool) -> testkit::SmtpServer {
    let credentials = has_login.then(|| ("watch".to_owned(), "pa ss\u{e9}".to_owned()));
    testkit::SmtpServer::start(&testkit::SmtpOptions {
        security,
        credentials,
        port: 0,
    })
}

fn client_of(server: &testkit::SmtpServer, security: SmtpSecurity) -> SmtpServer {
    SmtpServer {
        host: "127.0.0.1".to_owned(),
        port: server.port(),
        security,
        username: None,
        password: String::new(),
        tls: TlsPolicy {
            ca_file: Some(server.ca_file()),
            ..TlsPolicy::default()
        },
        hello_name: None,
        timeout: Duration::from_secs(20),
    }
}

fn with_login(mut server: SmtpServer, password: &str) -> SmtpServer {
    server.username = Some("watch".to_owned());
    server.password = password.to_owned();
    server
}

async fn send(server: &SmtpServer, to: &str) -> Result<SmtpReceipt, SmtpError> {
    let envelope = MailEnvelope::new("a@example.org", [to]).expect("well-formed");
    SmtpClient::default().send(server, &envelope, MESSAGE).await
}

#[tokio::test]
async fn plain_mail_arrives_byte_by_byte() {
    let server = started(testkit::SmtpSecurity::Plain, false);
    let receipt = send(&client_of(&server, SmtpSecurity::None), "b@example.org").await;
    let receipt = receipt.expect("it is taken");
    assert_eq!(
        (receipt.code, receipt.words.as_str()),
        (250, "2.0.0 OK queued as TEST1")
    );
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(
        (mails[0].from.as_str(), &mails[0].to[..]),
        ("a@example.org", &["b@example.org".to_owned()][..])
    );
    assert!(
        mails[0]
            .text()
            .starts_with(std::str::from_utf8(MESSAGE).expect("ASCII"))
    );
    assert!(!mails[0].is_tls);
}

#[tokio::test]
async fn starttls_and_implicit_tls_carry_login_and_mail() {
    for (theirs, ours) in [
        (testkit::SmtpSecurity::StartTls, SmtpSecurity::StartTls),
        (testkit::SmtpSecurity::Implicit, SmtpSecurity::Implicit),
    ] {
        let server = started(theirs, true);
        let client = with_login(client_of(&server, ours), "pa ss\u{e9}");
        send(&client, "b@example.org").await.expect("it is taken");
        let mails = server.mails();
        assert_eq!(mails.len(), 1, "{theirs:?}");
        assert_eq!((mails[0].is_tls, mails[0].user.as_deref()), (true, Some("watch")));
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_refused_login_with_the_servers_words() {
    let server = started(testkit::SmtpSecurity::StartTls, true);
    let client = with_login(client_of(&server, SmtpSecurity::StartTls), "wrong");
    let error = send(&client, "b@example.org").await.expect_err("refused");
    let SmtpError::Login { code, words } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*code, 535);
    assert!(
        words.contains("5.7.8 Authentication credentials invalid"),
        "{words}"
    );
    assert!(!error.is_transient());
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn starttls_is_insisted_on() {
    let server = started(testkit::SmtpSecurity::Plain, false);
    let error = send(&client_of(&server, SmtpSecurity::StartTls), "b@example.org").await;
    assert!(matches!(error, Err(SmtpError::NoStartTls { .. })), "{error:?}");
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn recipients_are_put_off_or_refused_with_code_and_words() {
    let server = started(testkit::SmtpSecurity::Plain, false);
    let client = client_of(&server, SmtpSecurity::None);
    let error = send(&client, "later@example.org").await.expect_err("put off");
    assert_eq!(
        error.to_string(),
        "put off with 451: 4.3.2 Please try again later"
    );
    assert!(error.is_transient());
    let error = send(&client, "never@example.org").await.expect_err("refused");
    assert_eq!(error.to_string(), "refused with 550: 5.1.1 No such user here");
    assert!(!error.is_transient());
    send(&client, "once@example.org")
        .await
        .expect_err("the first time");
    send(&client, "once@example.org").await.expect("the second time");
}

#[tokio::test]
async fn an_untrusted_certificate_and_a_closed_port_say_so() {
    let server = started(testkit::SmtpSecurity::StartTls, false);
    let mut client = client_of(&server, SmtpSecurity::StartTls);
    client.tls.ca_file = None;
    let error = send(&client, "b@example.org")
        .await
        .expect_err("unknown authority");
    assert!(
        matches!(error, SmtpError::Connection(NetError::Tls { .. })),
        "{error:?}"
    );
    client.port = testkit::free_port();
    let error = send(&client, "b@example.org").await.expect_err("nobody listens");
    assert!(error.to_string().ends_with("connection refused"), "{error}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_silent_server_costs_no_more_than_the_timeout() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    for security in [SmtpSecurity::None, SmtpSecurity::StartTls, SmtpSecurity::Implicit] {
        let client = SmtpServer {
            host: "127.0.0.1".to_owned(),
            port,
            security,
            username: None,
            password: String::new(),
            tls: TlsPolicy::default(),
            hello_name: None,
            timeout: Duration::from_millis(150),
        };
        let error = send(&client, "b@example.org").await.expect_err("silence");
        assert!(
            matches!(error, SmtpError::Connection(NetError::Timeout { .. })),
            "{error:?}"
        );
    }
    drop(listener);
}

#[test]
fn malformed_addresses_never_reach_a_server() {
    for (from, to) in [
        ("a", "b@example.org"),
        ("a@example.org", "b"),
        ("a@example.org", "b@x\r\nDATA"),
    ] {
        assert!(MailEnvelope::new(from, [to]).is_err(), "{from} to {to}");
    }
    assert!(
        MailEnvelope::new("a@example.org", []).is_err(),
        "nobody to send to"
    );
}

#[tokio::test]
async fn one_bad_recipient_does_not_cost_the_others_their_mail() {
    let server = started(testkit::SmtpSecurity::Plain, false);
    let client = client_of(&server, SmtpSecurity::None);
    let send_to = async |to: &[&str], may_skip| {
        let envelope = MailEnvelope::new("a@example.org", to.iter().copied()).expect("well-formed");
        let envelope = envelope.skipping_put_off(may_skip);
        SmtpClient::default().send(&client, &envelope, MESSAGE).await
    };
    let receipt = send_to(&["never@example.org", "b@example.org"], false).await;
    assert_eq!(
        receipt.expect("one is taken").skipped,
        ["never@example.org: refused with 550: 5.1.1 No such user here"]
    );
    let error = send_to(&["b@example.org", "later@example.org"], false).await;
    assert!(
        matches!(error, Err(SmtpError::PutOff { code: 451, .. })),
        "{error:?}"
    );
    let receipt = send_to(&["later@example.org", "b@example.org"], true).await;
    assert_eq!(receipt.expect("one is taken").skipped.len(), 1);
    let error = send_to(&["later@example.org"], true).await;
    assert!(error.is_err(), "nobody is left: {error:?}");
    let recipients: Vec<_> = server.mails().into_iter().map(|mail| mail.to).collect();
    assert_eq!(recipients, [["b@example.org"], ["b@example.org"]]);
}
