//! Configuration files: their formats, and one configuration merged over another.

use std::path::{Path, PathBuf};
use std::{fs, io};

use prost::{DecodeError, Message, Name};
use prost_reflect::DynamicMessage;

use crate::apart::Apart;
use crate::mapping::{Document, Format, ParseError, Parsed};
use crate::registry::Registry;
use crate::untyped::Untyped;

/// Why a configuration file could not be read. Every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file could not be opened or is no text.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The text is no message of the type that is wanted.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: ParseError,
    },
    /// The binary file is no message of the type that is wanted.
    #[error("{}: {source}", path.display())]
    Binary {
        /// The file.
        path: PathBuf,
        /// What is wrong with the bytes.
        source: DecodeError,
    },
    /// Protobuf's text format is not supported.
    #[error("{}: protobuf text format is not supported; write the file as YAML, JSON or binary protobuf (.pb)", path.display())]
    TextFormat {
        /// The file.
        path: PathBuf,
    },
}

impl Registry {
    /// Reads a message from a file, in the format that the extension names, whatever its case: `.yaml` and `.yml` are YAML, `.pb` is
    /// binary protobuf, anything else is JSON, as in Envoy. The file may be a bootstrap as well as the `DiscoveryResponse` of a
    /// `path_config_source`.
    pub fn read_file<T: Message + Name + Default>(
        &self,
        path: &Path,
    ) -> Result<Parsed<T>, FileError> {
        let bytes = fs::read(path).map_err(|source| FileError::Io { path: path.into(), source })?;
        self.parse_file(path, &bytes)
    }

    /// [`Registry::read_file`] with the file's content at hand.
    pub fn parse_file<T: Message + Name + Default>(
        &self,
        path: &Path,
        bytes: &[u8],
    ) -> Result<Parsed<T>, FileError> {
        let parsed = self.untyped_file::<T>(&ConfigFile::parse(path, bytes)?, None)?;
        parsed
            .try_map(|message| message.typed())
            .map_err(|source| FileError::Binary { path: path.into(), source })
    }

    /// [`Registry::read_file`] of a file whose syntax has been read, without making a `T` of the message. The messages of one
    /// list are taken apart, if that is given.
    pub fn untyped_file<T: Name>(
        &self,
        file: &ConfigFile,
        apart: Option<&mut Apart<'_>>,
    ) -> Result<Parsed<Untyped>, FileError> {
        let path = || file.path.clone();
        match &file.content {
            Content::Binary(bytes) => {
                let message = DynamicMessage::decode(self.descriptor::<T>(), bytes.as_slice());
                let message = message.map_err(|source| FileError::Binary { path: path(), source });
                let mut message = Untyped(message?);
                if let Some(apart) = apart {
                    apart.take_from(&mut message);
                }
                Ok(Parsed { message, unknown: Vec::new() })
            }
            Content::Text(text) => self
                .untyped_apart::<T>(text, apart)
                .map_err(|source| FileError::Parse { path: path(), source }),
        }
    }
}

/// A configuration file whose syntax has been read. See [`Document`].
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Binary(Vec<u8>),
    Text(Document),
}

impl ConfigFile {
    /// Reads a file, in the format that its extension names; see [`Registry::read_file`].
    ///
    /// # Errors
    /// It cannot be read, or its syntax is wrong.
    pub fn read(path: &Path) -> Result<ConfigFile, FileError> {
        let bytes = fs::read(path).map_err(|source| FileError::Io { path: path.into(), source })?;
        Self::parse(path, &bytes)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<ConfigFile, FileError> {
        let extension =
            path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let format = match extension.to_ascii_lowercase().as_str() {
            "pb" => {
                let content = Content::Binary(bytes.to_vec());
                return Ok(ConfigFile { path: path.into(), content });
            }
            "pb_text" => return Err(FileError::TextFormat { path: path.into() }),
            "yaml" | "yml" => Format::Yaml,
            _ => Format::Json,
        };
        let text = std::str::from_utf8(bytes).map_err(|error| FileError::Io {
            path: path.into(),
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        })?;
        let text = Document::parse(format, text)
            .map_err(|source| FileError::Parse { path: path.into(), source })?;
        Ok(ConfigFile { path: path.into(), content: Content::Text(text) })
    }
}

/// Merges `over` into `base` as protobuf's `MergeFrom` does: set scalars replace, messages merge, lists append. `--config-yaml` is
/// merged over the configuration file this way. It fails only where `over` is more than 100 messages deep, protobuf's limit.
pub fn merge<T: Message>(base: &mut T, over: &T) -> Result<(), DecodeError> {
    base.merge(over.encode_to_vec().as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::config::core::v3::Node;
    use crate::envoy::service::discovery::v3::DiscoveryResponse;
    use crate::{any, type_url};

    #[test]
    fn formats_are_told_by_extension() {
        let registry = Registry::load();
        let node = Node { id: "a".into(), ..Default::default() };
        for (name, text) in [
            ("x.yaml", &b"id: a"[..]),
            ("x.YML", b"id: a"),
            ("x.json", b"{\"id\": \"a\"}"),
            ("x.conf", b"{\"id\": \"a\"}"),
            ("x.pb", &node.encode_to_vec()),
        ] {
            let parsed = registry.parse_file::<Node>(Path::new(name), text).unwrap();
            assert_eq!(parsed.message, node, "{name}");
        }
    }

    #[test]
    fn errors_name_the_file() {
        let registry = Registry::load();
        for (name, text) in [
            ("x.yaml", &b"id: [a]"[..]),
            ("x.json", b"id: a"),
            ("x.pb", b"\x0a\xff"),
            ("x.pb_text", b"id: \"a\""),
            ("x.yaml", b"\xff\xfe"),
        ] {
            let error = registry.parse_file::<Node>(Path::new(name), text).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        let error = registry.read_file::<Node>(Path::new("/nonexistent/node.yaml")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /nonexistent/node.yaml"), "{error}");
    }

    #[test]
    fn discovery_responses_are_read_from_files() {
        let text = b"version_info: '7'
resources:
- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: a
- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: b
";
        let response: DiscoveryResponse =
            Registry::load().parse_file(Path::new("cds.yaml"), text).unwrap().message;
        assert_eq!(response.version_info, "7");
        assert!(response.resources.iter().all(|resource| resource.type_url == type_url::CLUSTER));
        let names: Vec<_> = response.resources.iter().filter_map(any::resource_name).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn merging_replaces_scalars_merges_messages_and_appends_to_lists() {
        let registry = Registry::load();
        let mut base: Node = registry
            .from_yaml("{id: a, cluster: c, locality: {region: r, zone: z}, client_features: [x]}")
            .unwrap();
        let over: Node =
            registry.from_yaml("{id: b, locality: {zone: w}, client_features: [w]}").unwrap();
        merge(&mut base, &over).unwrap();
        let merged: Node = registry
            .from_yaml(
                "{id: b, cluster: c, locality: {region: r, zone: w}, client_features: [x, w]}",
            )
            .unwrap();
        assert_eq!(base, merged);
    }
}
