//! The service that the demo runs replicas of: it says who it is.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::stream;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// Header that names the replica that answered.
pub const REPLICA: HeaderName = HeaderName::from_static("x-replica");
/// The path whose answer begins at once and ends half a second later.
pub const SLOW_PATH: &str = "/slow";
/// How long a slow answer takes.
const SLOW: Duration = Duration::from_millis(500);

/// Flags of a replica.
#[derive(Args, Debug)]
pub struct ServiceArgs {
    /// Its name.
    #[arg(long)]
    pub name: String,
    /// How long it works for an answer, in milliseconds.
    #[arg(long)]
    pub work: u64,
}

/// Serves on a free port, which it prints, until SIGTERM.
///
/// # Errors
/// It cannot listen, or its name is no header value.
pub async fn serve(args: &ServiceArgs) -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let replica = Replica {
        header: HeaderValue::from_str(&args.name)?,
        greeting: format!("hello from {}\n", args.name).into(),
        work: Duration::from_millis(args.work),
    };
    let replica = Rc::new(replica);
    println!("{}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        let (connection, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = terminate.recv() => return Ok(()),
        };
        let replica = Rc::clone(&replica);
        let answer = move |request| answer(Rc::clone(&replica), request);
        let serving =
            http1::Builder::new().serve_connection(TokioIo::new(connection), service_fn(answer));
        // A connection that breaks is its client's matter.
        tokio::task::spawn_local(async move { drop(serving.await) });
    }
}

struct Replica {
    header: HeaderValue,
    greeting: Bytes,
    work: Duration,
}

async fn answer(
    replica: Rc<Replica>,
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    sleep(replica.work).await;
    let slow = request.uri().path() == SLOW_PATH;
    let greeting = replica.greeting.clone();
    let body = stream::once(Box::pin(async move {
        if slow {
            sleep(SLOW).await;
        }
        Ok(Frame::data(greeting))
    }));
    let mut response = Response::new(StreamBody::new(body));
    response.headers_mut().insert(REPLICA, replica.header.clone());
    Ok(response)
}
