//! A future that is left alone until it has something to do.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use pin_project_lite::pin_project;

pin_project! {
    /// Polls a future only when it was woken itself, and not each time that its task is. For what stands beside work that is
    /// polled often, and hardly ever has anything to say.
    pub struct Quiet<F> {
        #[pin]
        future: F,
        call: Arc<Call>,
        waker: Waker,
    }
}

/// Whether the future was woken, and whom to tell.
struct Call {
    has_come: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.has_come.store(true, SeqCst);
        self.task.wake();
    }
}

impl<F> Quiet<F> {
    /// Leaves `future` alone after the first poll.
    pub fn new(future: F) -> Self {
        let call = Arc::new(Call { has_come: AtomicBool::new(true), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&call));
        Quiet { future, call, waker }
    }
}

impl<F: Future> Future for Quiet<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // First who is to be told, then whether there was something to tell: what comes in between is not lost.
        this.call.task.register(cx.waker());
        if !this.call.has_come.swap(false, SeqCst) {
            return Poll::Pending;
        }
        this.future.poll(&mut Context::from_waker(this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn polls_only_what_was_woken() {
        let polls = Cell::new(0);
        let (sender, mut receiver) = oneshot::channel();
        let inner = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            Pin::new(&mut receiver).poll(cx)
        });
        let mut quiet = std::pin::pin!(Quiet::new(inner));
        for _ in 0..3 {
            assert!(futures_util::poll!(quiet.as_mut()).is_pending());
        }
        assert_eq!(polls.get(), 1);
        let answer = tokio::join!(quiet, async { sender.send(7) }).0;
        assert_eq!((answer, polls.get()), (Ok(7), 2));
    }
}
