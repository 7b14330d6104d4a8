//! HTTP on the downstream side: connections, streams, headers, and the router that sends requests upstream.
//!
//! A request enters at [`codec::serve`], goes through [`service::serve`] and leaves through [`router::forward`].

pub mod body;
pub mod call;
mod client_certificate;
pub mod codec;
pub mod connection;
mod delayed_close;
pub mod filters;
pub mod h1;
mod http2;
pub mod local_reply;
pub mod manager;
mod number;
mod overdue;
pub mod path;
mod present;
mod request;
mod request_id;
mod reset;
mod response;
pub mod router;
pub mod sanitize;
pub mod service;
pub mod stats;
pub mod stream;
mod upgrade;
pub mod worker;
