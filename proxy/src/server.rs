//! The process: its workers and its life.

pub mod workers;
