//! `x-request-id`: a random UUID (RFC 9562 version 4) whose 15th character tells the tracing decision.

use http::HeaderValue;

/// A new request id.
pub fn generate() -> HeaderValue {
    let mut bits = fastrand::u128(..);
    bits = bits & !(0xF << 76) | 0x4 << 76;
    bits = bits & !(0x3 << 62) | 0x2 << 62;
    let mut text = [0u8; 36];
    let mut nibble = 128;
    for (i, byte) in text.iter_mut().enumerate() {
        if matches!(i, 8 | 13 | 18 | 23) {
            *byte = b'-';
            continue;
        }
        nibble -= 4;
        *byte = b"0123456789abcdef"[(bits >> nibble) as usize & 0xF];
    }
    HeaderValue::from_bytes(&text).expect("hexadecimal digits and dashes are legal in a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_version_4_uuid() {
        let id = generate();
        let id = id.to_str().expect("ASCII");
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4", "{id}");
        assert!("89ab".contains(&id[19..20]), "{id}");
        assert_ne!(id, generate().to_str().expect("ASCII"));
    }
}
