//! Where a value stands in a resource, and what is wrong with it.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;

use xxhash_rust::xxh64::xxh64;

use crate::config::http_filter::HttpFilters;

/// A rejected value: which resource, which field, what is wrong. Becomes the NACK's `error_detail`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigError {
    /// The field's path from the resource on: `cluster "backend": load_assignment.endpoints[0].priority`.
    pub path: String,
    /// The value and the rule that it breaks.
    pub message: String,
}

/// Where a value stands: a chain of borrowed segments, made into text only for an error.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Resource { kind: &'a str, name: &'a str },
    Field(&'a str),
    Index(&'a str, usize),
    Key(&'a str, &'a str),
}

impl<'a> At<'a> {
    /// The root: a resource of this kind and name.
    pub fn resource(kind: &'a str, name: &'a str) -> Self {
        At { parent: None, segment: Segment::Resource { kind, name } }
    }

    /// A field of the message that stands here.
    pub fn field(&'a self, name: &'a str) -> At<'a> {
        At { parent: Some(self), segment: Segment::Field(name) }
    }

    /// An element of a repeated field of the message that stands here.
    pub fn index(&'a self, name: &'a str, index: usize) -> At<'a> {
        At { parent: Some(self), segment: Segment::Index(name, index) }
    }

    /// An entry of a map field of the message that stands here.
    pub fn key(&'a self, name: &'a str, key: &'a str) -> At<'a> {
        At { parent: Some(self), segment: Segment::Key(name, key) }
    }

    /// The value that stands here is refused; `message` says the value and the rule.
    pub fn error(&self, message: impl fmt::Display) -> ConfigError {
        ConfigError { path: self.to_string(), message: message.to_string() }
    }

    /// The field that stands here is not supported.
    pub fn unsupported(&self) -> ConfigError {
        self.error("is not supported by this version of Pillion; remove the field")
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            f.write_str(match parent.segment {
                Segment::Resource { .. } => ": ",
                _ => ".",
            })?;
        }
        match self.segment {
            Segment::Resource { kind, name: "" } => f.write_str(kind),
            Segment::Resource { kind, name } => write!(f, "{kind} {name:?}"),
            Segment::Field(name) => f.write_str(name),
            Segment::Index(name, index) => write!(f, "{name}[{index}]"),
            Segment::Key(name, key) => write!(f, "{name}[{key:?}]"),
        }
    }
}

/// What a translation knows and collects besides its result.
#[derive(Default)]
pub struct Context {
    warnings: RefCell<Vec<String>>,
    files: RefCell<Files>,
    http_filters: Option<&'static dyn HttpFilters>,
}

/// The files that a translation has read, to read them again when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Each file with a hash of what was in it.
    pub read: Vec<(PathBuf, u64)>,
    /// Every `watched_directory`.
    pub watched: Vec<PathBuf>,
}

/// How many warnings are kept: a field of every endpoint would otherwise give one for each.
const MAX_WARNINGS: usize = 100;

impl Context {
    /// A context in which these HTTP filters exist; in the default one there are none.
    pub fn with_http_filters(filters: &'static dyn HttpFilters) -> Self {
        Context { http_filters: Some(filters), ..Context::default() }
    }

    /// The HTTP filters that exist.
    pub fn http_filters(&self) -> Option<&'static dyn HttpFilters> {
        self.http_filters
    }

    /// Notes a field that is accepted without effect, with the reason why traffic stays correct. Beyond the first 100
    /// warnings nothing is noted.
    pub fn warn(&self, at: &At<'_>, reason: impl fmt::Display) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < MAX_WARNINGS {
            warnings.push(format!("{at}: {reason}"));
        }
    }

    /// Notes a file that was read.
    pub fn note_file(&self, path: impl Into<PathBuf>, content: &[u8]) {
        self.files.borrow_mut().read.push((path.into(), xxh64(content, 0)));
    }

    /// Notes a `watched_directory`.
    pub fn note_watched(&self, directory: impl Into<PathBuf>) {
        self.files.borrow_mut().watched.push(directory.into());
    }

    /// The files so far; empties the list.
    pub fn take_files(&self) -> Files {
        self.files.take()
    }

    /// The warnings so far; empties the list.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.borrow_mut())
    }
}

/// Whether a protobuf field is set, so that unsupported ones can be refused.
pub trait IsSet {
    /// Whether the field differs from its default.
    fn is_set(&self) -> bool;
}

impl<T> IsSet for Option<T> {
    fn is_set(&self) -> bool {
        self.is_some()
    }
}
impl<T> IsSet for Vec<T> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}
impl<K, V> IsSet for std::collections::HashMap<K, V> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}
impl IsSet for String {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}
impl IsSet for bool {
    fn is_set(&self) -> bool {
        *self
    }
}
impl IsSet for u32 {
    fn is_set(&self) -> bool {
        *self != 0
    }
}
impl IsSet for i32 {
    fn is_set(&self) -> bool {
        *self != 0
    }
}

/// Refuses each listed field of `$msg` that is set: `refuse_set!(at, msg: [field_a, field_b])?`-like, returns early.
#[macro_export]
macro_rules! refuse_set {
    ($at:expr, $msg:expr, [$($field:ident),* $(,)?]) => {
        $(if $crate::config::error::IsSet::is_set(&$msg.$field) {
            return Err($at.field(stringify!($field)).unsupported());
        })*
    };
}

/// Warns of each listed field of `$msg` that is set: it is accepted and has no effect, for the reason given.
#[macro_export]
macro_rules! warn_set {
    ($context:expr, $at:expr, $msg:expr, [$($field:ident),* $(,)?], $reason:expr) => {
        $(if $crate::config::error::IsSet::is_set(&$msg.$field) {
            $context.warn(&$at.field(stringify!($field)), $reason);
        })*
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_bounded() {
        let context = Context::default();
        (0..2 * MAX_WARNINGS).for_each(|i| context.warn(&At::resource("cluster", "a"), i));
        assert_eq!(context.take_warnings().len(), MAX_WARNINGS);
        assert_eq!(context.take_warnings(), Vec::<String>::new());
    }

    #[test]
    fn an_error_names_resource_path_and_rule() {
        let root = At::resource("cluster", "backend");
        let field = root.field("load_assignment");
        let error = field.index("endpoints", 2).error("priority 200 is above 128");
        assert_eq!(
            error.to_string(),
            "cluster \"backend\": load_assignment.endpoints[2]: priority 200 is above 128"
        );
    }
}
