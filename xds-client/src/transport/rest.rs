//! Discovery over REST: a `DiscoveryRequest` in JSON is posted again and again, and what the server has new is a response.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use prost::bytes::Bytes;
use proto::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use proto::{Format, Registry};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt;

use super::{Link, QUEUED_REQUESTS, Server};

/// How a server is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Polling {
    /// The least time between two requests (`ApiConfigSource.refresh_delay`); up to as much again is added by chance, so that
    /// proxies that started together do not ask together.
    pub refresh_delay: Duration,
    /// How long an answer may take (`ApiConfigSource.request_timeout`; default 1 s).
    pub request_timeout: Duration,
}

/// Polls a server as if it were a stream: what is sent on the link is what is asked from then on. `max_message_size` is of a
/// response, in bytes.
pub(crate) fn open(
    server: &Server,
    path: PathAndQuery,
    polling: Polling,
    max_message_size: usize,
) -> Link<DiscoveryRequest, DiscoveryResponse> {
    let (sender, requests) = mpsc::channel(QUEUED_REQUESTS);
    let poller = Poller {
        server: server.clone(),
        path,
        polling,
        max_message_size,
        requests,
        asked: None,
        last: None,
        answered: false,
        named: false,
    };
    let responses =
        stream::try_unfold((poller, VecDeque::new()), |(mut poller, mut heard)| async {
            while heard.is_empty() {
                poller.wait().await;
                poller.ask(&mut heard).await?;
            }
            Ok(heard.pop_front().map(|item| (item, (poller, heard))))
        });
    Link { requests: sender, responses: responses.boxed() }
}

/// One server that is asked for one type.
struct Poller {
    server: Server,
    path: PathAndQuery,
    polling: Polling,
    max_message_size: usize,
    requests: mpsc::Receiver<DiscoveryRequest>,
    asked: Option<Asked>,
    /// The last answer to these names, for a server that does not look at versions repeats it; `None` until there is one.
    last: Option<Bytes>,
    /// Whether the server has answered.
    answered: bool,
    /// Whether names were asked for: from then on, no names mean nothing and not everything.
    named: bool,
}

/// What is asked.
struct Asked {
    request: DiscoveryRequest,
    /// The request in JSON, once it was needed.
    printed: Option<Bytes>,
}

impl Poller {
    /// Waits until it is time to ask: at once for other names, else after the delay.
    async fn wait(&mut self) {
        let delay = self.polling.refresh_delay.mul_f64(1.0 + fastrand::f64());
        let mut due = std::pin::pin!(sleep(delay));
        loop {
            let asks = self.asks_for_something();
            tokio::select! {
                biased;
                request = self.requests.recv() => match request {
                    Some(request) => if self.take_all(request) && self.asks_for_something() {
                        return;
                    },
                    // The link is being dropped, and this with it.
                    None => pending().await,
                },
                () = &mut due, if asks => return,
            }
        }
    }

    /// Takes everything that was sent by now; whether other names are wanted.
    fn take_all(&mut self, first: DiscoveryRequest) -> bool {
        let mut differs = self.take(first);
        while let Ok(request) = self.requests.try_recv() {
            differs |= self.take(request);
        }
        differs
    }

    fn take(&mut self, request: DiscoveryRequest) -> bool {
        let before = self.asked.as_ref().map(|asked| &asked.request.resource_names);
        let differs = before != Some(&request.resource_names);
        if differs {
            self.last = None;
        }
        self.named |= !request.resource_names.is_empty();
        self.asked = Some(Asked { request, printed: None });
        differs
    }

    fn asks_for_something(&self) -> bool {
        let asks = |asked: &Asked| !(self.named && asked.request.resource_names.is_empty());
        self.asked.as_ref().is_some_and(asks)
    }

    /// Asks once and notes what is heard: the first time, that the server answers, and what it has new.
    async fn ask(&mut self, heard: &mut VecDeque<Option<DiscoveryResponse>>) -> Result<(), Status> {
        let body = self.print().await?;
        let limit = self.polling.request_timeout;
        let late = |_| Status::deadline_exceeded(format!("no answer within {limit:?}"));
        let (status, body) = timeout(limit, self.post(body)).await.map_err(late)??;
        if status != StatusCode::OK && status != StatusCode::NOT_MODIFIED {
            return Err(Status::unavailable(format!("the server answered {status}")));
        }
        if !std::mem::replace(&mut self.answered, true) {
            heard.push_back(None);
        }
        if status == StatusCode::OK && self.last.as_ref() != Some(&body) {
            let text = body.clone();
            heard.push_back(Some(in_background(move || parse(&text)).await?));
            self.last = Some(body);
        }
        Ok(())
    }

    /// The request in JSON. Servers look at the version alone, so it is not told while other names are wanted than it is of.
    async fn print(&mut self) -> Result<Bytes, Status> {
        let Some(asked) = &mut self.asked else {
            return Err(Status::internal("nothing is asked"));
        };
        if let Some(printed) = &asked.printed {
            return Ok(printed.clone());
        }
        let mut request = asked.request.clone();
        if self.last.is_none() {
            request.version_info.clear();
        }
        let json = in_background(move || Ok(Registry::load().to_json(&request).to_string()));
        let printed = Bytes::from(json.await?);
        Ok(asked.printed.insert(printed).clone())
    }

    async fn post(&self, body: Bytes) -> Result<(StatusCode, Bytes), Status> {
        let request = Request::post(self.path.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Body::new(Full::new(body)))
            .map_err(|error| Status::internal(error.to_string()))?;
        let response = self.server.service.clone().oneshot(request).await;
        let (head, body) = response.map_err(Status::from_error)?.into_parts();
        let body = Limited::new(body, self.max_message_size).collect().await;
        Ok((head.status, body.map_err(Status::from_error)?.to_bytes()))
    }
}

/// Reads a response; fields that Envoy's API does not define are left out, as on a stream.
fn parse(body: &[u8]) -> Result<DiscoveryResponse, Status> {
    let unreadable = |error: String| Status::data_loss(format!("unreadable response: {error}"));
    let text = std::str::from_utf8(body).map_err(|error| unreadable(error.to_string()))?;
    let parsed = Registry::load().parse(Format::Json, text);
    Ok(parsed.map_err(|error| unreadable(error.to_string()))?.message)
}

/// Runs what loads the descriptors, which takes some 30 ms, beside the runtime's thread.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Status::internal(error.to_string())))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::Response;
    use tower::service_fn;
    use tower::util::BoxCloneSyncService;

    use super::*;

    const POLLING: Polling =
        Polling { refresh_delay: Duration::from_secs(5), request_timeout: Duration::from_secs(1) };

    /// A server that answers every request with the same, and what it was asked.
    fn link(
        status: u16,
        answer: &'static str,
    ) -> (Link<DiscoveryRequest, DiscoveryResponse>, Arc<Mutex<Vec<String>>>) {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        let service = service_fn(move |request: Request<Body>| {
            let log = Arc::clone(&log);
            async move {
                let body = request.into_body().collect().await.expect("it is there").to_bytes();
                log.lock().expect("no panic").push(String::from_utf8_lossy(&body).into_owned());
                let response = Response::builder().status(status);
                Ok::<_, Infallible>(response.body(Body::new(answer.to_owned())).expect("valid"))
            }
        });
        let service = BoxCloneSyncService::new(service.map_err(|never| match never {}));
        let server = Server { name: "rest".into(), service, metadata: Default::default() };
        let path = PathAndQuery::from_static("/v3/discovery:endpoints");
        (open(&server, path, POLLING, 1 << 20), asked)
    }

    fn request(names: &[&str], version: &str) -> DiscoveryRequest {
        DiscoveryRequest {
            resource_names: names.iter().map(|name| name.to_string()).collect(),
            version_info: version.to_owned(),
            ..Default::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_names_are_asked_for_at_once_and_without_a_version() {
        let (mut link, asked) = link(200, r#"{"version_info": "1"}"#);
        link.requests.send(request(&["a"], "")).await.expect("it is open");
        assert!(matches!(link.responses.next().await, Some(Ok(None))));
        let response = link.responses.next().await.expect("an item").expect("a response");
        assert_eq!(response.expect("something new").version_info, "1");
        let begin = tokio::time::Instant::now();
        link.requests.send(request(&["a"], "1")).await.expect("it is open");
        link.requests.send(request(&["a", "b"], "1")).await.expect("it is open");
        assert!(matches!(link.responses.next().await, Some(Ok(Some(_)))));
        assert!(begin.elapsed() < POLLING.refresh_delay);
        let asked = asked.lock().expect("no panic");
        assert_eq!(
            *asked,
            [r#"{"resource_names":["a"]}"#, r#"{"resource_names":["a","b"]}"#].map(str::to_owned)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_answer_again_is_no_news() {
        let (mut link, asked) = link(200, r#"{"version_info": "1"}"#);
        link.requests.send(request(&[], "")).await.expect("it is open");
        for _ in 0..2 {
            assert!(link.responses.next().await.is_some());
        }
        let more = timeout(POLLING.refresh_delay * 10, link.responses.next()).await;
        assert!(more.is_err() && asked.lock().expect("no panic").len() > 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_ends_with_its_first_failure() {
        let (mut link, _) = link(500, "");
        link.requests.send(request(&[], "")).await.expect("it is open");
        let failure = link.responses.next().await.expect("an item").expect_err("a failure");
        assert_eq!(failure.message(), "the server answered 500 Internal Server Error");
        assert!(link.responses.next().await.is_none());
    }
}
