//! What the process is and how it does: `/ready`, `/server_info`, `/memory`, `/hot_restart_version`.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use proto::Registry;
use proto::envoy::admin::v3::server_info::State;
use serde_json::json;

use super::Context;
use super::query::Query;
use super::reply::{Answer, Reply};
use crate::telemetry::memory::Memory;

pub(super) fn ready(context: &Context, _query: &Query) -> Answer {
    readiness(context.process.state()).into()
}

fn readiness(state: State) -> Reply {
    let body = format!("{}\n", state.as_str_name());
    match state {
        State::Live => Reply::text(body),
        _ => Reply::error(StatusCode::SERVICE_UNAVAILABLE, body),
    }
}

pub(super) fn server_info(context: &Context, _query: &Query) -> Answer {
    let seconds = |time: Duration| format!("{}s", time.as_secs());
    let mut info = json!({
        "version": context.version,
        "state": context.process.state().as_str_name(),
        "uptime_current_epoch": seconds(context.process.uptime()),
        "uptime_all_epochs": seconds(context.process.uptime_of_all()),
        "hot_restart_version": context.hot_restart_version,
        "command_line_options": context.command_line_options,
    });
    let bootstrap = Arc::clone(&context.bootstrap);
    Answer::later(move || {
        info["node"] = Registry::load().to_json(&bootstrap.node);
        Reply::json(&info)
    })
}

pub(super) fn hot_restart_version(context: &Context, _query: &Query) -> Answer {
    Reply::text(context.hot_restart_version.as_str()).into()
}

pub(super) fn memory(_context: &Context, _query: &Query) -> Answer {
    memory_json(Memory::now()).into()
}

/// `envoy.admin.v3.Memory`. 64-bit numbers are strings in protobuf's JSON; what the allocator does not tell is 0.
fn memory_json(memory: Memory) -> Reply {
    Reply::json(&json!({
        "allocated": memory.private.to_string(),
        "heap_size": memory.private.to_string(),
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": memory.resident.to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_live_process_is_ready() {
        let live = readiness(State::Live);
        assert_eq!((live.status.as_u16(), live.body.as_str()), (200, "LIVE\n"));
        for (state, name) in [
            (State::Draining, "DRAINING\n"),
            (State::PreInitializing, "PRE_INITIALIZING\n"),
            (State::Initializing, "INITIALIZING\n"),
        ] {
            let reply = readiness(state);
            assert_eq!((reply.status.as_u16(), reply.body.as_str()), (503, name));
        }
    }

    #[test]
    fn memory_is_told_in_strings() {
        let reply = memory_json(Memory { private: 5, resident: 7 });
        let value: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(
            (&value["allocated"], &value["total_physical_bytes"]),
            (&"5".into(), &"7".into())
        );
    }
}
