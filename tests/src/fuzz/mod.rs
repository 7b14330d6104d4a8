//! Fuzzing of Pillion's own parsers and matchers, on stable Rust and without further tools.
//!
//! A target makes its input from a seeded random number generator and checks what must hold for every input; it panics
//! where that does not hold. The same seed always makes the same input, so a failure is repeated by its seed.

mod chains;
mod http1;
pub mod input;
mod inspectors;
mod resources;
mod routes;
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;

/// Makes an input of the generator and checks what comes of it.
type Check = Box<dyn Fn(&mut Rng)>;

/// A target: its name, and what sets its check up.
type Target = (&'static str, fn() -> Check);

/// Every target.
const TARGETS: &[Target] = &[
    ("log_format", text::log_format),
    ("path", text::path),
    ("grpc_timeout", text::grpc_timeout),
    ("yaml", text::yaml),
    ("json", text::json),
    ("proxy_protocol", inspectors::proxy_protocol),
    ("tls_inspector", inspectors::tls_inspector),
    ("http_inspector", inspectors::http_inspector),
    ("http1_head", http1::http1_head),
    ("http1_body", http1::http1_body),
    ("filter_chains", chains::filter_chains),
    ("routes", routes::routes),
    ("listener", resources::listener),
    ("cluster", resources::cluster),
    ("route_configuration", resources::route_configuration),
    ("endpoints", resources::endpoints),
];

/// The names of all targets.
pub fn targets() -> impl Iterator<Item = &'static str> {
    TARGETS.iter().map(|(name, _)| *name)
}

/// For how long a target runs.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// With the seeds from 0 up to this one.
    Seed(u64),
    /// With seeds from this one on, for this long.
    Time(u64, Duration),
    /// With this seed alone.
    Only(u64),
}

/// Runs a target; tells how many inputs it saw.
///
/// # Errors
/// There is no such target, or an input broke it; the error tells the seed.
pub fn run(target: &str, until: Until) -> Result<u64, String> {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, prepare) = found.ok_or_else(|| format!("there is no target {target:?}"))?;
    let check = prepare();
    let begin = Instant::now();
    let first = match until {
        Until::Seed(_) => 0,
        Until::Time(first, _) | Until::Only(first) => first,
    };
    let mut seed = first;
    loop {
        let is_over = match until {
            Until::Seed(end) => seed == end,
            Until::Time(_, limit) => begin.elapsed() >= limit,
            Until::Only(only) => seed > only,
        };
        if is_over {
            return Ok(seed - first);
        }
        let input = AssertUnwindSafe(|| check(&mut Rng::with_seed(seed)));
        if catch_unwind(input).is_err() {
            return Err(format!("{target}: seed {seed} breaks it (the panic says how)"));
        }
        seed += 1;
    }
}
