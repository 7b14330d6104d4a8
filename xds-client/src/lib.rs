//! The xDS v3 transport protocol, and nothing of what it transports.
//!
//! A [`Client`] keeps one stream to a management server, aggregated (ADS) or for a single type, in
//! the state-of-the-world or the delta variant, and hands packed resources to [`Subscription`]s.
//! [`file::watch`] gives the same subscription over a file. The receiver applies an [`Update`] and
//! then answers it; the ACK or NACK leaves only then.
//!
//! One task owns the stream and everything known about its types: subscriptions and handles send
//! it commands. `table` holds what is requested and known, the same for every variant; `sotw` and
//! `delta` say how that is put into messages; `worker` drives them.

mod backoff;
mod client;
mod delta;
pub mod file;
mod rate_limit;
mod resource;
mod sotw;
mod state;
mod subscription;
mod table;
pub mod transport;
mod variant;
mod worker;

pub use backoff::BackoffConfig;
pub use client::{Client, ClientConfig, Mode, Pause, Protocol};
pub use rate_limit::RateLimit;
pub use resource::{Resource, ResourceError};
pub use state::{ClientStats, ResourceState, ResourceStatus, SubscriptionStats, TypeState};
pub use subscription::{
    Answer, DEFAULT_INITIAL_FETCH_TIMEOUT, Event, Subscription, SubscriptionConfig,
    SubscriptionHandle, Update,
};
pub use transport::{Server, StartError};
