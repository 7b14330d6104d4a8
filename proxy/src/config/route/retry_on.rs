//! What is retried: the words of `retry_on` and of the headers that ask for retries.

use std::ops::BitOr;

/// A set of conditions under which an attempt is repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

macro_rules! conditions {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $text:literal;)*) => {
        impl RetryOn {
            $($(#[$doc])* pub const $name: RetryOn = RetryOn(1 << $bit);)*

            /// Every condition with the word for it.
            const WORDS: &'static [(RetryOn, &'static str)] = &[$((RetryOn::$name, $text)),*];
        }
    };
}

conditions! {
    /// A status of 500 or above, or no response at all.
    SERVER_ERROR = 0, "5xx";
    /// The status 502, 503 or 504, or no response at all.
    GATEWAY_ERROR = 1, "gateway-error";
    /// No response, whatever the reason.
    RESET = 2, "reset";
    /// No response, and nothing of the request has been sent in any attempt.
    RESET_BEFORE_REQUEST = 3, "reset-before-request";
    /// No connection.
    CONNECT_FAILURE = 4, "connect-failure";
    /// A response with `x-envoy-ratelimited`.
    RATE_LIMITED = 5, "envoy-ratelimited";
    /// The status 409.
    RETRIABLE_4XX = 6, "retriable-4xx";
    /// The host refused the stream unprocessed.
    REFUSED_STREAM = 7, "refused-stream";
    /// A status of `retriable_status_codes`.
    STATUS_CODES = 8, "retriable-status-codes";
    /// A response that matches `retriable_headers`.
    HEADERS = 9, "retriable-headers";
    /// gRPC status 1 in the response's headers.
    CANCELLED = 16, "cancelled";
    /// gRPC status 4 in the response's headers.
    DEADLINE_EXCEEDED = 17, "deadline-exceeded";
    /// gRPC status 13 in the response's headers.
    INTERNAL = 18, "internal";
    /// gRPC status 8 in the response's headers.
    RESOURCE_EXHAUSTED = 19, "resource-exhausted";
    /// gRPC status 14 in the response's headers.
    UNAVAILABLE = 20, "unavailable";
}

impl RetryOn {
    /// The conditions about gRPC.
    pub const GRPC: RetryOn = RetryOn(0b1_1111 << 16);

    /// Words with commas between them, as in `retry_on`, which mixes those for HTTP and for gRPC. Words that nobody
    /// knows mean nothing, as in Envoy.
    pub fn parse(text: &str) -> RetryOn {
        let words = text.split(',').map(str::trim);
        words.fold(RetryOn::default(), |all, word| all | RetryOn::of_word(word))
    }

    /// As [`parse`](Self::parse), of `x-envoy-retry-on`: only words for HTTP count.
    pub fn parse_http(text: &str) -> RetryOn {
        RetryOn(RetryOn::parse(text).0 & !RetryOn::GRPC.0)
    }

    /// As [`parse`](Self::parse), of `x-envoy-retry-grpc-on`: only words for gRPC count.
    pub fn parse_grpc(text: &str) -> RetryOn {
        RetryOn(RetryOn::parse(text).0 & RetryOn::GRPC.0)
    }

    fn of_word(word: &str) -> RetryOn {
        let known = RetryOn::WORDS.iter().find(|(_, text)| *text == word);
        known.map_or(RetryOn::default(), |(condition, _)| *condition)
    }

    /// Whether any of `conditions` is in the set.
    pub fn has(self, conditions: RetryOn) -> bool {
        self.0 & conditions.0 != 0
    }

    /// Whether nothing is retried.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The condition about a gRPC status; none where there is none.
    pub fn of_grpc_status(status: u32) -> RetryOn {
        match status {
            1 => RetryOn::CANCELLED,
            4 => RetryOn::DEADLINE_EXCEEDED,
            8 => RetryOn::RESOURCE_EXHAUSTED,
            13 => RetryOn::INTERNAL,
            14 => RetryOn::UNAVAILABLE,
            _ => RetryOn::default(),
        }
    }
}

impl BitOr for RetryOn {
    type Output = RetryOn;
    fn bitor(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_istios_default_policy_are_known() {
        let text = "connect-failure,refused-stream, unavailable,cancelled,retriable-status-codes";
        let expected = RetryOn::CONNECT_FAILURE
            | RetryOn::REFUSED_STREAM
            | RetryOn::UNAVAILABLE
            | RetryOn::CANCELLED
            | RetryOn::STATUS_CODES;
        assert_eq!(RetryOn::parse(text), expected);
        assert!(RetryOn::parse("nonsense,,http3-post-connect-failure").is_empty());
    }

    #[test]
    fn each_header_knows_its_own_words() {
        assert_eq!(RetryOn::parse_http("5xx,internal"), RetryOn::SERVER_ERROR);
        assert_eq!(RetryOn::parse_grpc("5xx,internal"), RetryOn::INTERNAL);
        assert!(RetryOn::parse("cancelled").has(RetryOn::GRPC));
        assert_eq!(RetryOn::of_grpc_status(14), RetryOn::UNAVAILABLE);
        assert!(RetryOn::of_grpc_status(0).is_empty());
    }
}
