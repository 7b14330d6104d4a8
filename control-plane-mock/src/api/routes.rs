//! What each path does.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use proto::Format;
use serde_json::{Value, json};

use super::query::{Query, full_type};
use super::{ApiError, Body, json, respond};
use crate::core::Shared;
use crate::identity::IdentityError;
use crate::scenario::Fault;
use crate::snapshot::{Change, Scope};
use crate::{document, log};

/// The largest body, in bytes.
const MAX_BODY: usize = 64 << 20;

/// How long `/wait` waits unless it is told.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);

pub(super) async fn handle(
    request: Request<Incoming>,
    shared: &Shared,
) -> Result<Response<Body>, ApiError> {
    let (parts, body) = request.into_parts();
    let query = |known: &[&str]| Query::parse(parts.uri.query(), known);
    let ok = |value: Value| Ok(json(StatusCode::OK, &value));
    match (&parts.method, parts.uri.path()) {
        (&Method::PUT, "/resources") => {
            let query = query(&["node"])?;
            ok(put(&query, &read(body).await?, shared)?)
        }
        (&Method::DELETE, "/resources") => ok(delete(&query(&["type", "name", "node"])?, shared)?),
        (&Method::GET, "/resources") => ok(list(&query(&["type"])?, shared)),
        (&Method::GET, "/clients") => ok(json!(shared.clients())),
        (&Method::GET, "/events") => Ok(events(shared)),
        (&Method::GET, "/wait") => {
            wait(&query(&["type", "version", "node", "timeout"])?, shared).await
        }
        (&Method::POST, "/push") => {
            let query = query(&["type", "node"])?;
            let type_url = query.type_url();
            shared.update(|core| core.push_again(type_url.as_deref(), query.get("node")));
            ok(json!({}))
        }
        (&Method::POST, "/disconnect") => {
            let query = query(&["node"])?;
            shared.update(|core| core.drop_streams(query.get("node")));
            ok(json!({}))
        }
        (&Method::POST, "/faults") => ok(arm(&read(body).await?, shared)?),
        (&Method::GET, "/faults") => ok(faults(shared)),
        (&Method::DELETE, "/faults") => ok(disarm(&query(&["id"])?, shared)?),
        (_, path) if path.starts_with("/identity/") => {
            identity(&parts.method, path, parts.uri.query(), shared)
        }
        (method, path) => Err(not_found(method, path)),
    }
}

fn not_found(method: &Method, path: &str) -> ApiError {
    let message = format!("{method} {path} is not in the API; control-plane-mock --help lists it");
    ApiError::new(StatusCode::NOT_FOUND, message)
}

async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    let read = Limited::new(body, MAX_BODY).collect().await;
    Ok(read.map_err(ApiError::bad_request)?.to_bytes())
}

/// One node or all, as `node` says.
fn scope(query: &Query) -> Scope {
    query.get("node").map_or(Scope::All, |node| Scope::Node(node.to_owned()))
}

fn put(query: &Query, body: &[u8], shared: &Shared) -> Result<Value, ApiError> {
    let text = std::str::from_utf8(body).map_err(ApiError::bad_request)?;
    let format = match text.trim_start().as_bytes().first() {
        Some(b'{' | b'[') => Format::Json,
        _ => Format::Yaml,
    };
    let resources = document::parse(format, text).map_err(ApiError::bad_request)?;
    let scope = scope(query);
    let put = resources.into_iter().map(|resource| Change::Put(scope.clone(), resource));
    let changes = put.collect();
    Ok(json!({ "version": shared.update(|core| core.apply(changes)) }))
}

fn delete(query: &Query, shared: &Shared) -> Result<Value, ApiError> {
    query.required("name")?;
    let type_url = full_type(query.required("type")?);
    let scope = scope(query);
    let names = query.all("name");
    let delete = names.map(|name| Change::Delete(scope.clone(), type_url.clone(), name.to_owned()));
    let changes = delete.collect();
    Ok(json!({ "version": shared.update(|core| core.apply(changes)) }))
}

fn list(query: &Query, shared: &Shared) -> Value {
    let wanted = query.type_url();
    let mut resources = shared.lock().snapshot.list();
    if let Some(wanted) = wanted {
        resources.retain(|(_, resource)| resource.type_url() == wanted);
    }
    let resources = resources.iter().map(|(scope, resource)| {
        json!({
            "name": resource.name(),
            "node": match scope {
                Scope::All => Value::Null,
                Scope::Node(id) | Scope::Issued(id) => id.as_str().into(),
            },
            "version": resource.version(),
            "resource": document::to_json(resource),
        })
    });
    resources.collect()
}

/// Follows the events until the client goes.
fn events(shared: &Shared) -> Response<Body> {
    let lines = stream::unfold(shared.events.subscribe(), |mut events| async {
        let event = events.next().await?;
        let line = Bytes::from(format!("{}\n", log::to_json(&event)));
        Some((Ok::<_, Infallible>(Frame::data(line)), events))
    });
    respond(StatusCode::OK, "application/x-ndjson", StreamBody::new(lines).boxed_unsync())
}

async fn wait(query: &Query, shared: &Shared) -> Result<Response<Body>, ApiError> {
    let type_url = full_type(query.required("type")?);
    query.required("version")?;
    let version = query.parsed("version")?.unwrap_or_default();
    let timeout = query.seconds("timeout")?.unwrap_or(DEFAULT_WAIT);
    let answer = shared
        .wait_ack(&type_url, version, query.get("node"), timeout)
        .await
        .map_err(|error| ApiError::new(StatusCode::REQUEST_TIMEOUT, error))?;
    let status = if answer.error.is_some() { StatusCode::CONFLICT } else { StatusCode::OK };
    let value = json!({ "node": answer.node, "version": answer.version, "error": answer.error });
    Ok(json(status, &value))
}

fn arm(body: &[u8], shared: &Shared) -> Result<Value, ApiError> {
    let mut fault: Fault = serde_json::from_slice(body).map_err(ApiError::bad_request)?;
    fault.type_url = fault.type_url.map(|name| full_type(&name));
    Ok(json!({ "id": shared.update(|core| core.faults.arm(fault)) }))
}

fn faults(shared: &Shared) -> Value {
    let core = shared.lock();
    let faults = core.faults.list().iter();
    faults.map(|(id, fault)| json!({ "id": id, "fault": fault })).collect()
}

fn disarm(query: &Query, shared: &Shared) -> Result<Value, ApiError> {
    let id = query.parsed("id")?;
    let found = shared.update(|core| {
        let found = match id {
            Some(id) => core.faults.disarm(id),
            None => {
                core.faults.clear();
                true
            }
        };
        core.flush_all();
        found
    });
    match found {
        true => Ok(json!({})),
        false => Err(ApiError::new(StatusCode::NOT_FOUND, "no armed fault has this id")),
    }
}

fn identity(
    method: &Method,
    path: &str,
    query: Option<&str>,
    shared: &Shared,
) -> Result<Response<Body>, ApiError> {
    let failed = |error: IdentityError| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error);
    match (method, path) {
        (&Method::GET, "/identity/bundle") => {
            let bundle = shared.lock().identity.bundle();
            let body = Full::new(bundle.into()).boxed_unsync();
            Ok(respond(StatusCode::OK, "application/x-pem-file", body))
        }
        (&Method::POST, "/identity/svid") => {
            let query = Query::parse(query, &["id"])?;
            let id = query.required("id")?;
            let svid = shared.lock().identity.svid(id).map_err(ApiError::bad_request)?;
            let value = json!({
                "certificate_chain": svid.certificate_chain, "private_key": svid.private_key
            });
            Ok(json(StatusCode::OK, &value))
        }
        (&Method::POST, "/identity/rotate") => {
            let authority = Query::parse(query, &["authority"])?.parsed("authority")?;
            let version = shared.update(|core| {
                if authority.unwrap_or(false) {
                    core.identity.rotate_ca()?;
                }
                Ok(core.rotate())
            });
            let version = version.map_err(failed)?;
            Ok(json(StatusCode::OK, &json!({ "version": version })))
        }
        _ => Err(not_found(method, path)),
    }
}
