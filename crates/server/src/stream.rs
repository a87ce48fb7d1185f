//! A client's connection that loses patience: with one that says nothing, with one that takes nothing, and with one
//! that sends its body drop by drop.
//!
//! hyper limits the time for a request's head, but neither the time until it knows which HTTP is spoken
//! nor the time an answer may lie unread nor the pace of a body. These waits end here, whether the bytes come in the
//! clear or out of TLS.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use hyper::body::{Body, Frame, SizeHint};
use marketprism_model::{BoxFuture, Clock};
use thiserror::Error;
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

/// A body must bring so many bytes in each span, or end.
const BODY_BYTES_MIN: usize = 4 << 10;

/// The client sent its body too slowly.
#[derive(Debug, Error)]
#[error("the client sent less than {BODY_BYTES_MIN} bytes of its body in {}", marketprism_model::duration::format(*.0))]
pub struct TooSlow(Duration);

/// Says whether a body broke off because its client was too slow.
pub fn is_too_slow(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<TooSlow>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A request's body that fails when its client sends too slowly.
pub struct PacedBody<B> {
    inner: B,
    clock: Arc<dyn Clock>,
    span: Duration,
    limit: Option<BoxFuture<'static, ()>>,
    bytes: usize,
}

impl<B> PacedBody<B> {
    /// Wraps a body that must make progress in each `span`.
    pub fn new(inner: B, clock: Arc<dyn Clock>, span: Duration) -> Self {
        PacedBody {
            inner,
            clock,
            span,
            limit: None,
            bytes: 0,
        }
    }
}

impl<B: Body + Unpin> Body for PacedBody<B>
where
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) else {
            let limit = this.limit.get_or_insert_with(|| this.clock.sleep(this.span));
            ready!(limit.as_mut().poll(context));
            return Poll::Ready(Some(Err(TooSlow(this.span).into())));
        };
        if let Some(Ok(frame)) = &frame {
            this.bytes += frame.data_ref().map_or(0, Buf::remaining);
            if this.bytes >= BODY_BYTES_MIN {
                (this.bytes, this.limit) = (0, None);
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
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

    struct Dripping(tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>);

    impl Body for Dripping {
        type Data = bytes::Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<bytes::Bytes>>>> {
            let next = ready!(self.0.poll_recv(context));
            Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes.into()))))
        }
    }

    #[tokio::test]
    async fn a_body_that_only_drips_is_given_up_and_one_that_flows_is_not() {
        use http_body_util::BodyExt as _;
        let clock = ManualClock::new(Timestamp::from_millis(0));
        let (pour, drops) = tokio::sync::mpsc::unbounded_channel();
        let body = PacedBody::new(Dripping(drops), Arc::new(clock.clone()), PATIENCE);
        let reading = tokio::spawn(body.collect());
        let step = async |bytes: usize| {
            tokio::task::yield_now().await;
            pour.send(vec![0; bytes]).expect("the body is read");
            tokio::task::yield_now().await;
            clock.advance(PATIENCE - Duration::from_secs(1));
            tokio::task::yield_now().await;
        };
        for _ in 0..5 {
            step(BODY_BYTES_MIN).await;
        }
        assert!(!reading.is_finished());
        step(1).await;
        let error = reading.await.expect("no panic").expect_err("it dripped");
        assert!(is_too_slow(&*error), "{error}");
    }
}
