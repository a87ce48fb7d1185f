//! A real mail server, Debian's aiosmtpd, started by the test and gone with it.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use crate::certificates::TestAuthority;
use crate::process::{ChildGuard, wait_for};

const SCRIPT: &str = include_str!("smtp_server.py");
const START_MAX: Duration = Duration::from_secs(30);

/// How the server secures its connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SmtpSecurity {
    /// Not at all.
    #[default]
    Plain,
    /// STARTTLS, without which it takes no mail.
    StartTls,
    /// TLS from the first byte.
    Implicit,
}

/// How to start the server.
#[derive(Clone, Debug, Default)]
pub struct SmtpOptions {
    /// How connections are secured; the certificate is for `localhost` and 127.0.0.1.
    pub security: SmtpSecurity,
    /// User and password without which it takes no mail, by AUTH PLAIN or LOGIN; `None` asks for none.
    pub credentials: Option<(String, String)>,
    /// The port; 0 takes a free one.
    pub port: u16,
}

/// One mail as the server took it.
#[derive(Clone, Debug)]
pub struct ReceivedMail {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// Header and body, byte by byte.
    pub message: Vec<u8>,
    /// Whether it came over TLS.
    pub is_tls: bool,
    /// Who had logged in.
    pub user: Option<String>,
}

impl ReceivedMail {
    /// Gives the subject, decoded.
    pub fn subject(&self) -> String {
        self.decoded("m['subject']")
    }

    /// Gives the plain part, decoded.
    pub fn plain(&self) -> String {
        self.decoded("m.get_body(('plain',)).get_content()")
    }

    /// Lets Python's mail parser, which shares no code with ours, evaluate an expression about the message `m`.
    pub fn decoded(&self, expression: &str) -> String {
        let script = format!(
            "import sys, email, email.policy\n\
             m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)\n\
             sys.stdout.reconfigure(encoding='utf-8')\nprint({expression}, end='')"
        );
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("/usr/bin/python3 starts");
        let mut input = child.stdin.take().expect("asked for above");
        input.write_all(&self.message).expect("python reads its input");
        drop(input);
        let output = child.wait_with_output().expect("python ends");
        assert!(
            output.status.success(),
            "python could not read the mail:\n{}",
            self.text()
        );
        String::from_utf8(output.stdout).expect("python writes UTF-8")
    }

    /// Gives header and body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.message).into_owned()
    }
}

/// The running server. Recipients whose names begin with `later`, `once` or `never` are put off, put off
/// the first time, or refused.
pub struct SmtpServer {
    _child: ChildGuard,
    port: u16,
    file: PathBuf,
    authority: TestAuthority,
}

impl SmtpServer {
    /// Starts it and waits until it listens. A missing aiosmtpd fails the test with the install line.
    #[track_caller]
    pub fn start(options: &SmtpOptions) -> Self {
        let authority = TestAuthority::new();
        let certificate = authority.issue(&["localhost", "127.0.0.1"]);
        let file = authority.folder().join("mails.jsonl");
        let security = match options.security {
            SmtpSecurity::Plain => "plain",
            SmtpSecurity::StartTls => "starttls",
            SmtpSecurity::Implicit => "implicit",
        };
        let argument = json!({
            "security": security,
            "credentials": options.credentials,
            "port": options.port,
            "file": file,
            "cert_file": certificate.cert_file,
            "key_file": certificate.key_file,
        });
        let mut child =
            ChildGuard::spawn(Command::new("/usr/bin/python3").args(["-c", SCRIPT, &argument.to_string()]))
                .expect("/usr/bin/python3 starts; install it with: apt-get install python3-aiosmtpd");
        let line = child.wait_for_line(START_MAX, "listening on");
        let port = line.rsplit(' ').next().and_then(|port| port.parse().ok());
        SmtpServer {
            _child: child,
            port: port.expect("the script prints its port"),
            file,
            authority,
        }
    }

    /// Gives the port it listens on, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Gives the PEM file of the authority that signed its certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.authority.ca_file()
    }

    /// Gives the mails taken so far, oldest first.
    pub fn mails(&self) -> Vec<ReceivedMail> {
        #[derive(Deserialize)]
        struct Line {
            from: String,
            to: Vec<String>,
            message: String,
            is_tls: bool,
            user: Option<String>,
        }
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        // A line that is still being written has no end yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines().map(|line| {
            let line: Line = serde_json::from_str(line).expect("the script writes JSON lines");
            ReceivedMail {
                from: line.from,
                to: line.to,
                message: STANDARD.decode(line.message).expect("the script writes base64"),
                is_tls: line.is_tls,
                user: line.user,
            }
        });
        lines.collect()
    }

    /// Waits until at least `count` mails were taken and gives them all.
    #[track_caller]
    pub fn wait_for_mails(&self, deadline: Duration, count: usize) -> Vec<ReceivedMail> {
        wait_for(deadline, || self.mails().len() >= count);
        self.mails()
    }
}
