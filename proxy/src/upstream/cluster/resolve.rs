//! Hosts from names: `STRICT_DNS`, `LOGICAL_DNS` and the upkeep of `ORIGINAL_DST`.
