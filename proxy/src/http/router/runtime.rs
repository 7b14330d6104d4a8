//! The runtime values that the router reads.

use std::time::Duration;

use crate::config::bootstrap::Runtime;

/// Runtime values of the router, read once from the static layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterRuntime {
    /// `upstream.use_retry`: the share of retries that are made, in percent; default 100.
    pub use_retry: u64,
    /// `upstream.base_retry_backoff_ms`; default 25 ms.
    pub base_back_off: Duration,
    /// `pillion.replay_on_reused_connection`: an idempotent request without a body that dies with a connection which had
    /// served others, before any byte of a response, is sent once more on a new connection; default true.
    pub replay: bool,
    /// `pillion.bound_retries`: retries that configuration does not limit are bounded to a share of the requests, none
    /// is made beyond the caller's deadline, and none where a proxy further on has retried already; default true.
    pub bound_retries: bool,
}

impl Default for RouterRuntime {
    fn default() -> Self {
        RouterRuntime {
            use_retry: 100,
            base_back_off: Duration::from_millis(25),
            replay: true,
            bound_retries: true,
        }
    }
}

impl RouterRuntime {
    /// The values in `runtime`, and the defaults of those that are not there.
    pub fn new(runtime: &Runtime) -> Self {
        let default = RouterRuntime::default();
        // Numbers of a Struct are floating.
        let number = |key: &str| Some(runtime.get(key)?.as_f64()? as u64);
        let flag = |key: &str| runtime.get(key)?.as_bool();
        RouterRuntime {
            use_retry: number("upstream.use_retry").unwrap_or(default.use_retry),
            base_back_off: number("upstream.base_retry_backoff_ms")
                .filter(|millis| *millis > 0)
                .map_or(default.base_back_off, Duration::from_millis),
            replay: flag("pillion.replay_on_reused_connection").unwrap_or(default.replay),
            bound_retries: flag("pillion.bound_retries").unwrap_or(default.bound_retries),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_there_replace_the_defaults() {
        assert_eq!(RouterRuntime::new(&Runtime::new()), RouterRuntime::default());
        let runtime = Runtime::from([
            ("upstream.use_retry".into(), 0.0.into()),
            ("upstream.base_retry_backoff_ms".into(), 50.0.into()),
            ("pillion.bound_retries".into(), false.into()),
        ]);
        let read = RouterRuntime::new(&runtime);
        assert_eq!((read.use_retry, read.base_back_off.as_millis()), (0, 50));
        assert!(read.replay && !read.bound_retries);
    }
}
