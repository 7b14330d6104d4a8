//! `/listeners` and `/drain_listeners`.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Value, json};

use super::json::address;
use super::query::Query;
use super::reply::{Answer, Reply};
use super::{Context, DrainListeners};
use crate::io::Address;

/// A listener's name with its addresses: as bound, or as configured where it binds none.
type Row = (Arc<str>, Vec<Address>);

pub(super) fn listeners(context: &Context, query: &Query) -> Answer {
    let rows: Vec<Row> = context
        .listeners
        .borrow()
        .list()
        .into_iter()
        .map(|(listener, bound)| {
            let config = listener.config();
            let addresses = if bound.is_empty() { config.addresses.clone() } else { bound };
            (Arc::clone(&config.name), addresses)
        })
        .collect();
    match query.get("format") {
        Some("json") => Reply::json(&as_json(&rows)).into(),
        _ => Reply::text(as_text(&rows)).into(),
    }
}

fn as_text(rows: &[Row]) -> String {
    let mut out = String::new();
    for (name, addresses) in rows {
        for address in addresses {
            writeln!(out, "{name}::{address}").expect("a string takes every character");
        }
    }
    out
}

/// `envoy.admin.v3.Listeners`.
fn as_json(rows: &[Row]) -> Value {
    let statuses: Vec<Value> = rows
        .iter()
        .map(|(name, addresses)| {
            let mut status = json!({"name": &**name});
            let mut addresses = addresses.iter().map(address);
            if let Some(first) = addresses.next() {
                status["local_address"] = first;
            }
            let more: Vec<Value> = addresses.collect();
            if !more.is_empty() {
                status["additional_local_addresses"] = more.into();
            }
            status
        })
        .collect();
    match statuses.is_empty() {
        true => json!({}),
        false => json!({ "listener_statuses": statuses }),
    }
}

pub(super) fn drain(context: &Context, query: &Query) -> Answer {
    context.process.drain_listeners(DrainListeners {
        inbound_only: query.has("inboundonly"),
        graceful: query.has("graceful"),
        skip_exit: query.has("skip_exit"),
    });
    Reply::ok().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let address = |text: &str| Address::Ip(text.parse().unwrap());
        vec![
            ("a".into(), vec![address("127.0.0.1:80"), address("[::1]:80")]),
            ("b".into(), vec![Address::Pipe(std::path::Path::new("/run/b").into())]),
        ]
    }

    #[test]
    fn text_has_a_line_for_each_address() {
        assert_eq!(as_text(&rows()), "a::127.0.0.1:80\na::[::1]:80\nb::/run/b\n");
    }

    #[test]
    fn json_has_the_first_address_and_the_others_apart() {
        let value = as_json(&rows());
        let first = &value["listener_statuses"][0];
        assert_eq!(first["local_address"]["socket_address"]["address"], "127.0.0.1");
        assert_eq!(first["additional_local_addresses"][0]["socket_address"]["address"], "::1");
        assert_eq!(value["listener_statuses"][1]["local_address"]["pipe"]["path"], "/run/b");
        assert_eq!(as_json(&[]), json!({}));
    }
}
