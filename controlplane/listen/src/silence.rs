//! Notices that the process at the other end hangs: its kernel answers, but nothing comes from it any more.
//!
//! Whoever pings a server by HTTP/2 is heard by it, so the server need not ping, too.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// How long a connection has been silent.
#[derive(Debug)]
pub(crate) struct Silence {
    bound: Duration,
    broken: Instant,
    /// When to look: not moved with every byte.
    look: Pin<Box<Sleep>>,
}

impl Silence {
    /// May last this long.
    pub(crate) fn new(bound: Duration) -> Self {
        Self { bound, broken: Instant::now(), look: Box::pin(sleep(bound)) }
    }

    /// Something went one way or the other: while it is told something, the other end need not ping.
    pub(crate) fn is_broken(&mut self) {
        self.broken = Instant::now();
    }

    /// Ready once it has lasted too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.look.as_mut().poll(cx).is_ready() {
            let end = self.broken + self.bound;
            if end <= Instant::now() {
                let reason = format!("nothing was heard for {:?}", self.bound);
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
            self.look.as_mut().reset(end);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const BOUND: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn it_counts_from_the_last_time_that_something_was_heard() {
        let start = Instant::now();
        let mut silence = Silence::new(BOUND);
        for _ in 0..3 {
            assert!(tokio::time::timeout(BOUND / 2, poll_fn(|cx| silence.poll(cx))).await.is_err());
            silence.is_broken();
        }
        let broken = Instant::now();
        assert!(broken - start > BOUND);
        let error = poll_fn(|cx| silence.poll(cx)).await;
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(broken.elapsed() + Duration::from_millis(1) >= BOUND, "{:?}", broken.elapsed());
    }
}
