//! Opening `typed_config` messages.
