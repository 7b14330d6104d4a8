//! `x-request-id`: a random UUID (RFC 9562 version 4) whose 15th character tells the tracing decision.

use http::HeaderValue;

/// The two hexadecimal digits of every byte.
static DIGITS: [[u8; 2]; 256] = {
    let hex = b"0123456789abcdef";
    let mut digits = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        digits[byte] = [hex[byte >> 4], hex[byte & 0xF]];
        byte += 1;
    }
    digits
};

/// Where the digits of each byte stand in the text.
const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// A new request id.
pub fn generate() -> HeaderValue {
    let mut bytes = fastrand::u128(..).to_ne_bytes();
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let mut text = [b'-'; 36];
    for (byte, at) in bytes.into_iter().zip(PLACES) {
        text[at..at + 2].copy_from_slice(&DIGITS[usize::from(byte)]);
    }
    let mut id = HeaderValue::from_bytes(&text)
        .expect("hexadecimal digits and dashes are legal in a header");
    // HTTP/2 would put a value that never comes again into its table of headers, and push others out.
    id.set_sensitive(true);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_version_4_uuid() {
        let id = generate();
        let id = id.to_str().expect("ASCII");
        let dashes: Vec<_> = id.match_indices('-').map(|(at, _)| at).collect();
        assert_eq!((id.len(), dashes), (36, vec![8, 13, 18, 23]));
        assert_eq!(&id[14..15], "4", "{id}");
        assert!("89ab".contains(&id[19..20]), "{id}");
        assert_ne!(id, generate().to_str().expect("ASCII"));
    }
}
