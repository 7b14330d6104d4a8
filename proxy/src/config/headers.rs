//! Header mutations (`HeaderValueOption`, `*_headers_to_remove`).

use http::{HeaderName, HeaderValue};
use proto::envoy::config::core::v3::HeaderValueOption;
use proto::envoy::config::core::v3::header_value_option::HeaderAppendAction;

use crate::config::value::{enumeration, header_name, required};
use crate::config::{At, ConfigError};
use crate::refuse_set;
use crate::telemetry::log_format::Format;

/// The longest name or value that the API allows, in bytes.
const MAX_LENGTH: usize = 16_384;
/// The most headers that one level may add.
const MAX_ADDED: usize = 1000;

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

    /// Whether a value is made of the request's or the response's headers.
    pub fn reads_heads(&self) -> bool {
        self.add.iter().any(|add| match &add.value {
            HeaderText::Literal(_) => false,
            HeaderText::Format(format) => format.needs_heads(),
        })
    }

    /// The mutations of the message that stands here, for requests and for responses: each from `*_headers_to_add` with
    /// `*_headers_to_remove`.
    pub fn both_from_proto(
        (request_add, request_remove): (&[HeaderValueOption], &[String]),
        (response_add, response_remove): (&[HeaderValueOption], &[String]),
        at: &At<'_>,
    ) -> Result<(HeaderMutations, HeaderMutations), ConfigError> {
        let request = Self::from_proto(
            ("request_headers_to_add", request_add),
            ("request_headers_to_remove", request_remove),
            at,
        )?;
        let response = Self::from_proto(
            ("response_headers_to_add", response_add),
            ("response_headers_to_remove", response_remove),
            at,
        )?;
        Ok((request, response))
    }

    fn from_proto(
        (add_field, add): (&str, &[HeaderValueOption]),
        (remove_field, remove): (&str, &[String]),
        at: &At<'_>,
    ) -> Result<HeaderMutations, ConfigError> {
        if add.len() > MAX_ADDED {
            let rule = format!("has {} entries, {MAX_ADDED} are allowed", add.len());
            return Err(at.field(add_field).error(rule));
        }
        let removed = remove.iter().enumerate();
        let added = add.iter().enumerate();
        Ok(HeaderMutations {
            remove: removed
                .map(|(index, name)| mutable_name(name, &at.index(remove_field, index)))
                .collect::<Result<_, _>>()?,
            add: added
                .map(|(index, option)| HeaderAdd::from_proto(option, &at.index(add_field, index)))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl HeaderAdd {
    /// A `HeaderValueOption`.
    pub fn from_proto(message: &HeaderValueOption, at: &At<'_>) -> Result<HeaderAdd, ConfigError> {
        let at_header = at.field("header");
        let header = required(&message.header, &at_header)?;
        refuse_set!(at_header, header, [raw_value]);
        if header.key.len() > MAX_LENGTH || header.value.len() > MAX_LENGTH {
            return Err(at_header.error(format_args!("is longer than {MAX_LENGTH} bytes")));
        }
        Ok(HeaderAdd {
            name: mutable_name(&header.key, &at_header.field("key"))?,
            value: HeaderText::from_text(&header.value, &at_header.field("value"))?,
            action: AppendAction::from_proto(message, at)?,
            keep_empty: message.keep_empty_value,
        })
    }
}

impl HeaderText {
    /// A text that may hold command operators.
    pub fn from_text(text: &str, at: &At<'_>) -> Result<HeaderText, ConfigError> {
        if text.contains('%') {
            let format = Format::parse(text).map_err(|error| at.error(error))?;
            return Ok(HeaderText::Format(format.omit_empty_values()));
        }
        let value = HeaderValue::from_str(text);
        value.map(HeaderText::Literal).map_err(|error| at.error(format_args!("{text:?}: {error}")))
    }
}

impl AppendAction {
    #[allow(deprecated)] // Control planes still send `append`.
    fn from_proto(message: &HeaderValueOption, at: &At<'_>) -> Result<AppendAction, ConfigError> {
        let at_action = at.field("append_action");
        let action = enumeration(message.append_action, &at_action)?;
        match (message.append, action) {
            (None, HeaderAppendAction::AppendIfExistsOrAdd) => Ok(AppendAction::Append),
            (None, HeaderAppendAction::AddIfAbsent) => Ok(AppendAction::AddIfAbsent),
            (None, HeaderAppendAction::OverwriteIfExistsOrAdd) => Ok(AppendAction::Overwrite),
            (None, HeaderAppendAction::OverwriteIfExists) => Ok(AppendAction::OverwriteIfExists),
            (Some(append), HeaderAppendAction::AppendIfExistsOrAdd) => match append.value {
                true => Ok(AppendAction::Append),
                false => Ok(AppendAction::Overwrite),
            },
            (Some(_), _) => Err(at_action.error("must not be set together with append")),
        }
    }
}

/// The name of a header that mutations may touch: neither a pseudo header nor `host`.
fn mutable_name(name: &str, at: &At<'_>) -> Result<HeaderName, ConfigError> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return Err(
            at.error(format_args!("{name:?}: headers with a colon and host cannot be modified"))
        );
    }
    header_name(name, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::envoy::config::core::v3::HeaderValue as PbHeaderValue;
    use proto::google::protobuf::BoolValue;

    fn option(key: &str, value: &str) -> HeaderValueOption {
        let header = PbHeaderValue { key: key.into(), value: value.into(), raw_value: Vec::new() };
        HeaderValueOption { header: Some(header), ..Default::default() }
    }

    fn translate(
        add: &[HeaderValueOption],
        remove: &[&str],
    ) -> Result<HeaderMutations, ConfigError> {
        let remove: Vec<String> = remove.iter().map(|name| (*name).into()).collect();
        let at = At::resource("route", "r");
        HeaderMutations::both_from_proto((add, &remove), (&[], &[]), &at).map(|both| both.0)
    }

    #[test]
    fn values_without_operators_are_ready_made() {
        let mutations = translate(&[option("X-A", "1"), option("x-b", "%PROTOCOL%")], &["X-C"]);
        let mutations = mutations.unwrap();
        assert_eq!(mutations.add[0].name, "x-a");
        assert!(matches!(&mutations.add[0].value, HeaderText::Literal(value) if value == "1"));
        assert!(matches!(&mutations.add[1].value, HeaderText::Format(_)));
        assert_eq!(mutations.remove, ["x-c"]);
    }

    #[test]
    #[allow(deprecated)]
    fn append_and_append_action_say_the_same_in_two_ways() {
        use HeaderAppendAction::*;
        for (append, action, expected) in [
            (None, AppendIfExistsOrAdd, Some(AppendAction::Append)),
            (None, AddIfAbsent, Some(AppendAction::AddIfAbsent)),
            (None, OverwriteIfExistsOrAdd, Some(AppendAction::Overwrite)),
            (None, OverwriteIfExists, Some(AppendAction::OverwriteIfExists)),
            (Some(true), AppendIfExistsOrAdd, Some(AppendAction::Append)),
            (Some(false), AppendIfExistsOrAdd, Some(AppendAction::Overwrite)),
            (Some(true), AddIfAbsent, None),
        ] {
            let mut message = option("x", "y");
            message.append = append.map(|value| BoolValue { value });
            message.append_action = action.into();
            let found = translate(&[message], &[]).ok().map(|mutations| mutations.add[0].action);
            assert_eq!(found, expected, "{append:?} {action:?}");
        }
    }

    #[test]
    fn forbidden_names_and_values_are_refused_with_their_path() {
        for (add, remove, path) in [
            (vec![option(":path", "/")], vec![], "request_headers_to_add[0].header.key"),
            (vec![option("Host", "a")], vec![], "request_headers_to_add[0].header.key"),
            (vec![option("a b", "a")], vec![], "request_headers_to_add[0].header.key"),
            (vec![option("a", "x\ny")], vec![], "request_headers_to_add[0].header.value"),
            (vec![HeaderValueOption::default()], vec![], "request_headers_to_add[0].header"),
            (vec![], vec!["x", "host"], "request_headers_to_remove[1]"),
            (vec![], vec![""], "request_headers_to_remove[0]"),
            (vec![option("a", "b"); 1001], vec![], "request_headers_to_add"),
        ] {
            let error = translate(&add, &remove).unwrap_err();
            assert_eq!(error.path, format!("route \"r\": {path}"), "{error}");
        }
    }
}
