//! Points in time as `strftime` text, in UTC, with Envoy's extensions for fractions of a second.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// What `%START_TIME%` prints without an argument: `2026-11-24T11:51:59.543Z`.
const DEFAULT: &str = "%Y-%m-%dT%H:%M:%E3SZ";

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A time format, parsed.
#[derive(Clone, Debug)]
pub(super) struct TimeFormat(Box<[Part]>);

#[derive(Clone, Debug)]
enum Part {
    Literal(Box<str>),
    /// A conversion of `strftime`.
    Field(char),
    /// `%3f`: the fraction of the second in so many digits.
    Fraction(u32),
    /// `%E3S`: the second with its fraction in so many digits.
    Second(u32),
    /// `%E*S`: the second with as many digits as it needs.
    FullSecond,
}

impl TimeFormat {
    /// Parses a format; none or an empty one is the default.
    pub(super) fn parse(text: Option<&str>) -> Result<TimeFormat, String> {
        let text = text.filter(|text| !text.is_empty()).unwrap_or(DEFAULT);
        if text.contains('\n') {
            return Err("the time format contains a newline".to_string());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(index) = rest.find('%') {
            push_literal(&rest[..index], &mut parts);
            let (part, length) = Part::read(&rest[index + 1..]).ok_or_else(|| {
                let shown: String = rest[index..].chars().take(4).collect();
                format!("the time format \"{text}\" has an unknown conversion at \"{shown}\"")
            })?;
            parts.push(part);
            rest = &rest[index + 1 + length..];
        }
        push_literal(rest, &mut parts);
        Ok(TimeFormat(parts.into()))
    }

    /// Appends the time; one before 1970 is printed as 1970.
    pub(super) fn write(&self, time: SystemTime, out: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let civil = Civil::new(since.as_secs());
        let nanos = since.subsec_nanos();
        for part in &self.0 {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Field(field) => civil.write(*field, out),
                Part::Fraction(digits) => write_fraction(nanos, *digits, out),
                Part::Second(digits) => {
                    civil.write('S', out);
                    out.push(b'.');
                    write_fraction(nanos, *digits, out);
                }
                Part::FullSecond => {
                    civil.write('S', out);
                    write_full_fraction(nanos, out);
                }
            }
        }
    }
}

fn push_literal(text: &str, parts: &mut Vec<Part>) {
    if !text.is_empty() {
        parts.push(Part::Literal(text.into()));
    }
}

impl Part {
    /// The conversion that `text` starts with, and its length.
    fn read(text: &str) -> Option<(Part, usize)> {
        let bytes = text.as_bytes();
        match *bytes.first()? {
            b'%' => Some((Part::Literal("%".into()), 1)),
            b'f' => Some((Part::Fraction(9), 1)),
            digit @ b'1'..=b'9' if bytes.get(1) == Some(&b'f') => {
                Some((Part::Fraction(u32::from(digit - b'0')), 2))
            }
            b'E' if bytes.get(2) == Some(&b'S') => match bytes[1] {
                b'*' => Some((Part::FullSecond, 3)),
                digit @ b'1'..=b'9' => Some((Part::Second(u32::from(digit - b'0')), 3)),
                _ => None,
            },
            field if b"aAbBcCdDeFhHIjklmMpPrRsSTuUwyYzZ".contains(&field) => {
                Some((Part::Field(char::from(field)), 1))
            }
            _ => None,
        }
    }
}

fn write_fraction(nanos: u32, digits: u32, out: &mut Vec<u8>) {
    put(out, u64::from(nanos / 10u32.pow(9 - digits)), digits as usize);
}

fn write_full_fraction(nanos: u32, out: &mut Vec<u8>) {
    if nanos == 0 {
        return;
    }
    out.push(b'.');
    write_fraction(nanos, 9, out);
    while out.ends_with(b"0") {
        out.pop();
    }
}

/// Appends a number with leading zeros.
fn put(out: &mut Vec<u8>, number: u64, width: usize) {
    write!(out, "{number:0width$}").expect("a vector takes every byte");
}

/// A moment in UTC, in calendar fields.
struct Civil {
    epoch: u64,
    year: u64,
    /// 0 to 11
    month: u64,
    /// 1 to 31
    day: u64,
    /// 0 to 365
    day_of_year: u64,
    /// 0 is Sunday.
    weekday: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Civil {
    fn new(epoch: u64) -> Civil {
        let days = epoch / 86_400;
        let (year, month, day) = date(days);
        let leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month as usize];
        Civil {
            epoch,
            year,
            month,
            day,
            day_of_year: before + day - 1 + u64::from(leap && month > 1),
            weekday: (days + 4) % 7,
            hour: epoch / 3600 % 24,
            minute: epoch / 60 % 60,
            second: epoch % 60,
        }
    }

    /// Appends one conversion of `strftime` in the C locale.
    fn write(&self, field: char, out: &mut Vec<u8>) {
        let day_name = DAYS[self.weekday as usize];
        let month_name = MONTHS[self.month as usize];
        let hour12 = (self.hour + 11) % 12 + 1;
        match field {
            'Y' => put(out, self.year, 1),
            'C' => put(out, self.year / 100, 2),
            'y' => put(out, self.year % 100, 2),
            'm' => put(out, self.month + 1, 2),
            'd' => put(out, self.day, 2),
            'H' => put(out, self.hour, 2),
            'I' => put(out, hour12, 2),
            'M' => put(out, self.minute, 2),
            'S' => put(out, self.second, 2),
            'j' => put(out, self.day_of_year + 1, 3),
            'U' => put(out, (self.day_of_year + 7 - self.weekday) / 7, 2),
            'u' => put(out, (self.weekday + 6) % 7 + 1, 1),
            'w' => put(out, self.weekday, 1),
            's' => put(out, self.epoch, 1),
            'e' => put_blank(out, self.day),
            'k' => put_blank(out, self.hour),
            'l' => put_blank(out, hour12),
            'a' => out.extend_from_slice(&day_name.as_bytes()[..3]),
            'A' => out.extend_from_slice(day_name.as_bytes()),
            'b' | 'h' => out.extend_from_slice(&month_name.as_bytes()[..3]),
            'B' => out.extend_from_slice(month_name.as_bytes()),
            'p' => out.extend_from_slice(if self.hour < 12 { b"AM" } else { b"PM" }),
            'P' => out.extend_from_slice(if self.hour < 12 { b"am" } else { b"pm" }),
            'z' => out.extend_from_slice(b"+0000"),
            'Z' => out.extend_from_slice(b"UTC"),
            'T' => self.write_all("H:M:S", out),
            'R' => self.write_all("H:M", out),
            'r' => self.write_all("I:M:S p", out),
            'D' => self.write_all("m/d/y", out),
            'F' => self.write_all("Y-m-d", out),
            'c' => self.write_all("a b e H:M:S Y", out),
            separator => out.push(separator as u8),
        }
    }

    /// Appends several conversions, with what stands between them.
    fn write_all(&self, fields: &str, out: &mut Vec<u8>) {
        for field in fields.chars() {
            self.write(field, out);
        }
    }
}

/// Appends a number in two columns, blank in front.
fn put_blank(out: &mut Vec<u8>, number: u64) {
    write!(out, "{number:2}").expect("a vector takes every byte");
}

/// Year, month (0 to 11) and day of the day so many days after 1970-01-01, in the proleptic Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that the leap day ends a year: eras of 400 years, years of 365 or 366 days, and
    // months whose lengths repeat every five (153 days).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = (shifted + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn format(text: &str, epoch: u64, nanos: u32) -> String {
        let mut out = Vec::new();
        let time = UNIX_EPOCH + Duration::new(epoch, nanos);
        TimeFormat::parse(Some(text)).unwrap().write(time, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// The right column is what Envoy 1.40 prints for the same moment.
    #[test]
    fn prints_what_envoy_prints() {
        let cases = [
            ("", "2026-11-24T11:51:59.543Z"),
            ("%s.%3f", "1795521119.543"),
            ("%Y/%m/%dT%H:%M:%S%z %s", "2026/11/24T11:51:59+0000 1795521119"),
            ("%E3S %E*S %6f %9f %f", "59.543 59.543927 543927 543927000 543927000"),
            ("%a %A %b %B %d %e %j %y", "Tue Tuesday Nov November 24 24 328 26"),
            ("%I %p %Z %T %D %F %R |%%|", "11 AM UTC 11:51:59 11/24/26 2026-11-24 11:51 |%|"),
        ];
        for (text, expected) in cases {
            assert_eq!(format(text, 1_795_521_119, 543_927_000), expected, "{text}");
        }
    }

    #[test]
    fn knows_leap_years_and_the_ends_of_years() {
        let cases = [
            (0, "1970-01-01 001 Thu"),
            (951_782_400, "2000-02-29 060 Tue"),
            (978_220_800, "2000-12-31 366 Sun"),
            (4_107_542_400, "2100-03-01 060 Mon"),
            (1_735_689_599, "2024-12-31 366 Tue"),
        ];
        for (epoch, expected) in cases {
            assert_eq!(format("%F %j %a", epoch, 0), expected);
        }
        assert_eq!(format("%E*S", 5, 0), "05");
    }

    #[test]
    fn refuses_unknown_conversions() {
        for text in ["%Q", "%", "%E", "%0f", "a\nb"] {
            assert!(TimeFormat::parse(Some(text)).is_err(), "{text}");
        }
    }
}
