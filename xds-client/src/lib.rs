//! The xDS v3 transport protocol, and nothing of what it transports.
//!
//! A [`Client`] keeps one stream to a management server, aggregated (ADS) or for a single type, in
//! the state-of-the-world or the delta variant, or polls it over REST, and hands packed resources to [`Subscription`]s.
//! [`file::watch`] gives the same subscription over a file. The receiver applies an [`Update`] and
//! then answers it; the ACK or NACK leaves only then.
//!
//! ```no_run
//! use xds_client::{Client, ClientConfig, Event, Mode, Protocol, Server, SubscriptionConfig};
//! use xds_client::{ResourceError, StartError, transport};
//!
//! # async fn run(node: proto::envoy::config::core::v3::Node) -> Result<(), StartError> {
//! let service = transport::channel(&["127.0.0.1:18000".parse()?])?;
//! let server = Server { name: "xds".into(), service, metadata: Default::default() };
//! let config = ClientConfig::new(node, Protocol::Delta, Mode::Aggregated, vec![server]);
//! let client = Client::start(config)?;
//! let mut clusters = client.subscribe(SubscriptionConfig {
//!     type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".into(),
//!     wildcard: true,
//!     full_state: true,
//!     initial_fetch_timeout: Some(xds_client::DEFAULT_INITIAL_FETCH_TIMEOUT),
//!     name_of: proto::any::resource_name,
//! });
//! while let Some(event) = clusters.next().await {
//!     if let Event::Update(update) = event {
//!         match update.resources.first() {
//!             None => update.accept(),
//!             Some(first) => {
//!                 let error = ResourceError::new(&first.name, "lb_policy: MAGLEV is not supported");
//!                 update.reject(vec![error]);
//!             }
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Differences to Envoy
//!
//! * Envoy refuses a whole response for one resource of a wrong type, and in delta the good ones then
//!   never come again. Here the bad resource is refused alone.
//! * An update may be answered late and out of order; meanwhile, state-of-the-world sends no request
//!   that the server would have to drop for its stale nonce.
//! * A refresh unsubscribes first, so that servers which track subscriptions do answer. In state-of-the-world so does a name
//!   that comes back while the server may not know yet that it was gone.
//! * Answers that are held back do not keep a type from being subscribed to on a new stream.
//! * Over REST, other names are asked for at once and without the version of the last ones, whose servers would say that
//!   nothing has changed; a refusal is told as on a stream.
//! * With several servers, a client returns to the best one whenever a stream ends.
//!
//! # How it works
//!
//! One task owns the stream and everything known about its types: subscriptions and handles send
//! it commands. `table` holds what is requested and known, the same for every variant; `sotw` and
//! `delta` say how that is put into messages; `worker` drives them.

mod backoff;
mod client;
mod delta;
pub mod directory;
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
pub use transport::{Polling, Server, StartError};
