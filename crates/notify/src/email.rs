//! Mail: text and HTML side by side, one thread a group.
//!
//! The Message-ID is the notification's id, so that a message that arrives twice is shown once by programs
//! that look. All mails of a group refer to one root that was never sent; programs thread by it.
//!
//! Source: RFC 5322 (sections 3.6.4 and 3.6.1), RFC 3834 (Auto-Submitted).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Mail, MultiPart, SinglePart};
use marketprism_model::{AlertState, BoxFuture, Level, Notification, Timestamp};
use marketprism_net::smtp::{MailEnvelope, MailTransport, SmtpError, SmtpServer};

use crate::channel::{Attempt, Channel, Delivery};
use crate::compose::{Audience, Message};
use crate::redact::Redactor;
use crate::{mail_html, mail_text};

/// How many alerts one mail tells.
pub(crate) const ALERTS_MAX: usize = 50;
/// After this many attempts the mail goes to those recipients who can have it.
const ATTEMPTS_FOR_ALL: u32 = 5;

/// Headers that every mail has of its own; a configuration cannot change them.
pub(crate) const RESERVED_HEADERS: [&str; 15] = [
    "From",
    "Sender",
    "To",
    "Cc",
    "Bcc",
    "Date",
    "Message-Id",
    "In-Reply-To",
    "References",
    "Mime-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
    "Auto-Submitted",
    "Importance",
];

/// A mail server, and from whom to whom mails go.
pub(crate) struct Email {
    pub(crate) mailer: Arc<dyn MailTransport>,
    pub(crate) audience: Audience,
    pub(crate) server: SmtpServer,
    pub(crate) from: Mailbox,
    pub(crate) to: Vec<Mailbox>,
    /// Further headers; `Subject` stands for the title.
    pub(crate) headers: BTreeMap<String, String>,
    /// The channel's name, a part of what makes a thread.
    pub(crate) name: String,
    pub(crate) redactor: Redactor,
}

impl Channel for Email {
    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        message: &'a Message,
        attempt: Attempt,
    ) -> BoxFuture<'a, Delivery> {
        Box::pin(async move {
            self.send(notification, message, attempt)
                .await
                .recorded(&self.redactor)
        })
    }

    fn audience(&self) -> &Audience {
        &self.audience
    }
}

impl Email {
    async fn send(&self, notification: &Notification, message: &Message, attempt: Attempt) -> Delivery {
        let refused = |detail| Delivery::Refused { code: 0, detail };
        let mail = match self.compose(notification, message) {
            Ok(mail) => mail,
            Err(error) => return refused(format!("the mail cannot be written: {error}")),
        };
        let to = self.to.iter().map(|mailbox| mailbox.email.as_ref());
        let envelope = match MailEnvelope::new(self.from.email.as_ref(), to) {
            Ok(envelope) => envelope.skipping_put_off(attempt.number > ATTEMPTS_FOR_ALL),
            Err(error) => return refused(error.to_string()),
        };
        match self.mailer.send(&self.server, &envelope, &mail).await {
            Ok(receipt) if receipt.skipped.is_empty() => Delivery::Delivered {
                code: i32::from(receipt.code),
                detail: receipt.words,
            },
            Ok(receipt) => Delivery::Delivered {
                code: i32::from(receipt.code),
                detail: format!("{}; not to {}", receipt.words, receipt.skipped.join("; ")),
            },
            Err(error) => classify(&error),
        }
    }

    fn compose(
        &self,
        notification: &Notification,
        message: &Message,
    ) -> Result<Vec<u8>, lettre::error::Error> {
        let domain = self.from.email.domain();
        let id = format!("<{}@{domain}>", notification.id);
        let root = thread_root(&self.name, &notification.group_key, domain);
        let subject = self
            .headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("subject"));
        let mut builder = Mail::builder()
            .from(self.from.clone())
            .subject(subject.map_or(&message.title, |(_, text)| text).clone())
            .date(UNIX_EPOCH + notification.created_at.since(Timestamp::from_millis(0)))
            .message_id(Some(id))
            .in_reply_to(root.clone())
            .references(root);
        for mailbox in &self.to {
            builder = builder.to(mailbox.clone());
        }
        builder = with_raw_header(builder, "Auto-Submitted", "auto-generated");
        if message.state == AlertState::Firing && message.level == Level::Critical {
            builder = with_raw_header(builder, "Importance", "high");
        }
        for (name, value) in &self.headers {
            if !name.eq_ignore_ascii_case("subject")
                && let Ok(name) = HeaderName::new_from_ascii(name.clone())
            {
                builder = builder.raw_header(HeaderValue::new(name, value.clone()));
            }
        }
        // A boundary that follows from the id keeps every attempt's bytes the same.
        let alternatives = MultiPart::alternative()
            .boundary(format!("=_{}", notification.id))
            .singlepart(part(ContentType::TEXT_PLAIN, mail_text::page(message)))
            .singlepart(part(ContentType::TEXT_HTML, mail_html::page(message)));
        Ok(builder.multipart(alternatives)?.formatted())
    }
}

/// Shows a message as the HTML half of a mail, for previews.
pub fn preview(message: &Message) -> String {
    mail_html::page(message)
}

fn part(content_type: ContentType, text: String) -> SinglePart {
    SinglePart::builder().header(content_type).body(text)
}

fn with_raw_header(
    builder: lettre::message::MessageBuilder,
    name: &'static str,
    value: &str,
) -> lettre::message::MessageBuilder {
    let name = HeaderName::new_from_ascii_str(name);
    builder.raw_header(HeaderValue::new(name, value.to_owned()))
}

/// Names the root that all mails of one group through one channel refer to.
fn thread_root(channel: &str, group_key: &str, domain: &str) -> String {
    let digest = ring::digest::digest(
        &ring::digest::SHA256,
        format!("{channel}\n{group_key}").as_bytes(),
    );
    let digits: String = digest.as_ref()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("<group-{digits}@{domain}>")
}

/// Says what a failed dialogue means.
fn classify(error: &SmtpError) -> Delivery {
    let (code, detail) = (i32::from(error.code()), error.to_string());
    if error.is_transient() {
        Delivery::Retry {
            after: None,
            code,
            detail,
        }
    } else {
        Delivery::Refused { code, detail }
    }
}

/// How long one dialogue with a mail server may take unless configured.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::compose;
    use crate::language::Language;
    use crate::links::Links;
    use marketprism_net::TlsPolicy;
    use marketprism_net::smtp::{SmtpClient, SmtpSecurity};
    use marketprism_testkit::SeededChance;

    fn email() -> Email {
        Email {
            mailer: Arc::new(SmtpClient::default()),
            audience: Audience {
                language: Language::Chinese,
                zone: jiff::tz::TimeZone::UTC,
                links: Links::default(),
                alerts_max: 1,
            },
            server: SmtpServer {
                host: "127.0.0.1".to_owned(),
                port: 25,
                security: SmtpSecurity::None,
                username: None,
                password: String::new(),
                tls: TlsPolicy::default(),
                hello_name: None,
                timeout: TIMEOUT,
            },
            from: "a@example.org".parse().expect("well-formed"),
            to: vec!["b@example.org".parse().expect("well-formed")],
            headers: BTreeMap::new(),
            name: "email".to_owned(),
            redactor: Redactor::default(),
        }
    }

    #[test]
    fn a_label_with_line_breaks_adds_no_header() {
        let (email, now) = (email(), Timestamp::from_millis(1_795_493_443_000));
        let mut notification = crate::sample::test_notification("email", now, &SeededChance::new(1));
        let alert = &mut notification.content.alerts[0];
        for (name, value) in [
            ("alertname", "A\r\nBcc: x@example.org\r\n\r\nB"),
            ("instance", "i\nX-Evil: 1\u{7}"),
        ] {
            alert.labels = alert.labels.with(name, value);
        }
        notification.group_key = "{}:{a=\"\r\nX-Evil: 2\"}".to_owned();
        let message = compose(&notification, &email.audience);
        assert!(!message.title.contains(char::is_control), "{:?}", message.title);
        let mail = email.compose(&notification, &message).expect("it can be written");
        let mail = String::from_utf8(mail).expect("ASCII");
        let head = mail.split("\r\n\r\n").next().expect("headers");
        let added = |line: &str| line.starts_with("Bcc") || line.starts_with("X-Evil");
        assert!(!head.lines().any(added), "{head}");
        assert!(head.contains("To: b@example.org"), "{head}");
    }

    #[test]
    fn every_attempt_sends_the_same_bytes() {
        let email = email();
        let now = Timestamp::from_millis(1_795_493_443_000);
        let notification = crate::sample::test_notification("email", now, &SeededChance::new(1));
        let message = compose(&notification, &email.audience);
        let mail = email.compose(&notification, &message).expect("it can be written");
        assert_eq!(mail, email.compose(&notification, &message).expect("again"));
        assert!(mail.is_ascii(), "any server can carry it");
        let longest = mail.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
        assert!(longest <= Some(999), "RFC 5322 limits lines to 998 bytes");
    }
}
