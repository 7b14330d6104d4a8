//! From text to pieces: literals, and `%NAME(ARGUMENT):LIMIT%`.

use super::operators::Operator;
use super::{FormatError, Piece};

/// The pieces of a format string; neighbouring literals are joined.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, FormatError> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut position = 0;
    while let Some(found) = text[position..].find('%') {
        let start = position + found;
        literal.push_str(&text[position..start]);
        if text[start + 1..].starts_with('%') {
            literal.push('%');
            position = start + 2;
            continue;
        }
        let command = Command::read(text, start)?;
        match Operator::resolve(&command).map_err(|message| FormatError::at(start, message))? {
            Operator::Constant(value) => literal.push_str(cut(&value, command.limit)),
            operator => {
                flush(&mut literal, &mut pieces);
                pieces.push(Piece::Operator(operator, command.limit));
            }
        }
        position = command.end;
    }
    literal.push_str(&text[position..]);
    flush(&mut literal, &mut pieces);
    Ok(pieces)
}

fn flush(literal: &mut String, pieces: &mut Vec<Piece>) {
    if !literal.is_empty() {
        pieces.push(Piece::Literal(std::mem::take(literal).into()));
    }
}

fn cut(text: &str, limit: Option<usize>) -> &str {
    &text[..text.floor_char_boundary(limit.unwrap_or(text.len()))]
}

/// One `%...%`, taken apart.
pub(super) struct Command<'a> {
    /// The operator's name.
    pub(super) name: &'a str,
    /// What stands in parentheses.
    pub(super) argument: Option<&'a str>,
    /// The number after the colon.
    pub(super) limit: Option<usize>,
    end: usize,
}

impl<'a> Command<'a> {
    /// Reads the command whose `%` stands at `start`.
    fn read(text: &'a str, start: usize) -> Result<Self, FormatError> {
        let body = &text[start + 1..];
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let name = &body[..body.find(|c| !is_name(c)).unwrap_or(body.len())];
        let rest = &body[name.len()..];
        let malformed = || {
            let shown: String = body.chars().take(40).collect();
            let rule = "an operator is %NAME%, %NAME(ARGUMENT)% or %NAME(ARGUMENT):LENGTH%; a percent sign is %%";
            FormatError::at(start, format!("\"%{shown}\" is no command operator: {rule}"))
        };
        if name.is_empty() {
            return Err(malformed());
        }
        let (argument, tail) = match rest.strip_prefix('(') {
            None => (None, Tail::read(rest).ok_or_else(malformed)?),
            Some(inner) => {
                // The argument ends at the first parenthesis that can end a command: times may hold others.
                let closing = inner.match_indices(')').map(|(index, _)| index);
                let mut ends = closing.filter_map(|i| Some((i, Tail::read(&inner[i + 1..])?)));
                let (index, tail) = ends.next().ok_or_else(malformed)?;
                let tail = Tail { length: tail.length + index + 2, ..tail };
                (Some(&inner[..index]), tail)
            }
        };
        let end = start + 1 + name.len() + tail.length;
        Ok(Command { name, argument, limit: tail.limit, end })
    }
}

/// What ends a command: `%` or `:LIMIT%`.
struct Tail {
    limit: Option<usize>,
    /// The bytes from the name's end up to and with the closing `%`.
    length: usize,
}

impl Tail {
    fn read(text: &str) -> Option<Tail> {
        if text.starts_with('%') {
            return Some(Tail { limit: None, length: 1 });
        }
        let (digits, _) = text.strip_prefix(':')?.split_once('%')?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let limit = plain.then(|| digits.parse().ok()).flatten()?;
        Some(Tail { limit: Some(limit), length: digits.len() + 2 })
    }
}
