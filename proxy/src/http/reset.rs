//! Resets of the upstream's stream, in the words and flags of Envoy's access log.

use crate::telemetry::response_flags::ResponseFlags;
use crate::upstream::pool::ResetReason;

/// `%RESPONSE_CODE_DETAILS%`: whether the response had `started`, the reason, and what the transport said.
pub fn details(started: bool, reason: ResetReason, transport: Option<&str>) -> String {
    let when = if started { "after" } else { "before" };
    let mut details = format!("upstream_reset_{when}_response_started{{{reason}");
    if let Some(transport) = transport {
        details.push('|');
        details.push_str(transport);
    }
    details.push('}');
    details.replace(|c: char| c.is_ascii_whitespace(), "_")
}

/// `%RESPONSE_FLAGS%`
pub fn flag(reason: ResetReason) -> ResponseFlags {
    match reason {
        ResetReason::LocalConnectionFailure
        | ResetReason::RemoteConnectionFailure
        | ResetReason::ConnectionTimeout => ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
        ResetReason::ConnectionTermination => ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
        ResetReason::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
        ResetReason::RemoteReset | ResetReason::RemoteRefusedStreamReset => {
            ResponseFlags::UPSTREAM_REMOTE_RESET
        }
        ResetReason::ProtocolError => ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
        ResetReason::LocalReset => ResponseFlags::LOCAL_RESET,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_say_when_why_and_what_the_transport_said() {
        let refused = details(false, ResetReason::RemoteConnectionFailure, Some("no route"));
        let expected = "upstream_reset_before_response_started{remote_connection_failure|no_route}";
        assert_eq!(refused, expected);
        let broken = details(true, ResetReason::ProtocolError, None);
        assert_eq!(broken, "upstream_reset_after_response_started{protocol_error}");
    }
}
