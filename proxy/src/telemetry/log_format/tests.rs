//! What operators print, one row each, and what is refused.

use http::HeaderValue;

use super::*;

#[test]
fn the_default_line_is_envoys() {
    let sample = samples::http();
    let mut line = Vec::new();
    Format::default_text().write(&sample.context(), &mut line);
    let expected = "[2026-11-24T11:51:59.543Z] \"GET /old?a=1 HTTP/1.1\" 200 - 12 345 9 4 \"10.0.0.9\" \"curl\" \
\"id-1\" \"Host.example:80\" \"10.1.1.1:8080\"\n";
    assert_eq!(String::from_utf8(line).unwrap(), expected);

    let mut line = Vec::new();
    Format::default_text().write(&samples::tcp().context(), &mut line);
    let expected =
        "[1970-01-01T00:00:00.000Z] \"- - -\" 0 UH 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"-\"\n";
    assert_eq!(String::from_utf8(line).unwrap(), expected);
}

#[test]
fn operators_print_the_streams_facts() {
    let cases = [
        ("a%%b", "a%b"),
        ("%REQ(:method)% %REQ(:SCHEME)% %REQ(host)%", "GET http Host.example:80"),
        ("%REQ(x-no?user-agent)% %REQ(x-no)% [%REQ(x-empty)%]", "curl - []"),
        ("%REQ(USER-AGENT):2% %PATH(NQ:PATH):3%", "cu /ne"),
        ("%RESP(:STATUS)% %RESP(x-envoy-upstream-service-time)% %TRAILER(a)%", "200 4 -"),
        ("%PATH% %PATH(NQ)% %PATH(WQ:PATH)%", "/old?a=1 /old /new?a=%20b&c"),
        ("[%QUERY_PARAM(a)%] [%QUERY_PARAM(nope)%]", "[1] [-]"),
        ("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %PROTOCOL%", "200 via_upstream HTTP/1.1"),
        ("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%", "- -"),
        ("%BYTES_RECEIVED% %BYTES_SENT% %ROUTE_NAME% %VIRTUAL_HOST_NAME%", "12 345 toadmin v"),
        ("%DURATION% %REQUEST_DURATION% %REQUEST_TX_DURATION%", "9 1 2"),
        ("%RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "5 4"),
        ("%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%", "9500"),
        ("%COMMON_DURATION(US_TX_BEG:US_RX_BEG)% %COMMON_DURATION(US_CX_BEG:US_RX_BEG)%", "4 -"),
        ("%COMMON_DURATION(US_RX_BEG:US_TX_BEG:ns)% %COMMON_DURATION(a:b)%", "- -"),
        ("%CONNECTION_ID% %FILTER_CHAIN_NAME% %STREAM_ID%", "7 chain id-1"),
        ("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_PORT%", "10.0.0.1:1000 1000"),
        ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.2"),
        ("%DOWNSTREAM_LOCAL_ADDRESS%", "[2001:db8::1]:80"),
        ("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%", "2001:db8::1 80"),
        ("%DOWNSTREAM_DIRECT_LOCAL_ADDRESS% %DOWNSTREAM_DIRECT_LOCAL_PORT%", "/run/p.sock -"),
        (
            "%REQUESTED_SERVER_NAME% %REQUESTED_SERVER_NAME(HOST_FIRST)%",
            "sni.example Host.example:80",
        ),
        ("%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER%", "TLSv1.3 TLS_AES_128_GCM_SHA256"),
        ("%DOWNSTREAM_HANDSHAKE_DURATION% %DOWNSTREAM_TLS_SESSION_ID%", "4 -"),
        ("%DOWNSTREAM_PEER_SUBJECT% %DOWNSTREAM_PEER_ISSUER%", "CN=client CN=ca"),
        ("%DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_EMAIL_SAN%", "spiffe://a,spiffe://b -"),
        ("%DOWNSTREAM_PEER_SERIAL% %DOWNSTREAM_PEER_FINGERPRINT_256%", "0a 256f"),
        ("%DOWNSTREAM_PEER_CERT_V_START(%s)% %DOWNSTREAM_PEER_CERT_V_END(%F)%", "1 1970-01-02"),
        ("%UPSTREAM_PEER_CERT_V_END% %DOWNSTREAM_LOCAL_URI_SAN%", "- -"),
        ("%UPSTREAM_HOST% %UPSTREAM_REMOTE_PORT%", "10.1.1.1:8080 8080"),
        ("%UPSTREAM_HOST_NAME% %UPSTREAM_HOST_NAME_WITHOUT_PORT%", "up.example:8080 up.example"),
        ("%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %UPSTREAM_LOCAL_PORT%", "10.1.0.1 4000"),
        ("%UPSTREAM_CLUSTER% %UPSTREAM_PROTOCOL%", "backend HTTP/2"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_CONNECTION_ID%", "2 3"),
        ("%UPSTREAM_CONNECTION_POOL_READY_DURATION%", "0"),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON% %ROUNDTRIP_DURATION%", "- -"),
        ("%START_TIME(%s.%3f)%", "1795521119.543"),
        ("%START_TIME((%Y) %m)% x)", "(2026) 11 x)"),
        ("%GRPC_STATUS% %GRPC_STATUS_NUMBER% [%LOCAL_REPLY_BODY%]", "- - []"),
        ("%ENVIRONMENT(CARGO_PKG_NAME)% %ENVIRONMENT(CARGO_PKG_NAME):2%", "pillion pi"),
        ("%ENVIRONMENT(NO_SUCH_VARIABLE)% %ACCESS_LOG_TYPE%", "- DownstreamEnd"),
        ("%DYNAMIC_METADATA(a:b):9% %FILTER_STATE(none:PLAIN)% %METADATA(ROUTE:a)%", "- - -"),
        (
            "%DYNAMIC_METADATA(n:k):2% %DYNAMIC_METADATA(n)% %DYNAMIC_METADATA(n:x)%",
            "te {\"k\":\"text\"} -",
        ),
        ("%TRACE_ID% %VIRTUAL_CLUSTER_NAME% %BYTES_RETRANSMITTED%[%CUSTOM_FLAGS%]", "- - 0[]"),
        ("%REQUEST_HEADERS_BYTES% %RESPONSE_HEADERS_BYTES% %RESPONSE_TRAILERS_BYTES%", "163 40 -"),
    ];
    let sample = samples::http();
    for (format, expected) in cases {
        assert_eq!(sample.print(format), expected, "{format}");
    }
}

#[test]
fn query_parameters_are_decoded() {
    let mut sample = samples::http();
    sample.request.as_mut().unwrap().headers.remove("x-envoy-original-path");
    assert_eq!(sample.print("[%QUERY_PARAM(a)%][%QUERY_PARAM(c)%]"), "[ b][]");
}

#[test]
fn unique_ids_are_version_four_and_differ() {
    let sample = samples::http();
    let ids = [sample.print("%UNIQUE_ID%"), sample.print("%UNIQUE_ID%")];
    assert_ne!(ids[0], ids[1]);
    let shape = regex::Regex::new("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$").unwrap();
    for id in ids {
        assert!(shape.is_match(&id) && id.as_bytes()[14] == b'4', "{id}");
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
    }
}

#[test]
fn grpc_status_comes_from_trailers_then_headers_then_the_http_status() {
    let mut sample = samples::http();
    let content_type = HeaderValue::from_static("application/grpc+proto");
    sample.request.as_mut().unwrap().headers.insert("content-type", content_type);
    sample.info.response_code = 503;
    let all = "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)%";
    assert_eq!(sample.print(all), "Unavailable UNAVAILABLE 14");
    sample.response.as_mut().unwrap().insert("grpc-status", HeaderValue::from_static("1"));
    assert_eq!(sample.print(all), "Canceled CANCELLED 1");
    sample.trailers = Some([("grpc-status".parse().unwrap(), 99.into())].into_iter().collect());
    assert_eq!(sample.print(all), "99 99 99");
}

#[test]
fn missing_values_can_be_omitted() {
    let sample = samples::http();
    let format = Format::parse("[%REQ(x-no)%]").unwrap().omit_empty_values();
    let mut out = Vec::new();
    format.write(&sample.context(), &mut out);
    assert_eq!(out, b"[]");
}

#[test]
fn literals_are_known_and_constants_are_folded() {
    assert_eq!(Format::parse("").unwrap().literal(), Some(""));
    assert_eq!(Format::parse("100%%").unwrap().literal(), Some("100%"));
    let folded = Format::parse("a %ENVIRONMENT(CARGO_PKG_NAME)%").unwrap();
    assert_eq!(folded.literal(), Some("a pillion"));
    assert_eq!(Format::parse("%DURATION%").unwrap().literal(), None);
}

#[test]
fn tells_whether_headers_are_read() {
    let cases = [
        ("%DURATION% %UPSTREAM_HOST% %START_TIME%", false),
        ("x %REQ(a)%", true),
        ("%TRAILER(a)%", true),
        ("%GRPC_STATUS_NUMBER%", true),
        ("%PATH%", true),
    ];
    for (format, expected) in cases {
        assert_eq!(Format::parse(format).unwrap().needs_heads(), expected, "{format}");
    }
}

#[test]
fn tells_which_operators_have_no_value_here() {
    let format = Format::parse("%DURATION% %METADATA(ROUTE:a)% %TLS_JA3_FINGERPRINT%").unwrap();
    let absent: Vec<&str> = format.absent_operators().collect();
    assert_eq!(absent, ["METADATA", "TLS_JA3_FINGERPRINT"]);
    let json = json(serde_json::json!({"a": ["%METADATA(ROUTE:a)%"], "b": "%DURATION%"}));
    assert_eq!(json.absent_operators(), ["METADATA"]);
}

#[test]
fn mistakes_are_refused_with_the_operator_and_its_column() {
    let cases = [
        ("abc %NOPE%", "column 5: %NOPE% is an unknown command operator"),
        ("%REQ%", "column 1: %REQ%: needs an argument in parentheses"),
        ("%REQ(a b)%", "column 1: %REQ%: \"a b\" is no header name"),
        ("%DURATION(ms)%", "column 1: %DURATION% takes no argument"),
        ("%DURATION:3%", "column 1: %DURATION% takes no length"),
        ("%START_TIME(%Q)%", "column 1: %START_TIME%: the time format \"%Q\""),
        ("%START_TIME_LOCAL%", "column 1: %START_TIME_LOCAL%: local time is not supported"),
        (
            "%COMMON_DURATION(DS_RX_BEG)%",
            "column 1: %COMMON_DURATION%: \"DS_RX_BEG\" is not START:END",
        ),
        ("%COMMON_DURATION(A:B:s)%", "column 1: %COMMON_DURATION%: \"s\" is no precision"),
        ("%PATH(XX)%", "column 1: %PATH%: \"XX\" is neither WQ nor NQ"),
        ("%GRPC_STATUS(X)%", "column 1: %GRPC_STATUS%: \"X\" is not CAMEL_STRING"),
        ("100%", "column 4: \"%\" is no command operator"),
        ("%REQ(a", "column 1: \"%REQ(a\" is no command operator"),
        ("%REQ(a):x%", "column 1: \"%REQ(a):x%\" is no command operator"),
        ("ä %req(a)%", "column 4: \"%req(a)%\" is no command operator"),
    ];
    for (format, expected) in cases {
        let error = Format::parse(format).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{format}: {error}");
    }
}

fn json(format: serde_json::Value) -> JsonFormat {
    JsonFormat::from_value(&format).unwrap()
}

fn printed(format: &JsonFormat) -> String {
    let mut out = Vec::new();
    format.write(&samples::http().context(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn json_keeps_types_and_sorts_keys() {
    let format = json(serde_json::json!({
        "z": "%RESPONSE_CODE%",
        "a": "%REQ(x-no)%",
        "mix": "c %RESPONSE_CODE% %REQ(x-no)%",
        "n": {"l": ["%PROTOCOL%", 5.0, true, null], "q": "%REQ(x-quote)%"},
        "port": "%UPSTREAM_REMOTE_PORT%",
        "empty": "",
    }));
    let expected = r#"{"a":null,"empty":"","mix":"c 200 -","n":{"l":["HTTP/1.1",5,true,null],"q":"a\"b"},"port":8080,"z":200}"#;
    assert_eq!(printed(&format), format!("{expected}\n"));
}

#[test]
fn json_omits_missing_members_on_demand() {
    let format = json(serde_json::json!({
        "a": "%REQ(x-no)%",
        "array": ["%REQ(x-no)%", "%PROTOCOL%", "%REQ(x-no)%"],
        "lit": "",
        "mixed": "x%REQ(x-no)%y",
        "nested": {"in": "%TRACE_ID%"},
        "negative": -3.0,
        "null": null,
        "z": "%DURATION%",
    }));
    assert!(format.needs_heads());
    let expected = r#"{"array":["HTTP/1.1"],"lit":"","mixed":"xy","negative":-3,"z":9}"#;
    assert_eq!(printed(&format.omit_empty_values()), format!("{expected}\n"));
}

#[test]
fn json_refuses_what_is_no_object_and_names_the_key_of_a_mistake() {
    assert!(JsonFormat::from_value(&serde_json::json!("x")).is_err());
    let nested = serde_json::json!({"outer": {"inner": "%NOPE%"}});
    let error = JsonFormat::from_value(&nested).unwrap_err().to_string();
    assert_eq!(error, "outer: inner: column 1: %NOPE% is an unknown command operator");
}
