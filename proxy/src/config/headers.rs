//! Header mutations (`HeaderValueOption`, `*_headers_to_remove`).

use http::{HeaderName, HeaderValue};

use crate::telemetry::log_format::Format;

/// The mutations of one level (route, virtual host, route configuration, weighted cluster), for one direction.
#[derive(Clone, Debug, Default)]
pub struct HeaderMutations {
    /// `*_headers_to_remove`; done first.
    pub remove: Vec<HeaderName>,
    /// `*_headers_to_add`, in order.
    pub add: Vec<HeaderAdd>,
}

/// `HeaderValueOption`.
#[derive(Clone, Debug)]
pub struct HeaderAdd {
    /// `header.key`
    pub name: HeaderName,
    /// `header.value`, with command operators.
    pub value: HeaderText,
    /// `append_action`
    pub action: AppendAction,
    /// `keep_empty_value`
    pub keep_empty: bool,
}

/// The value of a [`HeaderAdd`].
#[derive(Clone, Debug)]
pub enum HeaderText {
    /// A value without command operators, ready to be used.
    Literal(HeaderValue),
    /// A value that is formatted for each stream.
    Format(Format),
}

/// `HeaderAppendAction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendAction {
    /// `APPEND_IF_EXISTS_OR_ADD`, the default.
    Append,
    /// `ADD_IF_ABSENT`
    AddIfAbsent,
    /// `OVERWRITE_IF_EXISTS_OR_ADD`
    Overwrite,
    /// `OVERWRITE_IF_EXISTS`
    OverwriteIfExists,
}

impl HeaderMutations {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }
}
