//! What the proxy tells about itself and about the traffic: statistics, access logs, stream facts.

pub mod access_log;
pub mod certificate;
pub mod filter_state;
pub mod log_format;
pub mod log_level;
pub mod log_writer;
pub mod memory;
pub mod response_flags;
pub mod seldom;
pub mod stats;
pub mod stream_info;
