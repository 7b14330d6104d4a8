//! What client and upstreams share of HTTP/2, which the `h2` crate speaks for both.

use h2::{Reason, RecvStream};
use http::HeaderMap;

use super::case::Headers;
use super::http1::{Body, End};

/// A header map as a case's headers.
pub fn header_map(headers: &Headers) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for (name, value) in &headers.0 {
        let bad = |error: &dyn std::fmt::Display| format!("header {name}: {error}");
        let key: http::HeaderName = name.parse().map_err(|e| bad(&e))?;
        map.append(key, value.parse().map_err(|e| bad(&e))?);
    }
    Ok(map)
}

/// Names and values of a header map.
pub fn pairs(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
        .collect()
}

/// Reads a stream to its end, giving the window back as it goes.
pub async fn read_body(mut stream: RecvStream) -> Body {
    let mut body = Body { bytes: Vec::new(), trailers: Vec::new(), end: End::Complete };
    while let Some(data) = stream.data().await {
        match data {
            Ok(data) => {
                body.bytes.extend_from_slice(&data);
                // Fails only for a stream that is gone, which the next read reports.
                let _ = stream.flow_control().release_capacity(data.len());
            }
            Err(error) => {
                body.end = end_of(&error);
                return body;
            }
        }
    }
    match stream.trailers().await {
        Ok(trailers) => body.trailers = trailers.map(|map| pairs(&map)).unwrap_or_default(),
        Err(error) => body.end = end_of(&error),
    }
    body
}

/// How a stream ended that failed with `error`.
pub fn end_of(error: &h2::Error) -> End {
    match error.reason() {
        Some(Reason::NO_ERROR) | None => End::Closed,
        Some(_) => End::Reset,
    }
}
