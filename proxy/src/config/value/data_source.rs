//! Data sources (`envoy.config.core.v3.DataSource`), read when the configuration is translated.

use std::fmt;

use proto::envoy::config::core::v3::data_source::Specifier;
use proto::envoy::config::core::v3::{DataSource, WatchedDirectory};

use super::{non_empty, required};
use crate::config::error::{At, ConfigError, Context};
use crate::warn_set;

/// The bytes of a data source: given in place, in a file or in an environment variable.
pub fn bytes(source: &DataSource, at: &At<'_>, context: &Context) -> Result<Vec<u8>, ConfigError> {
    watched_directory(source.watched_directory.as_ref(), at, context)?;
    match required(&source.specifier, at)? {
        Specifier::InlineBytes(bytes) => Ok(bytes.clone()),
        Specifier::InlineString(text) => Ok(text.clone().into_bytes()),
        Specifier::Filename(path) => {
            let at = at.field("filename");
            let path = non_empty(path, &at)?;
            let content = std::fs::read(path).map_err(|error| cannot_read(path, error, &at))?;
            context.note_file(path, &content);
            Ok(content)
        }
        Specifier::EnvironmentVariable(name) => {
            let at = at.field("environment_variable");
            let name = non_empty(name, &at)?;
            std::env::var(name)
                .map(String::into_bytes)
                .map_err(|error| cannot_read(name, error, &at))
        }
    }
}

/// Notes the `watched_directory` of the message at `at`, if it has one.
pub fn watched_directory(
    directory: Option<&WatchedDirectory>,
    at: &At<'_>,
    context: &Context,
) -> Result<(), ConfigError> {
    let Some(directory) = directory else { return Ok(()) };
    let at = at.field("watched_directory");
    warn_set!(context, &at, directory, [watch_modify], "files are read again when they are moved");
    context.note_watched(non_empty(&directory.path, &at.field("path"))?);
    Ok(())
}

/// The text of a data source, which must be UTF-8.
pub fn text(source: &DataSource, at: &At<'_>, context: &Context) -> Result<String, ConfigError> {
    String::from_utf8(bytes(source, at, context)?).map_err(|_| at.error("is not valid UTF-8"))
}

fn cannot_read(what: &str, error: impl fmt::Display, at: &At<'_>) -> ConfigError {
    at.error(format_args!("cannot read {what:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(specifier: Option<Specifier>) -> Result<Vec<u8>, String> {
        let source = DataSource { specifier, watched_directory: None };
        let root = At::resource("secret", "a");
        bytes(&source, &root.field("key"), &Context::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn inline_files_and_variables_are_read() {
        assert_eq!(read(Some(Specifier::InlineString("x".into()))), Ok(b"x".to_vec()));
        assert_eq!(read(Some(Specifier::InlineBytes(vec![0xff]))), Ok(vec![0xff]));
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let file = read(Some(Specifier::Filename(manifest.into()))).expect("it exists");
        assert!(file.starts_with(b"[package]"));
        assert!(read(Some(Specifier::EnvironmentVariable("PATH".into()))).is_ok());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        assert_eq!(read(None), Err("secret \"a\": key: is required".into()));
        let error = read(Some(Specifier::Filename("/nowhere".into()))).expect_err("no such file");
        assert!(
            error.starts_with("secret \"a\": key.filename: cannot read \"/nowhere\": "),
            "{error}"
        );
    }
}
