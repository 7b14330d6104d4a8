//! Which bytes may stand in the parts of a head.

/// No white space, no list, no path: what may stand in an authority (RFC 3986 §3.2).
pub fn valid_authority(host: &[u8]) -> bool {
    host.iter().all(|byte| IN_AUTHORITY[usize::from(*byte)])
}

/// Whether this is a token (RFC 9110 §5.6.2): the name of a field, or a method.
pub fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| IN_TOKEN[usize::from(*byte)])
}

/// Whether every byte may stand in a request's target: visible characters without `#`, which would cut a fragment off, and
/// without what the `http` crate has no URI for.
pub fn is_in_target(target: &[u8]) -> bool {
    target.iter().all(|byte| IN_TARGET[usize::from(*byte)])
}

/// Which bytes belong to a set.
type Bytes = [bool; 256];

static IN_TOKEN: Bytes = alphanumeric_and(b"!#$%&'*+-.^_`|~");
static IN_AUTHORITY: Bytes = alphanumeric_and(b"-._~!$&'()*+;=:[]%@");
static IN_TARGET: Bytes = alphanumeric_and(b"!\"$%&'()*+,-./:;=?@[\\]^_{|}~");

const fn alphanumeric_and(others: &[u8]) -> Bytes {
    let mut set = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        set[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < others.len() {
        set[others[index] as usize] = true;
        index += 1;
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_visible_characters_without_four() {
        let in_target = |byte: u8| byte.is_ascii_graphic() && !b"<>`#".contains(&byte);
        assert!((0..=255).all(|byte| IN_TARGET[usize::from(byte)] == in_target(byte)));
    }
}
