//! What the tests of translations share.

use std::sync::LazyLock;

use prost::{Message, Name};
use proto::Registry;

/// The message that a YAML text describes.
pub fn message<T: Message + Name + Default>(yaml: &str) -> T {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::load);
    REGISTRY.from_yaml(yaml).unwrap_or_else(|error| panic!("{error}:\n{yaml}"))
}
