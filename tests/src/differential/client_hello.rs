//! A TLS ClientHello (RFC 8446, 4.1.2) good enough for a proxy that only looks at it.

use super::case::ClientHello;

/// The record that carries it.
pub fn record(hello: &ClientHello) -> Vec<u8> {
    let mut extensions = Vec::new();
    if let Some(name) = &hello.sni {
        let mut entry = vec![0];
        entry.extend(with_length16(name.as_bytes()));
        extensions.extend(extension(0, &with_length16(&entry)));
    }
    if !hello.alpn.is_empty() {
        let names: Vec<u8> =
            hello.alpn.iter().flat_map(|name| with_length8(name.as_bytes())).collect();
        extensions.extend(extension(16, &with_length16(&names)));
    }
    // supported_groups: x25519. BoringSSL takes no hello for TLS 1.2 that offers an ECDHE suite without it.
    extensions.extend(extension(10, &[0, 2, 0, 0x1d]));

    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(with_length16(&[0xc0, 0x2f]));
    body.extend(with_length8(&[0]));
    body.extend(with_length16(&extensions));

    let mut handshake = vec![1, 0];
    handshake.extend(with_length16(&body));
    let mut record = vec![22, 3, 1];
    record.extend(with_length16(&handshake));
    record
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &with_length16(data)].concat()
}

/// Names and lists in a case are short.
fn with_length16(data: &[u8]) -> Vec<u8> {
    [&(data.len() as u16).to_be_bytes()[..], data].concat()
}

fn with_length8(data: &[u8]) -> Vec<u8> {
    [&[data.len() as u8][..], data].concat()
}
