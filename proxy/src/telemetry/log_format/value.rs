//! What an operator yields, and how it stands in text and in JSON.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::time::TimeFormat;
use crate::io::Address;
use crate::telemetry::response_flags::ResponseFlags;

/// The value of an operator, borrowed from the stream's facts.
pub(super) enum Value<'a> {
    /// There is none.
    Missing,
    /// Text.
    Text(&'a str),
    /// Text that was made for this line.
    Made(String),
    /// A header's value, which may be any bytes.
    Bytes(&'a [u8]),
    /// A number; stays one in JSON.
    Number(u64),
    /// An address with its port.
    Address(&'a Address),
    /// An address without its port.
    Ip(IpAddr),
    /// Response flags, in their long form if true.
    Flags(ResponseFlags, bool),
    /// A point in time.
    Time(SystemTime, &'a TimeFormat),
    /// Several texts, joined by commas.
    List(&'a [Box<str>]),
    /// A value of metadata; JSON in text too.
    Json(&'a serde_json::Value),
}

impl<'a> Value<'a> {
    /// The text, if there is one that is not empty.
    pub(super) fn text(text: Option<&'a str>) -> Self {
        text.filter(|text| !text.is_empty()).map_or(Value::Missing, Value::Text)
    }

    /// The number, if there is one.
    pub(super) fn number(number: Option<impl Into<u64>>) -> Self {
        number.map_or(Value::Missing, |number| Value::Number(number.into()))
    }

    /// The duration in milliseconds, if there is one.
    pub(super) fn millis(duration: Option<Duration>) -> Self {
        duration.map_or(Value::Missing, |duration| {
            Value::Number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
        })
    }

    /// The address with its port, if there is one.
    pub(super) fn address(address: Option<&'a Address>) -> Self {
        address.map_or(Value::Missing, Value::Address)
    }

    /// The address without its port, if there is one.
    pub(super) fn address_without_port(address: Option<&'a Address>) -> Self {
        match address {
            None => Value::Missing,
            Some(Address::Ip(address)) => Value::Ip(address.ip()),
            Some(pipe) => Value::Address(pipe),
        }
    }

    /// The port, if there is an address that has one.
    pub(super) fn port(address: Option<&Address>) -> Self {
        Value::number(address.and_then(Address::port))
    }

    /// Cuts a text after `limit` bytes.
    pub(super) fn cut(self, limit: Option<usize>) -> Self {
        let Some(limit) = limit else { return self };
        match self {
            Value::Text(text) => Value::Text(&text[..text.floor_char_boundary(limit)]),
            Value::Bytes(bytes) => Value::Bytes(&bytes[..bytes.len().min(limit)]),
            Value::Made(mut text) => {
                text.truncate(text.floor_char_boundary(limit));
                Value::Made(text)
            }
            other => other,
        }
    }

    /// Appends the value as text, `missing` if there is none.
    pub(super) fn write_text(&self, out: &mut Vec<u8>, missing: &str) {
        match self {
            Value::Missing => out.extend_from_slice(missing.as_bytes()),
            Value::Text(text) => out.extend_from_slice(text.as_bytes()),
            Value::Made(text) => out.extend_from_slice(text.as_bytes()),
            Value::Bytes(bytes) => out.extend_from_slice(bytes),
            Value::Number(number) => write_number(*number, out),
            Value::Address(address) => show(out, format_args!("{address}")),
            Value::Ip(ip) => show(out, format_args!("{ip}")),
            Value::Flags(flags, false) => show(out, format_args!("{flags}")),
            Value::Flags(flags, true) => show(out, format_args!("{}", flags.long())),
            Value::Time(time, format) => format.write(*time, out),
            Value::Json(value) => show(out, format_args!("{value}")),
            Value::List(texts) => {
                for (index, text) in texts.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
    }

    /// Appends the value as JSON: a number, a string or null.
    pub(super) fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Value::Missing => out.extend_from_slice(b"null"),
            Value::Number(number) => write_number(*number, out),
            Value::Json(value) => show(out, format_args!("{value}")),
            Value::Text(text) => write_json_string(text.as_bytes(), out),
            Value::Made(text) => write_json_string(text.as_bytes(), out),
            Value::Bytes(bytes) => write_json_string(bytes, out),
            Value::Ip(_) | Value::Flags(..) | Value::Address(Address::Ip(_)) => {
                out.push(b'"');
                self.write_text(out, "");
                out.push(b'"');
            }
            other => {
                let mut text = Vec::with_capacity(48);
                other.write_text(&mut text, "");
                write_json_string(&text, out);
            }
        }
    }
}

fn show(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("a vector takes every byte");
}

/// Appends a number in decimal digits.
fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// Appends bytes as a JSON string; what is no UTF-8 becomes the replacement character.
pub(super) fn write_json_string(bytes: &[u8], out: &mut Vec<u8>) {
    serde_json::to_writer(out, &String::from_utf8_lossy(bytes)).expect("a vector takes every byte");
}
