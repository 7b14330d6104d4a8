//! Stub.
#[derive(Clone)]
pub struct LogWriter;
