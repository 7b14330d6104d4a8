//! Connections that come in: listeners, their sockets, listener filters, filter chains and the TCP proxy.
//!
//! A connection enters at [`accept::run`] and is served by [`connection::serve`].

pub mod accept;
pub mod build;
pub mod connection;
pub mod filter_chain;
pub mod inspect;
mod inspectors;
pub mod listener;
pub mod manager;
mod network_filters;
pub mod reservation;
pub mod socket;
pub mod stats;
pub mod tcp_proxy;
pub mod worker;
