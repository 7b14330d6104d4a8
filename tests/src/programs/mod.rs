//! The programs that tests and benchmarks run: where they are, and how they are started, watched and ended.
//!
//! Pillion itself comes from the target folder that the running test was built into. The others are installed by
//! `.ci/install-tools`; a caller that does not find one says so and goes on without it.

mod find;
mod http;
mod port;
mod process;
mod usage;

pub use find::{did_not_run, envoy, find_pillion, in_path, needed, pillion, tool};
pub use http::{HttpAnswer, http_get, http_post};
pub use port::{free_address, free_port};
pub use process::{Process, ProcessError, Ready};
pub use usage::Usage;
