//! A client's connection that loses patience: with one that says nothing, and with one that takes nothing.
//!
//! hyper limits the time for a request's head, but neither the time until it knows which HTTP is spoken
//! nor the time an answer may lie unread. Both waits end here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use marketprism_model::{BoxFuture, Clock};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// After so many bytes hyper knows the protocol: the length of HTTP/2's preface.
const PREFACE_BYTES: usize = 24;

/// A stream with two time limits.
pub struct ClientStream<S> {
    inner: S,
    clock: Arc<dyn Clock>,
    write_timeout: Duration,
    preface_bytes: usize,
    preface_limit: BoxFuture<'static, ()>,
    write_limit: Option<BoxFuture<'static, ()>>,
}

impl<S> ClientStream<S> {
    /// Wraps a fresh connection.
    pub fn new(inner: S, clock: Arc<dyn Clock>, preface_timeout: Duration, write_timeout: Duration) -> Self {
        ClientStream {
            preface_limit: clock.sleep(preface_timeout),
            inner,
            clock,
            write_timeout,
            preface_bytes: 0,
            write_limit: None,
        }
    }

    /// Turns a write that waits for too long into an error.
    fn limited<T>(
        &mut self,
        progress: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.write_limit = None;
            return progress;
        }
        let limit = self
            .write_limit
            .get_or_insert_with(|| self.clock.sleep(self.write_timeout));
        ready!(limit.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client took no byte of its answer for too long",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_read(context, buffer) {
            Poll::Ready(outcome) => {
                this.preface_bytes = this.preface_bytes.saturating_add(buffer.filled().len() - before);
                Poll::Ready(outcome)
            }
            Poll::Pending if this.preface_bytes >= PREFACE_BYTES => Poll::Pending,
            Poll::Pending => {
                ready!(this.preface_limit.as_mut().poll(context));
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client asked nothing for too long",
                )))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.limited(progress, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.limited(progress, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.inner).poll_flush(context);
        self.limited(progress, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.inner).poll_shutdown(context);
        self.limited(progress, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use marketprism_model::Timestamp;
    use marketprism_testkit::ManualClock;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    const PATIENCE: Duration = Duration::from_secs(60);

    fn pair() -> (
        ClientStream<tokio::io::DuplexStream>,
        tokio::io::DuplexStream,
        ManualClock,
    ) {
        let clock = ManualClock::new(Timestamp::from_millis(0));
        let (ours, theirs) = duplex(16);
        (
            ClientStream::new(ours, Arc::new(clock.clone()), PATIENCE, PATIENCE),
            theirs,
            clock,
        )
    }

    #[tokio::test]
    async fn a_client_that_never_says_what_it_speaks_is_cut_off() {
        let (mut stream, mut client, clock) = pair();
        client.write_all(b"P").await.expect("there is room");
        let mut buffer = [0; 64];
        assert_eq!(stream.read(&mut buffer).await.expect("one byte is there"), 1);
        let waiting = tokio::spawn(async move { stream.read(&mut buffer).await });
        tokio::task::yield_now().await;
        clock.advance(PATIENCE);
        let error = waiting.await.expect("no panic").expect_err("nothing came");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_takes_a_byte_now_and_then_is_not_cut_off() {
        let (mut stream, mut client, clock) = pair();
        let writing = tokio::spawn(async move { stream.write_all(&[b'x'; 40]).await });
        let mut buffer = [0; 12];
        for _ in 0..3 {
            tokio::task::yield_now().await;
            clock.advance(PATIENCE - Duration::from_secs(1));
            client.read_exact(&mut buffer).await.expect("bytes wait");
        }
        writing
            .await
            .expect("no panic")
            .expect("every byte was taken in time");
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_cut_off() {
        let (mut stream, _client, clock) = pair();
        let writing = tokio::spawn(async move { stream.write_all(&[b'x'; 40]).await });
        tokio::task::yield_now().await;
        clock.advance(PATIENCE);
        let error = writing.await.expect("no panic").expect_err("the pipe is full");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
