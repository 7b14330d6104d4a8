//! Resources from YAML and JSON text, and back to JSON.
//!
//! A document is one resource with its `@type`, or a list of them under `resources:` like a `DiscoveryResponse`. YAML may hold
//! several documents separated by `---`; JSON may be an array of resources. A resource whose type carries no name is wrapped in
//! `envoy.service.discovery.v3.Resource`.

use std::sync::LazyLock;

use proto::envoy::service::discovery::v3::DiscoveryResponse;
use proto::google::protobuf::Any;
use proto::{Format, ParseError, Registry};

use crate::resource::{Resource, ResourceError};

/// Decoding the descriptors takes tens of milliseconds and only folders and the HTTP API need them.
static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::load);

/// Why a text holds no resources.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is no YAML or JSON, or not of the shape of the type it names.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A resource in it cannot be served.
    #[error("{error} (in the document at line {line})")]
    Resource {
        /// What is wrong with it.
        error: ResourceError,
        /// Where the document begins, counted from 1.
        line: usize,
    },
}

/// The resources in a text.
pub fn parse(format: Format, text: &str) -> Result<Vec<Resource>, DocumentError> {
    let documents = match format {
        Format::Yaml => split_yaml(text),
        Format::Json => vec![(1, text.to_owned())],
    };
    let mut resources = Vec::new();
    for (line, document) in documents {
        for any in parse_document(format, &document)? {
            let resource = Resource::try_from(any);
            resources.push(resource.map_err(|error| DocumentError::Resource { error, line })?);
        }
    }
    Ok(resources)
}

/// A resource as JSON, with its `@type`.
pub(crate) fn to_json(resource: &Resource) -> serde_json::Value {
    REGISTRY.any_to_json(resource.any())
}

/// Whether two resources say the same. Their bytes may differ all the same: the entries of a map are encoded in no fixed order.
pub(crate) fn is_same(one: &Resource, other: &Resource) -> bool {
    let wrapper = |resource: &Resource| {
        let name = (resource.type_url().to_owned(), resource.name().to_owned());
        (name, resource.aliases().to_vec(), resource.ttl(), resource.any().value.len())
    };
    if wrapper(one) != wrapper(other) {
        return false;
    }
    if one == other {
        return true;
    }
    // Private keys are redacted in the JSON form, so the bytes have to agree too, but for their order.
    let sorted = |resource: &Resource| {
        let mut bytes = resource.any().value.clone();
        bytes.sort_unstable();
        bytes
    };
    sorted(one) == sorted(other) && to_json(one) == to_json(other)
}

fn parse_document(format: Format, text: &str) -> Result<Vec<Any>, ParseError> {
    let list = match format {
        Format::Yaml => text.lines().any(|line| line.starts_with("resources:")),
        Format::Json if text.trim_start().starts_with('[') => {
            let wrapped = format!(r#"{{"resources":{text}}}"#);
            return parse_document(format, &wrapped);
        }
        Format::Json => {
            let object: Result<serde_json::Map<_, _>, _> = serde_json::from_str(text);
            object.is_ok_and(|object| object.contains_key("resources"))
        }
    };
    if list {
        let response: DiscoveryResponse = REGISTRY.parse(format, text)?.strict()?;
        return Ok(response.resources);
    }
    Ok(vec![REGISTRY.parse(format, text)?.strict()?])
}

/// The documents of a YAML text with the lines they begin at. Each keeps the lines before it as empty ones, so that the places in
/// error messages are those of the whole text.
fn split_yaml(text: &str) -> Vec<(usize, String)> {
    let is_separator = |line: &str| line == "---" || line.starts_with("--- ");
    let is_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let mut documents = Vec::new();
    let mut current = String::new();
    let mut begin = None;
    for (index, line) in text.lines().enumerate() {
        if is_separator(line) {
            let document = std::mem::replace(&mut current, "\n".repeat(index + 1));
            documents.extend(begin.take().map(|begin| (begin, document)));
            continue;
        }
        if is_content(line) {
            begin = begin.or(Some(index + 1));
        }
        current.push_str(line);
        current.push('\n');
    }
    documents.extend(begin.map(|begin| (begin, current)));
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

    fn names(format: Format, text: &str) -> Vec<String> {
        let resources = parse(format, text).expect("it is right");
        resources.iter().map(|resource| resource.name().to_owned()).collect()
    }

    #[test]
    fn all_shapes_of_a_text_are_read() {
        let one = format!("# a comment\n'@type': {CLUSTER}\nname: a\n");
        assert_eq!(names(Format::Yaml, &one), ["a"]);
        let list = format!("resources:\n- '@type': {CLUSTER}\n  name: b\n");
        assert_eq!(names(Format::Yaml, &format!("---\n{one}---\n\n---\n{list}")), ["a", "b"]);
        let object = format!(r#"{{"@type": "{CLUSTER}", "name": "c"}}"#);
        assert_eq!(names(Format::Json, &object), ["c"]);
        assert_eq!(names(Format::Json, &format!("[{object}]")), ["c"]);
        assert_eq!(names(Format::Json, &format!(r#"{{"resources": [{object}]}}"#)), ["c"]);
        assert_eq!(names(Format::Yaml, ""), [] as [&str; 0]);
    }

    #[test]
    fn an_error_names_its_line_in_the_whole_text() {
        let good = format!("'@type': {CLUSTER}\nname: a\n");
        let text = format!("{good}---\n{good}connect_timeout: soon\n");
        let error = parse(Format::Yaml, &text).expect_err("it is wrong").to_string();
        assert!(error.contains("connect_timeout") && error.contains("line 6"), "{error}");
        let unnamed = format!("{good}---\n'@type': {CLUSTER}\n");
        let error = parse(Format::Yaml, &unnamed).expect_err("it is wrong").to_string();
        assert!(error.contains("empty name") && error.contains("line 4"), "{error}");
    }
}
