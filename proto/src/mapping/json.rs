//! JSON text to a tree. serde_json keeps no positions, so an error looks its own up in the text afterwards.

use super::tree::{Node, Position};
use super::{ParseError, Parsed, yaml};

/// Reads `text`, which must be one JSON value.
pub(super) fn parse(text: &str) -> Result<Node, ParseError> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        let place = Position { line: error.line(), column: error.column() };
        // serde_json's own text ends in the same position.
        let text = error.to_string();
        let problem = text.split(" at line ").next().unwrap_or(&text);
        ParseError::at(Some(place), problem)
    })?;
    Ok(Node::from(&value))
}

/// Fills in where the values at fault are. JSON is YAML, whose parser knows; where it disagrees the position stays unknown.
pub(super) fn add_positions<T>(
    decoded: Result<Parsed<T>, ParseError>,
    text: &str,
) -> Result<Parsed<T>, ParseError> {
    if decoded.as_ref().is_ok_and(|parsed| parsed.unknown.is_empty()) {
        return decoded;
    }
    let Ok(tree) = yaml::parse(text) else {
        return decoded;
    };
    let place = |mut error: ParseError| {
        error.position = tree.position_of(&error.steps);
        error
    };
    match decoded {
        Ok(mut parsed) => {
            parsed.unknown = parsed.unknown.into_iter().map(place).collect();
            Ok(parsed)
        }
        Err(error) => Err(place(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_error_has_its_position_once() {
        let error = parse("{\n  \"a\": }").unwrap_err();
        assert_eq!(error.to_string(), "expected value (line 2, column 8)");
    }
}
