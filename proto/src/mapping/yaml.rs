//! YAML text to a tree, with scalars understood the way Envoy's reader (yaml-cpp) understands them.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::ParseError;
use super::tree::{Data, Node, Position};

/// How deep a document may nest, protobuf's own limit for JSON.
const MAX_DEPTH: usize = 100;
/// How many values aliases may add in all, so that a small document cannot grow without bound.
const MAX_ALIASED: usize = 1_000_000;

/// Reads the first document of `text`; further ones are left alone, as Envoy does.
pub(super) fn parse(text: &str) -> Result<Node, ParseError> {
    let mut reader =
        Reader { events: Parser::new_from_str(text), anchors: HashMap::new(), aliased: 0 };
    loop {
        match reader.next()? {
            (Event::DocumentStart(_), _) => {
                let (event, span) = reader.next()?;
                return reader.node(event, span, 0);
            }
            (Event::StreamEnd, span) => {
                return Err(ParseError::at(position(span), "the text is empty"));
            }
            _ => {}
        }
    }
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    /// The complete values that aliases may name, with the number of values in each.
    anchors: HashMap<usize, (Node, usize)>,
    aliased: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), ParseError> {
        match self.events.next_event() {
            Some(event) => event.map_err(syntax_error),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, ParseError> {
        if depth > MAX_DEPTH {
            return Err(ParseError::at(
                position(span),
                format!("more than {MAX_DEPTH} levels deep"),
            ));
        }
        let (data, anchor) = match event {
            Event::Alias(anchor) => return self.alias(anchor, span),
            Event::Scalar(text, style, anchor, tag) => {
                (scalar(&text, style, tag.as_deref()), anchor)
            }
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.map(depth)?, anchor),
            _ => return Err(ParseError::at(position(span), "a value is missing")),
        };
        let node = Node { data, position: position(span) };
        // Zero says that the value has no anchor.
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size(&node)));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Data, ParseError> {
        let mut values = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Data::List(values)),
                (event, span) => values.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Data, ParseError> {
        let mut entries = Vec::new();
        loop {
            let (event, key_span) = self.next()?;
            let (key, ignored) = match event {
                Event::MappingEnd => return Ok(Data::Map(entries.into_iter().collect())),
                Event::Scalar(text, _, _, tag) => {
                    (text.into_owned(), tag.is_some_and(|tag| is_ignore(&tag)))
                }
                _ => return Err(ParseError::at(position(key_span), "a key must be a scalar")),
            };
            let (event, span) = self.next()?;
            let mut value = self.node(event, span, depth + 1)?;
            value.position = position(key_span);
            // Envoy leaves entries out whose key is tagged so: a place to keep anchors.
            if !ignored {
                entries.push((key, value));
            }
        }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Node, ParseError> {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            return Err(ParseError::at(
                position(span),
                "an alias to an anchor that is not complete",
            ));
        };
        self.aliased += size;
        if self.aliased > MAX_ALIASED {
            return Err(ParseError::at(
                position(span),
                format!("aliases add more than {MAX_ALIASED} values"),
            ));
        }
        Ok(node.clone())
    }
}

fn is_ignore(tag: &Tag) -> bool {
    tag.handle == "!" && tag.suffix == "ignore"
}

fn position(span: Span) -> Option<Position> {
    Some(Position { line: span.start.line().max(1), column: span.start.col() + 1 })
}

fn syntax_error(error: ScanError) -> ParseError {
    let place = Position { line: error.marker().line(), column: error.marker().col() + 1 };
    ParseError::at(Some(place), error.info())
}

/// How many values a value consists of.
fn size(node: &Node) -> usize {
    match &node.data {
        Data::List(values) => 1 + values.iter().map(size).sum::<usize>(),
        Data::Map(entries) => 1 + entries.iter().map(|(_, node)| size(node)).sum::<usize>(),
        _ => 1,
    }
}

/// What a scalar means to Envoy: quoted text is a string; plain text is null, a boolean, an integer of 32 bits or a string.
///
/// Longer integers and floats stay strings, which the protobuf mapping reads as numbers where a field wants one. In a `Struct` they
/// stay strings, in Envoy too.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Data {
    let string = || Data::String(text.to_owned());
    if style != ScalarStyle::Plain
        || tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str")
    {
        return string();
    }
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Data::Null;
    }
    if let Some(flag) = boolean(text) {
        return Data::Bool(flag);
    }
    match integer(text) {
        Some(number) if i32::try_from(number).is_ok() => Data::Number(number.into()),
        Some(number) => Data::String(number.to_string()),
        None => string(),
    }
}

/// YAML 1.1's booleans in lower case, upper case or with a capital letter.
fn boolean(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let tail = text.get(1..)?;
    let one_case =
        text == lower || text == text.to_ascii_uppercase() || tail == tail.to_ascii_lowercase();
    match lower.as_str() {
        _ if !one_case => None,
        "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// An integer as C writes it: decimal, `0x` for hexadecimal, a leading zero for octal. `0o17` is none.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let magnitude = match (hexadecimal, digits.strip_prefix('0')) {
        (Some(digits), _) if !digits.starts_with('+') => i128::from_str_radix(digits, 16).ok()?,
        (None, Some(digits)) if !digits.is_empty() && !digits.starts_with('+') => {
            i128::from_str_radix(digits, 8).ok()?
        }
        (Some(_), _) => return None,
        (None, _) => digits.parse().ok()?,
    };
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn value(text: &str) -> Value {
        Value::from(&parse(text).unwrap())
    }

    #[test]
    fn plain_scalars_mean_what_they_mean_to_envoy() {
        assert_eq!(
            value(
                "[yes, On, n, TRUE, tRUE, ~, null, 12, -3, 0x1f, 017, 0o17, 2.5, 3000000000, text]"
            ),
            json!([
                true,
                true,
                false,
                true,
                "tRUE",
                null,
                null,
                12,
                -3,
                31,
                15,
                "0o17",
                "2.5",
                "3000000000",
                "text"
            ])
        );
    }

    #[test]
    fn quoted_scalars_are_strings() {
        assert_eq!(value("['yes', \"12\", 'null', !!str 5]"), json!(["yes", "12", "null", "5"]));
        assert_eq!(value("a: |\n  12\n"), json!({"a": "12\n"}));
    }

    #[test]
    fn anchors_are_copied_and_ignored_keys_left_out() {
        assert_eq!(
            value("!ignore base: &b {x: 1}\na: *b\nb: *b\n"),
            json!({"a": {"x": 1}, "b": {"x": 1}})
        );
    }

    #[test]
    fn the_first_document_and_the_last_of_equal_keys_are_read() {
        assert_eq!(value("a: 1\na: 2\n---\nb: 3\n"), json!({"a": 2}));
    }

    #[test]
    fn positions_are_those_of_keys_and_items() {
        let node = parse("a:\n  bc:\n  - x\n").unwrap();
        let steps =
            [super::super::tree::Step::Key("a".into()), super::super::tree::Step::Key("bc".into())];
        assert_eq!(node.position_of(&steps), Some(Position { line: 2, column: 3 }));
    }

    #[test]
    fn hostile_documents_are_refused() {
        for text in
            ["", "# only a comment\n", "a: [", "a: *b", "a: &x [*x]", "? [a]\n: b", "a: b: c"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse(&deep).is_err());
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let below = format!("*a{},", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(parse(&bomb).unwrap_err().to_string().contains("aliases"));
    }
}
