//! A long list of messages, taken out of the message that holds it while that is read.

use prost_reflect::DynamicMessage;

use crate::mapping::{Document, ParseError, Parsed};
use crate::registry::Registry;
use crate::untyped::{self, Untyped};
use crate::validation::{Validator, Violation};

/// Takes the messages of one list as they are read: each is validated and encoded before the next one is read, so that only
/// one is held in memory in its large form.
pub struct Apart<'r> {
    path: &'r [&'r str],
    validator: Validator<'r>,
    encoded: Vec<Vec<u8>>,
}

impl<'r> Apart<'r> {
    /// Takes the list at `path`, which names fields as proto files do.
    pub fn new(registry: &'r Registry, path: &'r [&'r str]) -> Self {
        Apart { path, validator: Validator::new(registry.pool()), encoded: Vec::new() }
    }

    pub(crate) fn path(&self) -> &'r [&'r str] {
        self.path
    }

    pub(crate) fn take(&mut self, message: &DynamicMessage) {
        let place = format!("{}[{}]", self.path.join("."), self.encoded.len());
        self.validator.validate_at(&place, message);
        self.encoded.push(untyped::encode(message));
    }

    /// Takes the list out of a message that was read whole: from binary form, or from a text with other spellings.
    pub(crate) fn take_from(&mut self, message: &mut Untyped) {
        for message in message.take_list(self.path) {
            self.take(&message.0);
        }
    }

    /// The messages in binary form.
    ///
    /// # Errors
    /// What in them breaks the API's rules; see [`Registry::validate`].
    pub fn finish(self) -> Result<Vec<Vec<u8>>, Vec<Violation>> {
        self.validator.finish().map(|()| self.encoded)
    }
}

impl Registry {
    /// [`Registry::untyped`] without the list that `apart` takes.
    pub fn untyped_without<T: prost::Name>(
        &self,
        text: &Document,
        apart: &mut Apart<'_>,
    ) -> Result<Parsed<Untyped>, ParseError> {
        self.untyped_apart::<T>(text, Some(apart))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use crate::envoy::config::bootstrap::v3::Bootstrap;
    use crate::envoy::config::cluster::v3::Cluster;
    use prost::Message;

    const PATH: &[&str] = &["static_resources", "clusters"];

    #[test]
    fn what_is_taken_apart_is_not_in_the_rest() {
        let registry = Registry::load();
        let text = "{node: {id: a}, static_resources: {clusters: [{name: one}, {name: two}]}}";
        let other = text.replace("static_resources", "staticResources");
        let mut apart = Apart::new(&registry, PATH);
        for text in [text, &other] {
            let text = Document::parse(Format::Yaml, text).unwrap();
            let rest = registry.untyped_without::<Bootstrap>(&text, &mut apart).unwrap();
            let rest: Bootstrap = rest.strict().unwrap().typed().unwrap();
            assert_eq!(rest.node.unwrap().id, "a");
            assert!(rest.static_resources.unwrap().clusters.is_empty());
        }
        let clusters = apart.finish().unwrap();
        let names = clusters.iter().map(|one| Cluster::decode(one.as_slice()).unwrap().name);
        assert_eq!(names.collect::<Vec<_>>(), ["one", "two", "one", "two"]);
    }

    #[test]
    fn broken_rules_are_told_with_their_whole_path() {
        let registry = Registry::load();
        let text = "{static_resources: {clusters: [{name: one}, {name: ''}]}}";
        let text = Document::parse(Format::Yaml, text).unwrap();
        let mut apart = Apart::new(&registry, PATH);
        registry.untyped_without::<Bootstrap>(&text, &mut apart).unwrap();
        let violations = apart.finish().unwrap_err();
        assert_eq!(violations[0].path, "static_resources.clusters[1].name");
    }
}
