//! `%DYNAMIC_METADATA(NAMESPACE:KEY*)%`.

use super::FormatContext;
use super::value::Value;

/// A namespace of dynamic metadata, and the keys that lead to a value in it; without keys, the whole namespace.
#[derive(Clone, Debug)]
pub(super) struct MetadataQuery {
    namespace: Box<str>,
    keys: Box<[Box<str>]>,
}

impl MetadataQuery {
    /// Parses `NAMESPACE:KEY:KEY`.
    pub(super) fn parse(text: &str) -> Self {
        let mut parts = text.split(':').map(Box::from);
        MetadataQuery { namespace: parts.next().unwrap_or_default(), keys: parts.collect() }
    }

    /// The value: text as it is, everything else as JSON.
    pub(super) fn value<'a>(&self, context: FormatContext<'a>) -> Value<'a> {
        let metadata = context.info.dynamic_metadata.as_deref();
        let root = metadata.and_then(|metadata| metadata.get(&*self.namespace));
        let found =
            root.and_then(|root| self.keys.iter().try_fold(root, |value, key| value.get(&**key)));
        match found {
            None | Some(serde_json::Value::Null) => Value::Missing,
            Some(serde_json::Value::String(text)) => Value::Text(text),
            Some(value) => Value::Json(value),
        }
    }
}
