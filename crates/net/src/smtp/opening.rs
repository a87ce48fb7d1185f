//! From a server's address to a secured connection that begins with the server's greeting.
//!
//! STARTTLS comes before lettre's dialogue: what a stranger slipped in behind the server's plain answer must
//! not be taken for something said under TLS (RFC 3207, section 6), and so the bytes read before the
//! handshake are ours to check.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::{SmtpError, SmtpSecurity, SmtpServer};
use crate::{Egress, NetError, dial, tls};

/// The longest answer read before the handshake.
const PLAIN_ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Connects and secures. What comes out begins with the server's greeting.
pub(super) async fn open(
    server: &SmtpServer,
    egress: &Egress,
    hello: &ClientId,
    peer: &str,
) -> Result<MailStream, SmtpError> {
    let mut plain = dial::dial(&server.host, server.port, egress).await?;
    let address = plain.peer_addr().ok();
    if server.security == SmtpSecurity::None {
        return Ok(MailStream::new(plain, address, b""));
    }
    if server.security == SmtpSecurity::StartTls {
        start_tls(&mut plain, hello, peer).await?;
    }
    let policy = server.tls.clone();
    let config = tokio::task::spawn_blocking(move || tls::client_config(&policy, &[]))
        .await
        .map_err(|error| error.to_string())
        .and_then(|config| config.map_err(|error| error.to_string()))
        .map_err(|reason| NetError::Tls {
            peer: peer.to_owned(),
            reason,
        })?;
    let name = server.tls.server_name.as_deref().unwrap_or(&server.host);
    let secured = tls::handshake(Arc::new(config), name, plain, peer).await?;
    // After STARTTLS the server does not greet again, but lettre's dialogue begins with a greeting.
    let greeting: &[u8] = match server.security {
        SmtpSecurity::StartTls => b"220 greeted before STARTTLS\r\n",
        _ => b"",
    };
    Ok(MailStream::new(secured, address, greeting))
}

/// Walks through greeting, EHLO and STARTTLS in the clear.
async fn start_tls(stream: &mut TcpStream, hello: &ClientId, peer: &str) -> Result<(), SmtpError> {
    let greeting = read_answer(stream, peer).await?;
    expect_positive(&greeting)?;
    let hello = format!("EHLO {hello}\r\n");
    let offer = ask(stream, hello.as_bytes(), peer).await?;
    expect_positive(&offer)?;
    if !offer
        .lines
        .iter()
        .skip(1)
        .any(|l| l.eq_ignore_ascii_case("STARTTLS"))
    {
        return Err(SmtpError::NoStartTls {
            peer: peer.to_owned(),
        });
    }
    let answer = ask(stream, b"STARTTLS\r\n", peer).await?;
    match answer.code {
        220 => Ok(()),
        400..=499 => expect_positive(&answer),
        _ => Err(SmtpError::NoStartTls {
            peer: peer.to_owned(),
        }),
    }
}

/// An answer of the server, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Answer {
    code: u16,
    lines: Vec<String>,
}

fn expect_positive(answer: &Answer) -> Result<(), SmtpError> {
    let words = answer.lines.join(" ");
    match answer.code {
        200..=299 => Ok(()),
        400..=499 => Err(SmtpError::PutOff {
            code: answer.code,
            words,
        }),
        code => Err(SmtpError::Refused { code, words }),
    }
}

async fn ask(stream: &mut TcpStream, command: &[u8], peer: &str) -> Result<Answer, SmtpError> {
    stream
        .write_all(command)
        .await
        .map_err(|error| broken(peer, dial::words(&error)))?;
    read_answer(stream, peer).await
}

/// Reads one answer and insists that nothing follows it: the next word is ours.
async fn read_answer(stream: &mut TcpStream, peer: &str) -> Result<Answer, SmtpError> {
    let mut bytes = Vec::new();
    loop {
        let read = stream
            .read_buf(&mut bytes)
            .await
            .map_err(|error| broken(peer, dial::words(&error)))?;
        if read == 0 {
            return Err(broken(peer, "connection closed by peer".to_owned()));
        }
        match parse_answer(&bytes) {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) if bytes.len() > PLAIN_ANSWER_BYTES_MAX => {
                return Err(broken(
                    peer,
                    format!("answer longer than {PLAIN_ANSWER_BYTES_MAX} bytes"),
                ));
            }
            Ok(None) => {}
            Err(reason) => return Err(broken(peer, reason.to_owned())),
        }
    }
}

/// Takes an answer apart, `None` while it is not whole (RFC 5321, section 4.2).
fn parse_answer(bytes: &[u8]) -> Result<Option<Answer>, &'static str> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[end + 1..];
        let line = String::from_utf8_lossy(line).into_owned();
        let digits: String = line.chars().take(3).take_while(char::is_ascii_digit).collect();
        if digits.len() != 3 {
            return Err("does not answer as a mail server does");
        }
        let code = digits.parse().expect("three digits are a number");
        lines.push(line.get(4..).unwrap_or("").to_owned());
        match line.as_bytes().get(3) {
            Some(b'-') => {}
            Some(b' ') | None if rest.is_empty() => return Ok(Some(Answer { code, lines })),
            Some(b' ') | None => return Err("speaks out of turn before TLS"),
            Some(_) => return Err("does not answer as a mail server does"),
        }
    }
    Ok(None)
}

/// Parses a plain answer of a mail server; for fuzzing. Says whether it was whole and well-formed.
pub fn is_whole_answer(bytes: &[u8]) -> bool {
    matches!(parse_answer(bytes), Ok(Some(_)))
}

pub(super) fn broken(peer: &str, reason: String) -> SmtpError {
    SmtpError::Broken {
        peer: peer.to_owned(),
        reason,
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}

/// A connection as lettre takes it: whatever carries it, after words already heard.
pub(super) struct MailStream {
    heard: &'static [u8],
    inner: Box<dyn Duplex>,
    address: Option<SocketAddr>,
}

impl MailStream {
    fn new(inner: impl Duplex + 'static, address: Option<SocketAddr>, heard: &'static [u8]) -> Self {
        MailStream {
            heard,
            inner: Box::new(inner),
            address,
        }
    }
}

impl fmt::Debug for MailStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MailStream({:?})", self.address)
    }
}

impl AsyncTokioStream for MailStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.address.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for MailStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.heard.is_empty() {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        let length = self.heard.len().min(buffer.remaining());
        let (now, later) = self.heard.split_at(length);
        buffer.put_slice(now);
        self.heard = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MailStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_whole_at_the_first_line_without_a_hyphen() {
        let check = |bytes: &[u8], expected: Option<(u16, &[&str])>| {
            let expected = expected.map(|(code, lines)| Answer {
                code,
                lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            });
            assert_eq!(parse_answer(bytes), Ok(expected));
        };
        check(b"220 hello\r\n", Some((220, &["hello"])));
        check(b"250-a\r\n250 STARTTLS\r\n", Some((250, &["a", "STARTTLS"])));
        check(b"250\r\n", Some((250, &[""])));
        check(b"250-a\r\n250 STAR", None);
        check(b"", None);
    }

    #[test]
    fn words_slipped_in_before_tls_are_refused() {
        assert!(parse_answer(b"220 go ahead\r\n250 injected\r\n").is_err());
        assert!(parse_answer(b"HTTP/1.1 400 Bad Request\r\n").is_err());
        assert!(parse_answer("éé\r\n".as_bytes()).is_err());
        assert!(parse_answer("250é\r\n".as_bytes()).is_err());
    }
}
