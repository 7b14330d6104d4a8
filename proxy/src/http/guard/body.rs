//! Where a request's body ends.

/// How many bytes of chunk extensions one body may have; nobody reads them.
const MOST_EXTENSION: usize = 16 * 1024;

/// How many bytes of trailers one body may have.
const MOST_TRAILERS: usize = 64 * 1024;

/// A body on its way in.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes are left.
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked(Chunks),
}

/// The framing of a chunked body is malformed.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

/// Where in a chunked body the reader stands, and how much of what has a limit has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    place: Place,
    extension: usize,
    trailers: usize,
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
    /// At the start of a trailer, or of the empty line that ends the body.
    Trailer,
    /// In a trailer.
    InTrailer,
    /// Behind a trailer's CR.
    TrailerLf,
    /// Behind the CR of the empty line.
    EndLf,
    /// Behind the body.
    End,
}

impl Body {
    /// Whether nothing more belongs to the body.
    pub fn is_complete(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunked(chunks) => chunks.place == Place::End,
        }
    }

    /// Takes what belongs to the body from the start of `bytes`; returns how much that is.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        match self {
            Body::Length(left) => {
                let taken = (bytes.len() as u64).min(*left);
                *left -= taken;
                Ok(taken as usize)
            }
            Body::Chunked(chunks) => chunks.feed(bytes),
        }
    }
}

impl Chunks {
    fn feed(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut at = 0;
        while at < bytes.len() && self.place != Place::End {
            if let Place::Data(left) = self.place {
                let taken = ((bytes.len() - at) as u64).min(left);
                at += taken as usize;
                self.place = if taken == left { Place::DataCr } else { Place::Data(left - taken) };
                continue;
            }
            self.place = self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// The place behind one byte of framing.
    fn step(&mut self, byte: u8) -> Result<Place, Broken> {
        let digit = (byte as char).to_digit(16).map(u64::from);
        match (self.place, byte) {
            (Place::Size, _) => digit.map(|size| Place::Digits { size, digits: 1 }).ok_or(Broken),
            (Place::Digits { size, .. } | Place::Extension(size), b'\r') => {
                Ok(Place::SizeEnd(size))
            }
            (Place::Digits { size, .. }, b';') => Ok(Place::Extension(size)),
            (Place::Digits { size, digits }, _) if digits < 16 => {
                let size = digit.map(|digit| size << 4 | digit).ok_or(Broken)?;
                Ok(Place::Digits { size, digits: digits + 1 })
            }
            (Place::Extension(size), _) if !is_control(byte) && self.extension < MOST_EXTENSION => {
                self.extension += 1;
                Ok(Place::Extension(size))
            }
            (Place::SizeEnd(0), b'\n') => Ok(Place::Trailer),
            (Place::SizeEnd(size), b'\n') => Ok(Place::Data(size)),
            (Place::DataCr, b'\r') => Ok(Place::DataLf),
            (Place::DataLf, b'\n') => Ok(Place::Size),
            (Place::Trailer, b'\r') => Ok(Place::EndLf),
            (Place::InTrailer, b'\r') => Ok(Place::TrailerLf),
            (Place::Trailer | Place::InTrailer, _)
                if !is_control(byte) && self.trailers < MOST_TRAILERS =>
            {
                self.trailers += 1;
                Ok(Place::InTrailer)
            }
            (Place::TrailerLf, b'\n') => Ok(Place::Trailer),
            (Place::EndLf, b'\n') => Ok(Place::End),
            _ => Err(Broken),
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

    /// Feeds a body in pieces of every size; all must agree.
    fn feed(text: &str) -> Result<(usize, bool), Broken> {
        let mut results = Vec::new();
        for step in 1..=text.len() {
            let mut body = Body::Chunked(Chunks::default());
            let mut taken = Ok(0);
            for piece in text.as_bytes().chunks(step) {
                taken = taken.and_then(|before| Ok(before + body.feed(piece)?));
            }
            results.push(taken.map(|taken| (taken, body.is_complete())));
        }
        results.dedup();
        assert_eq!(results.len(), 1, "{text:?}: {results:?}");
        results.pop().unwrap()
    }

    #[test]
    fn chunks_end_behind_the_trailers() {
        assert_eq!(feed("3\r\nabc\r\n0\r\n\r\n"), Ok((13, true)));
        assert_eq!(feed("01;ext=1\r\nx\r\n0\r\nx-t: 1\r\n\r\n"), Ok((26, true)));
        assert_eq!(feed("0\r\n\r\nGET"), Ok((5, true)));
        assert_eq!(feed("a\r\n12345"), Ok((8, false)));
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
        ] {
            assert_eq!(feed(text), Err(Broken), "{text:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_limited() {
        for text in [format!("1;{}", "e".repeat(20_000)), format!("0\r\n{}", "t".repeat(70_000))] {
            let mut body = Body::Chunked(Chunks::default());
            assert_eq!(body.feed(text.as_bytes()), Err(Broken));
        }
    }
}
