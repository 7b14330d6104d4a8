//! Protobuf to model: `LayeredRuntime`, flattened.

use proto::envoy::config::bootstrap::v3::LayeredRuntime;
use proto::envoy::config::bootstrap::v3::runtime_layer::LayerSpecifier;
use proto::google::protobuf::Struct;
use proto::google::protobuf::value::Kind;

use super::Runtime;
use crate::config::error::{At, ConfigError, Context};
use crate::config::value;

/// The values of all static layers by their dotted keys; later layers win.
pub(super) fn flatten(
    message: Option<&LayeredRuntime>,
    at: &At<'_>,
    context: &Context,
) -> Result<Runtime, ConfigError> {
    let mut runtime = Runtime::new();
    let layers = message.map_or(&[][..], |message| &message.layers);
    for (i, layer) in layers.iter().enumerate() {
        let at = at.index("layers", i);
        value::non_empty(&layer.name, &at.field("name"))?;
        match value::required(&layer.layer_specifier, &at)? {
            LayerSpecifier::StaticLayer(fields) => {
                add(&mut runtime, "", fields);
                refuse_maintenance(&runtime, &at.field("static_layer"))?;
            }
            LayerSpecifier::AdminLayer(_) => {
                context.warn(&at.field("admin_layer"), "the runtime cannot be modified");
            }
            LayerSpecifier::DiskLayer(_) => {
                context.warn(&at.field("disk_layer"), "only static layers are read");
            }
            LayerSpecifier::RtdsLayer(_) => {
                context.warn(&at.field("rtds_layer"), "only static layers are read");
            }
        }
    }
    Ok(runtime)
}

/// The one family of keys that would change answers.
fn refuse_maintenance(runtime: &Runtime, at: &At<'_>) -> Result<(), ConfigError> {
    match runtime.keys().find(|key| key.starts_with("upstream.maintenance_mode.")) {
        Some(key) => Err(at.error(format_args!("{key} is not supported; remove the value"))),
        None => Ok(()),
    }
}

/// Nested objects spell the key: `{a: {b: 1}}` is `a.b`. A fractional percent is a value, not a level.
fn add(runtime: &mut Runtime, prefix: &str, fields: &Struct) {
    for (key, value) in &fields.fields {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match &value.kind {
            Some(Kind::StructValue(inner)) if !is_fraction(inner) => add(runtime, &key, inner),
            _ => {
                runtime.insert(key, proto::convert::value_to_json(value));
            }
        }
    }
}

fn is_fraction(fields: &Struct) -> bool {
    fields.fields.contains_key("numerator") || fields.fields.contains_key("denominator")
}
