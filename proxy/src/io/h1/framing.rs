//! Where the body of a message ends (RFC 9112 §6).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::fields::{self, BadField, Search};

/// How many bytes of chunk extensions one body may have; nobody reads them.
const MOST_EXTENSION: usize = 16 * 1024;

/// A body on its way in.
#[derive(Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// `transfer-encoding: chunked`
    Chunked(Chunks),
    /// It ends with the connection.
    UntilClose,
}

/// What the trailers of a body may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrailerLimits {
    /// How long they may be together.
    pub bytes: usize,
    /// How many there may be.
    pub fields: usize,
}

/// A chunked body that nothing more can be had of.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// Its framing, or a trailer, is malformed.
    Malformed,
    /// Its trailers are more than they may be.
    TooLarge,
}

/// What comes next of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some of it.
    Data(Bytes),
    /// What stands behind it; nothing more comes.
    Trailers(HeaderMap),
    /// Nothing: it is complete.
    End,
    /// More must be read first.
    More,
}

/// Where in a chunked body the reader stands, and how much of what has a limit has come.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunks {
    limits: TrailerLimits,
    place: Place,
    extension: usize,
    /// How much of the trailers holds no end.
    searched: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before the first digit of a chunk's size.
    #[default]
    Size,
    /// Behind a digit.
    Digits { size: u64, digits: u8 },
    /// In an extension.
    Extension(u64),
    /// Behind the CR of the size's line.
    SizeEnd(u64),
    /// In the data.
    Data(u64),
    /// Behind the data.
    DataCr,
    /// Behind the CR after the data.
    DataLf,
    /// Behind the last chunk.
    Trailers,
    /// Behind the body.
    End,
}

impl Framing {
    /// A chunked body that starts.
    pub fn chunked(limits: TrailerLimits) -> Self {
        Framing::Chunked(Chunks { limits, place: Place::Size, extension: 0, searched: 0 })
    }

    /// Whether nothing more belongs to the body.
    pub fn is_complete(&self) -> bool {
        match self {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunks) => chunks.place == Place::End,
            Framing::UntilClose => false,
        }
    }

    /// How many bytes are left, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Framing::Length(left) => Some(*left),
            Framing::Chunked(chunks) if chunks.place == Place::End => Some(0),
            Framing::Chunked(_) | Framing::UntilClose => None,
        }
    }

    /// How many bytes may come, for the size of a buffer.
    pub fn expected(&self) -> u64 {
        match self {
            Framing::Length(left) => *left,
            Framing::Chunked(Chunks { place: Place::Data(left), .. }) => *left,
            Framing::Chunked(_) => 0,
            Framing::UntilClose => u64::MAX,
        }
    }

    /// Takes the next piece of the body from the start of `ahead`.
    ///
    /// # Errors
    /// A chunk is malformed.
    pub fn next(&mut self, ahead: &mut BytesMut) -> Result<Piece, Broken> {
        match self {
            Framing::Length(0) => Ok(Piece::End),
            Framing::Length(left) => Ok(take(ahead, left)),
            Framing::Chunked(chunks) => chunks.next(ahead),
            Framing::UntilClose => Ok(take(ahead, &mut { u64::MAX })),
        }
    }
}

/// Takes up to `left` bytes, which it counts down.
fn take(ahead: &mut BytesMut, left: &mut u64) -> Piece {
    if ahead.is_empty() {
        return Piece::More;
    }
    let taken = (ahead.len() as u64).min(*left);
    *left -= taken;
    Piece::Data(ahead.split_to(taken as usize).freeze())
}

impl Chunks {
    fn next(&mut self, ahead: &mut BytesMut) -> Result<Piece, Broken> {
        self.skip_framing(ahead)?;
        match self.place {
            Place::End => Ok(Piece::End),
            Place::Trailers => self.trailers(ahead),
            Place::Data(mut left) => {
                let piece = take(ahead, &mut left);
                self.place = if left == 0 { Place::DataCr } else { Place::Data(left) };
                // So that the end is known with the last data, if it has come too.
                self.skip_framing(ahead)?;
                if self.place == Place::Trailers && ahead.starts_with(b"\r\n") {
                    self.trailers(ahead)?;
                }
                Ok(piece)
            }
            _ => Ok(Piece::More),
        }
    }

    /// Goes on to the next data, or to what stands behind the last chunk.
    fn skip_framing(&mut self, ahead: &mut BytesMut) -> Result<(), Broken> {
        let mut at = 0;
        while !matches!(self.place, Place::Data(_) | Place::Trailers | Place::End)
            && let Some(byte) = ahead.get(at)
        {
            self.place = self.step(*byte)?;
            at += 1;
        }
        ahead.advance(at);
        Ok(())
    }

    /// The place behind one byte of framing.
    fn step(&mut self, byte: u8) -> Result<Place, Broken> {
        let digit = (byte as char).to_digit(16).map(u64::from);
        match (self.place, byte) {
            (Place::Size, _) => {
                digit.map(|size| Place::Digits { size, digits: 1 }).ok_or(Broken::Malformed)
            }
            (Place::Digits { size, .. } | Place::Extension(size), b'\r') => {
                Ok(Place::SizeEnd(size))
            }
            (Place::Digits { size, .. }, b';') => Ok(Place::Extension(size)),
            (Place::Digits { size, digits }, _) if digits < 16 => {
                let size = digit.map(|digit| size << 4 | digit).ok_or(Broken::Malformed)?;
                Ok(Place::Digits { size, digits: digits + 1 })
            }
            (Place::Extension(size), _) if !is_control(byte) && self.extension < MOST_EXTENSION => {
                self.extension += 1;
                Ok(Place::Extension(size))
            }
            (Place::SizeEnd(0), b'\n') => Ok(Place::Trailers),
            (Place::SizeEnd(size), b'\n') => Ok(Place::Data(size)),
            (Place::DataCr, b'\r') => Ok(Place::DataLf),
            (Place::DataLf, b'\n') => Ok(Place::Size),
            _ => Err(Broken::Malformed),
        }
    }

    /// What stands behind the last chunk: an empty line, with trailers in front or without.
    fn trailers(&mut self, ahead: &mut BytesMut) -> Result<Piece, Broken> {
        match &ahead[..] {
            [b'\r', b'\n', ..] => {
                ahead.advance(2);
                self.place = Place::End;
                return Ok(Piece::End);
            }
            [] | [b'\r'] => return Ok(Piece::More),
            [b'\r' | b'\n', ..] => return Err(Broken::Malformed),
            _ => {}
        }
        match fields::search(ahead, self.searched) {
            Search::End(length) if length <= self.limits.bytes => {
                let section = ahead.split_to(length).freeze();
                self.place = Place::End;
                match fields::trailers(&section, self.limits.fields) {
                    Ok(trailers) => Ok(Piece::Trailers(trailers)),
                    Err(BadField::TooMany) => Err(Broken::TooLarge),
                    Err(_) => Err(Broken::Malformed),
                }
            }
            Search::More if ahead.len() <= self.limits.bytes => {
                self.searched = ahead.len();
                Ok(Piece::More)
            }
            Search::BareLineFeed => Err(Broken::Malformed),
            Search::End(_) | Search::More => Err(Broken::TooLarge),
        }
    }
}

/// A control character other than the tab.
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TrailerLimits = TrailerLimits { bytes: 100, fields: 2 };

    /// What a body comes to: its data, its trailers, and what follows it; none while it is not complete.
    type Whole = Option<(String, Option<String>, usize)>;

    fn read(
        framing: &mut Framing,
        ahead: &mut BytesMut,
        whole: &mut (String, Option<String>),
    ) -> Result<bool, Broken> {
        loop {
            match framing.next(ahead)? {
                Piece::Data(data) => whole.0.push_str(std::str::from_utf8(&data).unwrap()),
                Piece::Trailers(map) => whole.1 = Some(format!("{map:?}")),
                Piece::End => return Ok(true),
                Piece::More => return Ok(false),
            }
        }
    }

    /// Reads a body in pieces of every size; all must agree.
    fn chunked(text: &str) -> Result<Whole, Broken> {
        let mut results = Vec::new();
        for step in 1..=text.len() {
            let (mut framing, mut ahead) = (Framing::chunked(LIMITS), BytesMut::new());
            let mut whole = (String::new(), None);
            let mut ended = Ok(false);
            for piece in text.as_bytes().chunks(step) {
                ahead.extend_from_slice(piece);
                if ended == Ok(false) {
                    ended = read(&mut framing, &mut ahead, &mut whole);
                }
            }
            assert_eq!(ended == Ok(true), framing.is_complete() && ended.is_ok(), "{text:?}");
            results.push(ended.map(|ended| ended.then_some((whole.0, whole.1, ahead.len()))));
        }
        results.dedup();
        assert_eq!(results.len(), 1, "{text:?}: {results:?}");
        results.pop().unwrap()
    }

    #[test]
    fn chunks_end_behind_the_trailers() {
        let whole = |data: &str, trailers: Option<&str>, rest| {
            Ok(Some((data.to_owned(), trailers.map(str::to_owned), rest)))
        };
        assert_eq!(chunked("3\r\nabc\r\n0\r\n\r\n"), whole("abc", None, 0));
        assert_eq!(
            chunked("01;ext=1\r\nx\r\n0\r\nx-t: 1\r\nX-u:2\r\n\r\nGET"),
            whole("x", Some(r#"{"x-t": "1", "x-u": "2"}"#), 3)
        );
        assert_eq!(chunked("0\r\n\r\nGET"), whole("", None, 3));
        assert_eq!(chunked("a\r\n12345"), Ok(None));
        assert_eq!(chunked("0\r\nx: 1\r\n"), Ok(None));
    }

    #[test]
    fn odd_chunks_are_broken() {
        for text in [
            "-1\r\n",
            "0x1\r\n",
            "1_0\r\n",
            "\r\n",
            " 1\r\n",
            "1 \r\n",
            "FFFFFFFFFFFFFFFF1\r\n",
            "1\nx",
            "1;a\nb\r\n",
            "1\r\nxx\r\n",
            "1\r\nx\n",
            "0\r\nx: 1\n",
            "0\r\nx\r\n\r\n",
            "0\r\n\n",
        ] {
            assert_eq!(chunked(text), Err(Broken::Malformed), "{text:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_limited() {
        for (text, broken) in [
            (format!("1;{}", "e".repeat(20_000)), Broken::Malformed),
            (format!("0\r\n{}", "t".repeat(101)), Broken::TooLarge),
            (format!("0\r\nt: {}\r\n\r\n", "t".repeat(100)), Broken::TooLarge),
            ("0\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n".to_owned(), Broken::TooLarge),
        ] {
            let mut body = Framing::chunked(LIMITS);
            assert_eq!(body.next(&mut BytesMut::from(text.as_bytes())), Err(broken), "{text}");
        }
    }

    #[test]
    fn the_end_is_known_with_the_last_data() {
        let mut body = Framing::chunked(LIMITS);
        let mut ahead = BytesMut::from(&b"3\r\nabc\r\n0\r\n\r\nGET"[..]);
        assert_eq!(body.next(&mut ahead), Ok(Piece::Data(Bytes::from_static(b"abc"))));
        assert!(body.is_complete() && &ahead[..] == b"GET");
    }

    #[test]
    fn a_length_leaves_what_follows() {
        let mut body = Framing::Length(3);
        let mut ahead = BytesMut::from(&b"abcd"[..]);
        assert_eq!(body.next(&mut ahead), Ok(Piece::Data(Bytes::from_static(b"abc"))));
        assert_eq!((body.next(&mut ahead), &ahead[..]), (Ok(Piece::End), &b"d"[..]));
    }
}
