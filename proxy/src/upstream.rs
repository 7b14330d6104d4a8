//! Which host a request goes to, and over which connection.
//!
//! A [`cluster::Cluster`] is shared by all threads: its hosts are an immutable snapshot that a pick reads with one
//! atomic load. Connections belong to one worker: [`pool::Pools`].

pub mod balance;
pub mod client;
pub mod cluster;
pub mod connect;
mod count;
mod meter;
pub mod pool;
