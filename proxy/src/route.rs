//! Where a request goes: the compiled route table, route matching, and what a route does to a request.

pub mod action;
mod filter;
pub mod header_mutation;
pub mod host_map;
pub mod request;
pub mod route_match;
pub mod table;

pub use request::RouteRequest;
pub use table::{Found, RouteEntry, RouteTable};
