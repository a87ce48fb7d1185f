//! Hands a finished message to a mail server.
//!
//! The connection is ours (see `opening`), so that one guard, one list of authorities and one set of words
//! serve HTTP and mail alike; the dialogue over it is lettre's.
//! Deliberately absent: composing messages, keeping connections, retrying.

mod opening;

use std::io;
use std::time::Duration;

use lettre::Address;
use lettre::address::Envelope;
use lettre::transport::smtp::Error as LettreError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use marketprism_model::BoxFuture;
use thiserror::Error;
use tokio::time::timeout;

pub use opening::is_whole_answer;
use opening::{broken, open};

use crate::{Egress, NetError, TlsPolicy, dial};

/// How the connection is secured.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SmtpSecurity {
    /// TLS from the first byte, as on port 465.
    Implicit,
    /// STARTTLS, and no mail without it.
    StartTls,
    /// None: everything, password included, goes in the clear.
    None,
}

impl SmtpSecurity {
    /// Gives what is usual on a port: implicit TLS on 465, STARTTLS elsewhere.
    pub fn usual_on(port: u16) -> Self {
        if port == 465 {
            SmtpSecurity::Implicit
        } else {
            SmtpSecurity::StartTls
        }
    }
}

/// A mail server and how to speak with it.
#[derive(Clone)]
pub struct SmtpServer {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured.
    pub security: SmtpSecurity,
    /// The user to log in as; none logs in nobody.
    pub username: Option<String>,
    /// Their password.
    pub password: String,
    /// How the server's certificate is judged.
    pub tls: TlsPolicy,
    /// The name by which we introduce ourselves; `[127.0.0.1]` when `None`.
    pub hello_name: Option<String>,
    /// The whole dialogue must end within this time.
    pub timeout: Duration,
}

/// From whom and to whom a message goes, whatever stands in its header.
#[derive(Clone, Debug)]
pub struct MailEnvelope {
    envelope: Envelope,
    may_skip_put_off: bool,
}

/// An address does not fit an envelope.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("bad mail address {address:?}: {reason}")]
pub struct MailAddressError {
    /// As given.
    pub address: String,
    /// What is wrong with it.
    pub reason: String,
}

impl MailEnvelope {
    /// Takes bare addresses, `name@host`; at least one recipient.
    pub fn new<'a>(from: &str, to: impl IntoIterator<Item = &'a str>) -> Result<Self, MailAddressError> {
        let parse = |address: &str| {
            address.parse::<Address>().map_err(|error| MailAddressError {
                address: address.to_owned(),
                reason: error.to_string(),
            })
        };
        let to = to.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let envelope = Envelope::new(Some(parse(from)?), to).map_err(|error| MailAddressError {
            address: String::new(),
            reason: error.to_string(),
        })?;
        Ok(MailEnvelope {
            envelope,
            may_skip_put_off: false,
        })
    }

    /// Lets the message go to the other recipients when some are put off (4xx).
    ///
    /// Without it one recipient that is put off holds the message back for all, so that a later attempt
    /// reaches everyone and nobody twice.
    pub fn skipping_put_off(mut self, may_skip: bool) -> Self {
        self.may_skip_put_off = may_skip;
        self
    }
}

/// The server has taken the message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SmtpReceipt {
    /// Its code, 250.
    pub code: u16,
    /// Its words, often with its own number for the message.
    pub words: String,
    /// Recipients that it would not take, each with its words; the others get the message.
    pub skipped: Vec<String>,
}

/// Why a message was not taken.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SmtpError {
    /// No secured connection came about.
    #[error(transparent)]
    Connection(#[from] NetError),
    /// The server offers no STARTTLS, or refuses it.
    #[error("{peer} offers no STARTTLS; use port 465 with implicit TLS, or allow plain mail")]
    NoStartTls {
        /// Host and port.
        peer: String,
    },
    /// User and password were refused, or there is no common way to present them.
    #[error("login refused: {words}")]
    Login {
        /// The server's code; 0 when it was not asked.
        code: u16,
        /// The server's words or ours.
        words: String,
    },
    /// Not now (4xx): try again later.
    #[error("put off with {code}: {words}")]
    PutOff {
        /// The server's code.
        code: u16,
        /// The server's words.
        words: String,
    },
    /// Never (5xx): the same message will be refused again.
    #[error("refused with {code}: {words}")]
    Refused {
        /// The server's code.
        code: u16,
        /// The server's words.
        words: String,
    },
    /// The server cannot carry this message, for instance for lack of 8BITMIME.
    #[error("cannot be sent through this server: {reason}")]
    Unsuitable {
        /// What it lacks.
        reason: String,
    },
    /// The dialogue broke off or made no sense.
    #[error("dialogue with {peer} broke off: {reason}")]
    Broken {
        /// Host and port.
        peer: String,
        /// What happened.
        reason: String,
    },
}

impl SmtpError {
    /// Gives the server's code, 0 when there is none.
    pub fn code(&self) -> u16 {
        match self {
            SmtpError::Login { code, .. }
            | SmtpError::PutOff { code, .. }
            | SmtpError::Refused { code, .. } => *code,
            _ => 0,
        }
    }

    /// Says whether the same message may be taken later.
    pub fn is_transient(&self) -> bool {
        match self {
            SmtpError::PutOff { .. } | SmtpError::Broken { .. } => true,
            SmtpError::Connection(error) => !matches!(error, NetError::Forbidden { .. }),
            _ => false,
        }
    }
}

/// Hands messages to mail servers: the real one, or a fake in simulated tests.
pub trait MailTransport: Send + Sync + 'static {
    /// Sends one message, complete with header.
    fn send<'a>(
        &'a self,
        server: &'a SmtpServer,
        envelope: &'a MailEnvelope,
        message: &'a [u8],
    ) -> BoxFuture<'a, Result<SmtpReceipt, SmtpError>>;
}

/// Speaks SMTP, one connection a message.
#[derive(Clone, Debug, Default)]
pub struct SmtpClient {
    egress: Egress,
}

impl SmtpClient {
    /// Makes a client whose every connection passes `egress`.
    pub fn new(egress: Egress) -> Self {
        SmtpClient { egress }
    }
}

impl MailTransport for SmtpClient {
    fn send<'a>(
        &'a self,
        server: &'a SmtpServer,
        envelope: &'a MailEnvelope,
        message: &'a [u8],
    ) -> BoxFuture<'a, Result<SmtpReceipt, SmtpError>> {
        Box::pin(send(server, &self.egress, envelope, message))
    }
}

/// Sends one message, complete with header, in one dialogue.
async fn send(
    server: &SmtpServer,
    egress: &Egress,
    envelope: &MailEnvelope,
    message: &[u8],
) -> Result<SmtpReceipt, SmtpError> {
    let peer = dial::peer(&server.host, server.port);
    timeout(server.timeout, converse(server, egress, envelope, message, &peer))
        .await
        .unwrap_or(Err(SmtpError::Connection(NetError::Timeout {
            peer: peer.clone(),
            timeout: server.timeout,
        })))
}

async fn converse(
    server: &SmtpServer,
    egress: &Egress,
    envelope: &MailEnvelope,
    message: &[u8],
    peer: &str,
) -> Result<SmtpReceipt, SmtpError> {
    let hello = hello_name(server);
    let stream = open(server, egress, &hello, peer).await?;
    let mut connection = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello)
        .await
        .map_err(|error| classify(&error, peer))?;
    if let Some(username) = &server.username {
        let credentials = Credentials::new(username.clone(), server.password.clone());
        connection
            .auth(&[Mechanism::Plain, Mechanism::Login], &credentials)
            .await
            .map_err(|error| classify_login(&error, peer))?;
    }
    let skipped = announce(&mut connection, envelope, message, peer).await?;
    let response = connection
        .message(message)
        .await
        .map_err(|error| classify(&error, peer))?;
    // The message is taken; how the dialogue ends changes nothing.
    let _ = connection.quit().await;
    Ok(SmtpReceipt {
        code: response.code().into(),
        words: response.message().collect::<Vec<_>>().join(" "),
        skipped,
    })
}

/// Says from whom and to whom a message comes, up to the point where only its bytes are missing; gives the
/// recipients that are skipped. Nothing has been sent when it fails.
async fn announce(
    connection: &mut AsyncSmtpConnection,
    envelope: &MailEnvelope,
    message: &[u8],
    peer: &str,
) -> Result<Vec<String>, SmtpError> {
    let parameters = mail_parameters(connection, &envelope.envelope, message)?;
    let from = envelope.envelope.from().cloned();
    let wrong = |error: LettreError| classify(&error, peer);
    connection
        .command(Mail::new(from, parameters))
        .await
        .map_err(wrong)?;
    let mut skipped = Vec::new();
    let mut first_error = None;
    for recipient in envelope.envelope.to() {
        let Err(error) = connection.command(Rcpt::new(recipient.clone(), Vec::new())).await else {
            continue;
        };
        let error = wrong(error);
        match &error {
            SmtpError::Refused { .. } => {}
            SmtpError::PutOff { .. } if envelope.may_skip_put_off => {}
            _ => {
                connection.abort().await;
                return Err(error);
            }
        }
        skipped.push(format!("{recipient}: {error}"));
        first_error.get_or_insert(error);
    }
    if let Some(error) = first_error
        && skipped.len() == envelope.envelope.to().len()
    {
        connection.abort().await;
        return Err(error);
    }
    connection.command(Data).await.map_err(wrong)?;
    Ok(skipped)
}

/// Asks for what the message needs, or says what the server lacks for it (RFC 6152, RFC 6531).
fn mail_parameters(
    connection: &AsyncSmtpConnection,
    envelope: &Envelope,
    message: &[u8],
) -> Result<Vec<MailParameter>, SmtpError> {
    let lacks = |what: &str| SmtpError::Unsuitable {
        reason: format!("it does not offer {what}"),
    };
    let mut parameters = Vec::new();
    let mut addresses = envelope.from().into_iter().chain(envelope.to());
    if addresses.any(|address| !AsRef::<str>::as_ref(address).is_ascii()) {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(lacks("SMTPUTF8, which the addresses need"));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !message.is_ascii() {
        if !connection.server_info().supports_feature(Extension::EightBitMime) {
            return Err(lacks("8BITMIME, which the message needs"));
        }
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    Ok(parameters)
}

fn hello_name(server: &SmtpServer) -> ClientId {
    server
        .hello_name
        .clone()
        .map_or_else(ClientId::default, ClientId::Domain)
}

fn classify(error: &LettreError, peer: &str) -> SmtpError {
    let words = words(error);
    match error.status() {
        Some(code) if error.is_transient() => SmtpError::PutOff {
            code: code.into(),
            words,
        },
        Some(code) => SmtpError::Refused {
            code: code.into(),
            words,
        },
        None if error.is_client() => SmtpError::Unsuitable { reason: words },
        None => broken(peer, words),
    }
}

/// A refusal during login is about the password, unless it is a temporary one.
fn classify_login(error: &LettreError, peer: &str) -> SmtpError {
    match classify(error, peer) {
        SmtpError::Refused { code, words } => SmtpError::Login { code, words },
        SmtpError::Unsuitable { reason } => SmtpError::Login {
            code: 0,
            words: reason,
        },
        other => other,
    }
}

/// Gives the server's words, or the innermost cause.
fn words(error: &LettreError) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let text = match inner.downcast_ref::<io::Error>() {
        Some(error) => dial::words(error),
        None => inner.to_string(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
