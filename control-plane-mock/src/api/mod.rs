//! The HTTP API: what a test in another process, or a person with curl, can do.

mod query;
mod routes;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::core::Shared;

/// What the HTTP API offers, as `--help` prints it.
pub const API_HELP: &str = "\
HTTP API (--api ADDRESS). Bodies are JSON unless said otherwise; TYPE is a type URL or a short name (cds, eds, lds, rds, sds, ...).
  PUT    /resources[?node=ID]                 YAML or JSON: resources to add or replace, as in a file -> {\"version\": N}
  DELETE /resources?type=TYPE&name=NAME[&name=...][&node=ID]                                          -> {\"version\": N}
  GET    /resources[?type=TYPE]               what is served
  GET    /clients                             open streams, their subscriptions and answers
  GET    /events                              every event from now on, as JSON lines
  GET    /wait?type=TYPE&version=N[&node=ID][&timeout=SECONDS]
         waits for the answer to a version: 200 for an ACK, 409 for a NACK, 408 when none came (timeout: 10 s unless set)
  POST   /push[?type=TYPE][&node=ID]          sends everything again
  POST   /disconnect[?node=ID]                ends streams with UNAVAILABLE
  POST   /faults                              arms a fault -> {\"id\": N}; the body is
         {\"kind\": KIND, \"type\": TYPE, \"node\": ID, \"times\": N}; without type, node or times it is for all and for ever. KIND is
         delay (with \"millis\"), withhold, drop_stream, refuse_stream, malformed, unknown_resource, unknown_type or repeat_nonce
  GET    /faults                              the armed faults
  DELETE /faults[?id=N]                       disarms one fault, or all; what was withheld is pushed
  GET    /identity/bundle                     the trust bundle (PEM)
  POST   /identity/svid?id=SPIFFE_ID          issues a certificate -> {\"certificate_chain\": PEM, \"private_key\": PEM}
  POST   /identity/rotate[?authority=true]    issues all certificates anew, from a new authority if asked -> {\"version\": N}
";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer that is no success.
#[derive(Debug)]
struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, message: impl std::fmt::Display) -> Self {
        Self { status, message: message.to_string() }
    }

    fn bad_request(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

/// Serves the API for ever. Dropping the future closes all connections.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(serve_connection(TokioIo::new(socket), shared.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting an HTTP client failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(socket: TokioIo<tokio::net::TcpStream>, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
    });
    if let Err(error) = http1::Builder::new().serve_connection(socket, service).await {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Body> {
    routes::handle(request, shared)
        .await
        .unwrap_or_else(|error| json(error.status, &serde_json::json!({ "error": error.message })))
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    respond(status, "application/json", Full::new(format!("{value}\n").into()).boxed_unsync())
}

fn respond(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = http::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
