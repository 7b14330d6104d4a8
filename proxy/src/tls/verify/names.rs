//! Matching the names of a certificate, as Envoy does.

use std::fmt::Write;

use rustls_pki_types::CertificateDer;

use super::{Failure, Rule};
use crate::config::matcher::{StringMatcher, StringPattern};
use crate::config::tls::{SanKind, SanMatcher};
use crate::tls::certificate::{Names, Parsed};

/// Whether any matcher matches any name of its kind.
pub(super) fn any_matches(matchers: &[SanMatcher], names: &Names) -> bool {
    matchers.iter().any(|matcher| {
        let mut presented = names.of(matcher.kind).iter().filter(|name| is_whole(name));
        match (matcher.kind, &matcher.matcher.pattern) {
            (SanKind::OtherName, _) => {
                let mut texts = names.other(&matcher.oid).filter(|text| is_whole(text));
                texts.any(|text| matcher.matcher.matches(text))
            }
            (SanKind::Dns, StringPattern::Exact(wanted)) => {
                presented.any(|name| dns_matches(wanted, name))
            }
            _ => presented.any(|name| matcher.matcher.matches(name)),
        }
    })
}

/// A name with a NUL in it is cut there by some readers, and so never the name that it seems to be.
fn is_whole(name: &str) -> bool {
    !name.contains('\0')
}

/// Whether a name of a certificate, perhaps with a wildcard in its first label, is for this host name.
pub fn dns_matches(host: &str, presented: &str) -> bool {
    if host.eq_ignore_ascii_case(presented) {
        return true;
    }
    let (Some((label, domain)), Some((pattern, parent))) =
        (host.split_once('.'), presented.split_once('.'))
    else {
        return false;
    };
    let is_ace = pattern.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--"));
    !parent.contains('*')
        && !is_ace
        && domain.eq_ignore_ascii_case(parent)
        && label_matches(&label.to_ascii_lowercase(), &pattern.to_ascii_lowercase())
}

/// `*` alone, or once among other letters, stands for any part of a label.
fn label_matches(label: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        Some(("", "")) => true,
        Some((start, end)) if !end.contains('*') => {
            label.len() >= start.len() + end.len()
                && label.starts_with(start)
                && label.ends_with(end)
        }
        _ => false,
    }
}

/// Checks that a leaf is for a name that follows from the connection: the SNI that was sent, or the request's host.
///
/// # Errors
/// It is for other names.
pub fn check_name(leaf: &CertificateDer<'_>, wanted: &str) -> Result<(), Failure> {
    let parsed = Parsed::new(leaf)
        .ok_or_else(|| Failure::new(Rule::Chain, "the leaf is no X.509 certificate"))?;
    let names = parsed.names();
    let is_for = names
        .of(SanKind::Dns)
        .iter()
        .any(|name| is_whole(name) && dns_matches(wanted, name))
        || names.of(SanKind::Ip).iter().chain(names.of(SanKind::Uri)).any(|name| **name == *wanted);
    if is_for {
        return Ok(());
    }
    let why = format!("verify SAN list: expected {wanted:?}");
    Err(Failure::new(Rule::Names, why).of(&parsed))
}

/// Appends what the matchers expect.
pub(super) fn describe(matchers: &[SanMatcher], out: &mut String) {
    for (i, matcher) in matchers.iter().enumerate() {
        let separator = if i == 0 { "" } else { " or " };
        let (how, what) = pattern(&matcher.matcher);
        // Writing to a text cannot fail.
        let _ = write!(out, "{separator}{} {how} {what:?}", matcher.kind.as_str());
    }
}

fn pattern(matcher: &StringMatcher) -> (&'static str, &str) {
    match &matcher.pattern {
        StringPattern::Exact(text) => ("exact", text),
        StringPattern::Prefix(text) => ("prefix", text),
        StringPattern::Suffix(text) => ("suffix", text),
        StringPattern::Contains(text) => ("containing", text),
        StringPattern::Regex(regex) => ("matching", regex.0.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_one_label() {
        for (host, presented, expected) in [
            ("a.test", "a.test", true),
            ("A.Test", "a.tesT", true),
            ("a.b.test", "*.b.test", true),
            ("a.b.test", "*.test", false),
            ("b.test", "*.b.test", false),
            ("web1.test", "web*.test", true),
            ("web.test", "web*.test", true),
            ("we.test", "web*.test", false),
            ("aba.test", "ab*ba.test", false),
            ("a.test", "*", false),
            ("test", "*", false),
            ("a.test", "**.test", false),
            ("a.b.test", "*.*.test", false),
            ("xn--a.test", "xn--*.test", false),
            ("a.test", "a.test.evil", false),
            ("", "", true),
        ] {
            assert_eq!(dns_matches(host, presented), expected, "{host} {presented}");
        }
    }
}
