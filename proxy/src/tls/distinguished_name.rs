//! Distinguished names as OpenSSL prints them with `XN_FLAG_RFC2253`.

use std::fmt::Write;

use x509_parser::asn1_rs::Tag;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Short names of attribute types, by OID.
const SHORT_NAMES: [(&str, &str); 18] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.46", "dnQualifier"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
];

/// The name, its last part first, separated by commas.
pub fn print(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (i, part) in parts.into_iter().rev().enumerate() {
        if i > 0 {
            out.push(',');
        }
        for (j, attribute) in part.iter().enumerate() {
            if j > 0 {
                out.push('+');
            }
            print_attribute(attribute, &mut out);
        }
    }
    out
}

fn print_attribute(attribute: &AttributeTypeAndValue<'_>, out: &mut String) {
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT_NAMES.iter().find(|(known, _)| *known == oid);
    out.push_str(short.map_or(&oid, |(_, short)| short));
    out.push('=');
    match text(attribute) {
        Some(value) if short.is_some() => escape(&value, out),
        // What has no name may be anything, and is shown as it is encoded.
        _ => {
            out.push('#');
            let value = attribute.attr_value();
            let header = [value.header.tag().0 as u8, value.data.len() as u8];
            for byte in header.iter().chain(value.data) {
                // Writing to a text cannot fail.
                let _ = write!(out, "{byte:02X}");
            }
        }
    }
}

/// The value as text, if it is of a kind of string.
fn text(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let value = attribute.attr_value();
    let data = value.data;
    match value.header.tag() {
        Tag::BmpString => {
            let units = data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            String::from_utf16(&units.collect::<Vec<u16>>()).ok()
        }
        Tag::T61String => Some(data.iter().map(|byte| char::from(*byte)).collect()),
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            String::from_utf8(data.to_vec()).ok()
        }
        _ => None,
    }
}

/// Escapes what has a meaning in a name (RFC 2253, section 2.4) and, as OpenSSL does, all that is not printable ASCII.
fn escape(value: &str, out: &mut String) {
    let last = value.len().saturating_sub(1);
    for (i, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'#' if i == 0 => out.push_str("\\#"),
            b' ' if i == 0 || i == last => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                // Writing to a text cannot fail.
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        for (value, expected) in [
            ("plain text", "plain text"),
            ("a,b+c\"d\\e<f>g;h", "a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h"),
            ("#a#", "\\#a#"),
            (" a ", "\\ a\\ "),
            ("é\n", "\\C3\\A9\\0A"),
        ] {
            let mut out = String::new();
            escape(value, &mut out);
            assert_eq!(out, expected);
        }
    }
}
