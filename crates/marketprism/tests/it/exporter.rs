//! A target whose metrics a test sets.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Serves a text at every path, until it is dropped.
pub struct Exporter {
    address: String,
    text: Arc<Mutex<String>>,
    is_over: Arc<AtomicBool>,
}

impl Exporter {
    /// Starts to serve `text` on a free loopback port.
    pub fn start(text: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address")
            .to_string();
        let exporter = Exporter {
            address,
            text: Arc::new(Mutex::new(text.to_owned())),
            is_over: Arc::new(AtomicBool::new(false)),
        };
        let (text, is_over) = (Arc::clone(&exporter.text), Arc::clone(&exporter.is_over));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let text = Arc::clone(&text);
                thread::spawn(move || answer(stream, &text));
            }
        });
        exporter
    }

    /// Gives host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Changes what is served.
    pub fn set(&self, text: &str) {
        text.clone_into(&mut self.text.lock().expect("no holder panics"));
    }
}

fn answer(stream: TcpStream, text: &Mutex<String>) {
    let Ok(mut writer) = stream.try_clone() else {
        return;
    };
    let mut lines = BufReader::new(stream).lines();
    // One response for each blank line: requests without a body, kept alive.
    while let Some(Ok(line)) = lines.next() {
        if !line.is_empty() {
            continue;
        }
        let body = text.lock().expect("no holder panics").clone();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if writer
            .write_all(head.as_bytes())
            .and_then(|()| writer.write_all(body.as_bytes()))
            .is_err()
        {
            return;
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // The listener wakes to see that it is over.
        let _ = TcpStream::connect(&self.address);
    }
}
