//! Certificates in the forms that logs and headers have them in.

use std::fmt::Write;

use aws_lc_rs::digest::{Algorithm, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A certificate in PEM, with what PEM has and a URL may not have escaped.
pub fn url_encoded_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    for (i, letter) in text.chars().enumerate() {
        if i > 0 && i % 64 == 0 {
            out.push_str("%0A");
        }
        match letter {
            '+' => out.push_str("%2B"),
            '/' => out.push_str("%2F"),
            '=' => out.push_str("%3D"),
            other => out.push(other),
        }
    }
    out.push_str("%0A-----END%20CERTIFICATE-----%0A");
    out
}

/// The digest of a certificate in lower-case hexadecimal digits.
pub fn fingerprint(algorithm: &'static Algorithm, der: &[u8]) -> String {
    let mut out = String::new();
    for byte in digest(algorithm, der).as_ref() {
        // Writing to a text cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_64_letters_and_no_letter_of_a_url() {
        assert_eq!(
            url_encoded_pem(&[0xff; 49]),
            format!(
                "-----BEGIN%20CERTIFICATE-----%0A{}%0A%2Fw%3D%3D%0A-----END%20CERTIFICATE-----%0A",
                "%2F".repeat(64)
            )
        );
    }
}
