//! The load reporting service (LRS): asks every client for the load of all of its clusters, and keeps what they say.

use std::sync::Arc;
use std::time::Duration;

use http::{Request as HttpRequest, Response as HttpResponse};
use hyper::body::Incoming;
use proto::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use tokio::sync::mpsc::unbounded_channel;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Request as GrpcRequest, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::core::Shared;

pub(crate) const METHOD: &str = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats";

/// Answers a client that offers load reports, by asking for all of them at this interval.
pub(crate) async fn serve(
    request: HttpRequest<Incoming>,
    shared: Arc<Shared>,
    interval: Duration,
) -> HttpResponse<Body> {
    let open = tower::service_fn(move |request: GrpcRequest<Streaming<LoadStatsRequest>>| {
        let (sender, receiver) = unbounded_channel();
        let answer = LoadStatsResponse {
            send_all_clusters: true,
            report_endpoint_granularity: true,
            load_reporting_interval: Some(proto::convert::to_proto_duration(interval)),
            ..LoadStatsResponse::default()
        };
        // The receiver is right here.
        let _ = sender.send(Ok::<_, Status>(answer));
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut requests = request.into_inner();
            while let Ok(Some(report)) = requests.message().await {
                shared.update(|core| core.load_reports.push(report));
            }
            drop(sender);
        });
        std::future::ready(Ok::<_, Status>(Response::new(UnboundedReceiverStream::new(receiver))))
    });
    Grpc::new(ProstCodec::<LoadStatsResponse, LoadStatsRequest>::default())
        .streaming(open, request)
        .await
}
