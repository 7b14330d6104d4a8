//! Whole numbers as header values.

use std::cell::RefCell;

use http::HeaderValue;

const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

thread_local! {
    /// The last number and its value: a timeout is the same for most requests.
    static LAST: RefCell<(u64, HeaderValue)> =
        const { RefCell::new((0, HeaderValue::from_static("0"))) };
}

/// The number in decimal digits.
pub fn value(number: u64) -> HeaderValue {
    let digit = usize::try_from(number).ok().and_then(|number| DIGITS.get(number));
    if let Some(digit) = digit {
        return HeaderValue::from_static(digit);
    }
    LAST.with_borrow_mut(|last| {
        if last.0 != number {
            *last = (number, HeaderValue::from(number));
        }
        last.1.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_out() {
        for number in [0, 9, 10, 15_000, 15_000, 10, u64::MAX] {
            assert_eq!(value(number), number.to_string());
        }
    }
}
