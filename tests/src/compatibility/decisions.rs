//! `tests/compatibility.yaml`: what the probe cannot find out by itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::differential::bootstrap::fill;

/// What people have decided, and what the probe works with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decisions {
    /// Resources to start from, by the full name of their message; each is good as it stands.
    pub samples: BTreeMap<String, Vec<Value>>,
    /// What a field is tried with where its type does not suggest a good value, by the field's or its type's full name.
    pub values: BTreeMap<String, Vec<Value>>,
    /// What else the message around a field needs for it: a merge patch, by the field's full name.
    #[serde(default)]
    pub with: BTreeMap<String, Value>,
    /// The key of an entry of a map, where it matters, by the field's full name.
    #[serde(default)]
    pub keys: BTreeMap<String, String>,
    /// Fields that are taken without effect and without a warning, and why that is correct.
    #[serde(default)]
    pub without_effect: BTreeMap<String, String>,
    /// Fields that have an effect which the translated model does not show, and which.
    #[serde(default)]
    pub seen_elsewhere: BTreeMap<String, String>,
    /// Fields that the probe has no good value for, and what becomes of them.
    #[serde(default)]
    pub by_hand: BTreeMap<String, String>,
}

impl Decisions {
    /// Reads the file.
    pub fn read() -> Result<Self, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("compatibility.yaml");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut value: Value = yaml_serde::from_str(&text).map_err(|e| e.to_string())?;
        // Certificates stand in it as in the cases.
        fill(&mut value, &BTreeMap::new());
        serde_json::from_value(value).map_err(|e| format!("{}: {e}", path.display()))
    }
}
