//! Parsers of text.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Method};
use pillion::config::hcm::{EscapedSlashes, HttpConnectionManager};
use pillion::config::network_filter::NetworkFilter;
use pillion::http::path::{Normalized, normalize};
use pillion::http::router::timeouts::grpc_timeout as parse_grpc_timeout;
use pillion::io::Address;
use pillion::telemetry::log_format::{Format, FormatContext, RequestHead};
use pillion::telemetry::stream_info::{ConnectionInfo, Protocol, StreamInfo};
use proto::Registry;
use proto::envoy::config::listener::v3::Listener;

use super::Check;
use super::input::{one, text};
use super::resources::{LISTENER, translate_listener};

/// Whatever parses can be printed, for a stream that has next to nothing.
pub fn log_format() -> Check {
    const SAMPLES: &[&str] = &[
        "[%START_TIME(%Y/%m/%dT%H:%M:%S.%3f%z %s)%] \"%REQ(:METHOD)% %REQ(X-A?:PATH):10%\" %RESP(x)% %TRAILER(y):3%",
        "%RESPONSE_FLAGS% %RESPONSE_CODE% %DURATION% %UPSTREAM_HOST% %PROTOCOL% %BYTES_SENT% 100%% %GRPC_STATUS(CAMEL_STRING)%",
        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_PEER_URI_SAN% %DYNAMIC_METADATA(a:b:c):4% %FILTER_STATE(x:PLAIN)%",
        "%COMMON_DURATION(DS_RX_BEG:US_TX_END:ms)% %HOSTNAME% %ENVIRONMENT(PATH):1% %UPSTREAM_METADATA([\"a\",\"b\"])%",
    ];
    const WORDS: &[&str] =
        &["%", "%%", "(", ")", ":", "?", "%f", "%E*S", "):", ":99999999999", "REQ(", "é"];
    let request = RequestHead {
        method: Method::GET,
        scheme: "http".into(),
        authority: "é.test".into(),
        path: "/é?x".into(),
        headers: HeaderMap::from_iter([(
            "x-a".parse().expect("name"),
            HeaderValue::from_static("1"),
        )]),
    };
    let info = stream();
    Box::new(move |rng| {
        let input = text(rng, SAMPLES, WORDS);
        let Ok(format) = Format::parse(&input) else { return };
        let mut out = Vec::new();
        let request = rng.bool().then_some(&request);
        format.write(&FormatContext { request, ..context(&info) }, &mut out);
        std::hint::black_box(out);
    })
}

/// A stream that has just begun.
pub fn stream() -> StreamInfo {
    let address = || Address::Ip(([127, 0, 0, 1], 80).into());
    let connection = ConnectionInfo {
        transport_protocol: "raw_buffer",
        application_protocols: Vec::new(),
        filter_state: Default::default(),
        id: 1,
        remote: address(),
        direct_remote: address(),
        local: address(),
        direct_local: address(),
        local_restored: false,
        source: None,
        requested_server_name: None,
        filter_chain_name: Arc::from(""),
        tls: None,
        transport_failure: None,
        accepted: Instant::now(),
    };
    StreamInfo::new(Rc::new(connection), Some(Protocol::Http11))
}

/// A context that has the stream alone.
pub fn context(info: &StreamInfo) -> FormatContext<'_> {
    FormatContext { info, request: None, response: None, trailers: None, local_reply_body: None }
}

/// What was normalised is normal, and has no dot segment left.
pub fn path() -> Check {
    const SAMPLES: &[&str] =
        &["/a/b/../c?d=/../e", "//a///b/./c", "/a%2fb%5Cc%2E%2e/", "/%2e%2e/%00\\x", "*", ""];
    const WORDS: &[&str] =
        &["/", "//", "..", "/../", "/./", "%2f", "%5c", "%2e", "%", "?", "#", "\\", "%25"];
    let registry = Registry::load();
    let plain = connection_manager(&registry);
    Box::new(move |rng| {
        let config = HttpConnectionManager {
            normalize_path: rng.bool(),
            merge_slashes: rng.bool(),
            escaped_slashes: *one(
                rng,
                &[
                    EscapedSlashes::Keep,
                    EscapedSlashes::Reject,
                    EscapedSlashes::Redirect,
                    EscapedSlashes::Forward,
                ],
            ),
            ..plain.clone()
        };
        let input = text(rng, SAMPLES, WORDS);
        let (Normalized::Changed(normal) | Normalized::Redirect(normal)) =
            normalize(&input, &config)
        else {
            return;
        };
        assert_eq!(
            normalize(&normal, &config),
            Normalized::Unchanged,
            "{input:?} became {normal:?}"
        );
        let path = normal.split('?').next().unwrap_or_default();
        let climbs = path.split('/').any(|segment| segment == "..");
        assert!(!(config.normalize_path && climbs), "{input:?} became {normal:?}");
    })
}

fn connection_manager(registry: &Registry) -> HttpConnectionManager {
    let listener = registry.from_yaml::<Listener>(LISTENER).expect("the sample is good");
    let listener = translate_listener(&listener).expect("the sample is good");
    match listener.filter_chains[0].filters.last() {
        Some(NetworkFilter::Http(http)) => (**http).clone(),
        _ => panic!("the sample speaks HTTP"),
    }
}

/// No timeout is longer than eight digits of hours.
pub fn grpc_timeout() -> Check {
    Box::new(|rng| {
        let input =
            text(rng, &["10S", "99999999H", "1n", "00000000m", "5u"], &["9", "S", "-", "+", " "]);
        let Ok(value) = HeaderValue::from_bytes(input.as_bytes()) else { return };
        let headers = HeaderMap::from_iter([("grpc-timeout".parse().expect("name"), value)]);
        if let Some(timeout) = parse_grpc_timeout(&headers) {
            assert!(timeout.as_secs() <= 99_999_999 * 3600, "{input:?} is {timeout:?}");
        }
    })
}

/// A message that parses says the same when it is printed and parsed again.
pub fn yaml() -> Check {
    const WORDS: &[&str] = &[
        "{", "}", "[", "]", ": ", "- ", "&a ", "*a", "<<: ", "!!str ", "null", "'", "\"", "\n",
        "  ", "1e99",
    ];
    let registry = Registry::load();
    Box::new(move |rng| {
        let input = text(rng, &[LISTENER], WORDS);
        if let Ok(message) = registry.from_yaml::<Listener>(&input) {
            same_again(&registry, &message);
        }
    })
}

/// A message that parses says the same when it is printed and parsed again.
pub fn json() -> Check {
    const WORDS: &[&str] =
        &["{", "}", "[", "]", ":", ",", "null", "\"", "\\u0000", "1e99", "-1", "\"@type\":"];
    let registry = Registry::load();
    let message = registry.from_yaml::<Listener>(LISTENER).expect("the sample is good");
    let sample = registry.to_json(&message).to_string();
    Box::new(move |rng| {
        let input = text(rng, &[&sample], WORDS);
        if let Ok(message) = registry.from_json::<Listener>(&input) {
            same_again(&registry, &message);
        }
    })
}

fn same_again(registry: &Registry, message: &Listener) {
    let printed = registry.to_json(message);
    let again =
        registry.from_json::<Listener>(&printed.to_string()).expect("what was printed parses");
    assert_eq!(registry.to_json(&again), printed);
}
