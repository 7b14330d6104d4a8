//! Running hyper's HTTP/2 tasks on the worker's own thread.

use std::future::Future;

/// Spawns onto the current `LocalSet`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        // hyper has one type for all tasks, as large as the largest of them: boxed, it is moved once and not from hand to hand.
        tokio::task::spawn_local(Box::pin(future));
    }
}
