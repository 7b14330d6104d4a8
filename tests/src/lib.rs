//! Pillion as a real process over real sockets: what the tests and the benchmark share.

pub mod compatibility;
pub mod differential;
pub mod drill;
pub mod fuzz;
pub mod programs;
pub mod scenario;
