//! The lines of a head or of trailers: where they end, and what each field says.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What a search for the end of a head found.
#[derive(Debug, PartialEq, Eq)]
pub enum Search {
    /// The head has this length.
    End(usize),
    /// It goes on.
    More,
    /// A line ends in LF alone.
    BareLineFeed,
}

/// Looks for the empty line that ends a head. The first `searched` bytes hold no end, as an earlier search has shown.
pub fn search(bytes: &[u8], searched: usize) -> Search {
    // Empty lines in front of a message are ignored (RFC 9112 §2.2).
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(bytes.len());
    let mut from = searched;
    while let Some(found) = memchr::memchr(b'\n', &bytes[from..]) {
        let at = from + found;
        match at.checked_sub(1).map(|before| bytes[before]) {
            Some(b'\r') if at > start && at >= 2 && bytes[at - 2] == b'\n' => {
                return Search::End(at + 1);
            }
            Some(b'\r') => from = at + 1,
            _ => return Search::BareLineFeed,
        }
    }
    Search::More
}

/// The lines of a head that [`search`] has found, without their ends and without empty ones.
pub fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    let lines = memchr::memchr_iter(b'\n', head).map(move |end| {
        let line = &head[start..end - 1];
        start = end + 1;
        line
    });
    lines.filter(|line| !line.is_empty())
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadField {
    /// It has no colon, or a name that is none: also a line that would continue the one before (obs-fold).
    Syntax,
    /// It holds a control character.
    Characters,
    /// There are more fields than there may be.
    TooMany,
}

/// Name and value of a field; the value stays where it is in `head`, of which `line` is a part.
///
/// # Errors
/// What is wrong.
pub fn parse(head: &Bytes, line: &[u8]) -> Result<(HeaderName, HeaderValue), BadField> {
    // Names are short: to set a search up costs more than to look.
    let colon = line.iter().position(|byte| *byte == b':').ok_or(BadField::Syntax)?;
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    let name = HeaderName::from_bytes(name).map_err(|_| match has_control(name) {
        true => BadField::Characters,
        false => BadField::Syntax,
    })?;
    let value = HeaderValue::from_maybe_shared(head.slice_ref(value));
    Ok((name, value.map_err(|_| BadField::Characters)?))
}

/// The fields of a trailer section, which ends with an empty line. Those about framing and the connection are left out: their
/// time is over.
///
/// # Errors
/// What is wrong with one of them, or there are more than `most`.
pub fn trailers(section: &Bytes, most: usize) -> Result<HeaderMap, BadField> {
    const LATE: [HeaderName; 5] = [CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE];
    let mut map = HeaderMap::new();
    for (count, line) in lines(section).enumerate() {
        let (name, value) = parse(section, line)?;
        if count == most {
            return Err(BadField::TooMany);
        }
        if !LATE.contains(&name) {
            map.try_append(name, value).map_err(|_| BadField::TooMany)?;
        }
    }
    Ok(map)
}

/// `text` without the blanks around it.
pub fn trim(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| b" \t".contains(byte);
    let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

fn has_control(text: &[u8]) -> bool {
    text.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_an_empty_line_and_has_no_bare_line_feeds() {
        assert_eq!(search(b"\r\n\r\nGET / HTTP/1.1\r\na: b\r\n\r\nx", 0), Search::End(28));
        assert_eq!(search(b"GET / HTTP/1.1\r\na: b\r\n", 0), Search::More);
        assert_eq!(search(b"\r\n\r\n", 0), Search::More);
        assert_eq!(search(b"GET / HTTP/1.1\na: b\r\n\r\n", 0), Search::BareLineFeed);
        assert_eq!(search(b"GET / HTTP/1.1\r\n\n", 0), Search::BareLineFeed);
        assert_eq!(search(b"GET / HTTP/1.1\r\n\r\n", 17), Search::End(18));
    }

    #[test]
    fn a_search_that_goes_on_finds_the_same_end() {
        let head = b"\r\nGET / HTTP/1.1\r\na: b\r\nc:d\r\n\r\nrest";
        for split in 0..head.len() {
            let first = search(&head[..split], 0);
            if split < 31 {
                assert_eq!(first, Search::More, "{split}");
                assert_eq!(search(head, split), Search::End(31), "{split}");
            } else {
                assert_eq!(first, Search::End(31), "{split}");
            }
        }
    }

    #[test]
    fn fields_have_a_token_a_colon_and_no_control_characters() {
        let field = |line: &str| {
            let head = Bytes::copy_from_slice(line.as_bytes());
            parse(&head, &head).map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        };
        assert_eq!(field("A-b:\t c d \t"), Ok(("a-b".to_owned(), b"c d".to_vec())));
        assert_eq!(field("a:"), Ok(("a".to_owned(), Vec::new())));
        assert_eq!(field("a: \u{fc}\tb"), Ok(("a".to_owned(), "\u{fc}\tb".as_bytes().to_vec())));
        for (line, bad) in [
            ("a", BadField::Syntax),
            (": b", BadField::Syntax),
            ("a : b", BadField::Syntax),
            (" a: b", BadField::Syntax),
            ("a\0: b", BadField::Characters),
            ("a: b\rc", BadField::Characters),
            ("a: \x7f", BadField::Characters),
        ] {
            assert_eq!(field(line), Err(bad), "{line:?}");
        }
    }
}
