//! The response's head on its way downstream.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime};

use http::header::{CONNECTION, DATE, SERVER, VIA};
use http::{HeaderMap, HeaderValue};

use crate::config::hcm::ServerHeader;
use crate::http::connection::Connection;
use crate::http::present::Present;
use crate::http::sanitize;
use crate::telemetry::stream_info::Protocol;

/// Cleans a response's headers and adds the proxy's own.
/// `tunnel` says that the connection leaves HTTP with this response.
pub fn finish(headers: &mut HeaderMap, tunnel: bool, connection: &Connection) {
    let config = &connection.manager.config;
    let present = Present::scan(headers);
    sanitize::remove_hop_by_hop(headers, present, tunnel);
    if !present.has(Present::DATE) {
        headers.insert(DATE, date());
    }
    match config.server_header {
        ServerHeader::Overwrite => {
            headers.insert(SERVER, config.server_name.clone());
        }
        ServerHeader::AppendIfAbsent => {
            headers.entry(SERVER).or_insert_with(|| config.server_name.clone());
        }
        ServerHeader::PassThrough => {}
    }
    if let Some(via) = &config.via {
        sanitize::append_to_list(headers, &VIA, via, ", ");
    }
    if connection.must_close() && connection.protocol != Protocol::Http2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

thread_local! {
    static NOW: RefCell<Option<(Instant, HeaderValue)>> = const { RefCell::new(None) };
}

/// The date of now (RFC 9110 §5.6.7), made once a second and worker.
fn date() -> HeaderValue {
    NOW.with_borrow_mut(|cached| match cached {
        Some((made, value)) if made.elapsed() < Duration::from_millis(500) => value.clone(),
        _ => {
            let text = httpdate::fmt_http_date(SystemTime::now());
            let value = HeaderValue::from_str(&text).expect("a date is legal in a header");
            *cached = Some((Instant::now(), value.clone()));
            value
        }
    })
}
