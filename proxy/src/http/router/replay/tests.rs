use std::convert::Infallible;

use futures_util::poll;
use futures_util::stream::{self, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::mpsc;

use super::*;

fn stats() -> Arc<TrafficStats> {
    Arc::new(TrafficStats::new("cluster.c."))
}

fn body(parts: &[&'static str]) -> Body {
    let frames = stream::iter(parts.to_vec());
    let frames = frames.map(|part| Ok::<_, Infallible>(Frame::data(Bytes::from(part))));
    Body::stream(StreamBody::new(frames).map_err(|never| match never {}))
}

async fn text(body: Body) -> Result<String, String> {
    let body = body.collect().await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

#[tokio::test]
async fn each_attempt_gets_the_whole_body() {
    let replay = Replay::new(body(&["he", "llo"]), true, 5, &stats());
    let mut half_read = replay.leader();
    let first = half_read.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "he");
    drop(half_read);
    assert_eq!(text(replay.leader()).await, Ok("hello".into()));
    assert_eq!(text(replay.leader()).await, Ok("hello".into()));
    assert_eq!(text(replay.follower()).await, Ok("hello".into()));
}

#[tokio::test]
async fn beyond_the_limit_only_the_attempt_that_reads_goes_on() {
    let stats = stats();
    let replay = Replay::new(body(&["he", "llo", "!"]), true, 4, &stats);
    let late = replay.leader();
    assert_eq!(text(replay.leader()).await, Ok("hello!".into()));
    assert!(!replay.is_kept());
    assert_eq!(stats.retry_or_shadow_abandoned.get(), 1);
    assert_eq!(text(late).await, Err("the request's body is not kept any more".into()));
}

#[tokio::test]
async fn a_mirror_waits_for_what_an_attempt_reads() {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let frames = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let frames =
        frames.map(|part: &'static str| Ok::<_, Infallible>(Frame::data(Bytes::from(part))));
    let source = Body::stream(StreamBody::new(frames).map_err(|never| match never {}));
    let replay = Replay::new(source, true, 100, &stats());
    let (mut leader, mut follower) = (replay.leader(), replay.follower());
    sender.send("a").unwrap();
    assert!(poll!(Box::pin(follower.frame())).is_pending());
    leader.frame().await.unwrap().unwrap();
    let mirrored = follower.frame().await.unwrap().unwrap();
    assert_eq!(mirrored.into_data().unwrap(), "a");
    drop(sender);
    assert!(poll!(Box::pin(follower.frame())).is_pending());
    assert!(leader.frame().await.is_none());
    assert!(follower.frame().await.is_none());
}

#[tokio::test]
async fn while_nobody_reads_it_is_known_when_too_much_comes() {
    let outgrown = |limit| async move {
        let replay = Replay::new(body(&["he", "llo"]), true, limit, &stats());
        poll!(std::future::poll_fn(|cx| replay.poll_outgrown(cx))).is_ready()
    };
    assert!(outgrown(4).await);
    assert!(!outgrown(5).await);
}

#[tokio::test]
async fn a_mirror_that_keeps_up_gets_a_body_beyond_the_limit() {
    let replay = Replay::new(body(&["he", "llo", "!!"]), false, 3, &stats());
    let (mut leader, mut quick, slow) = (replay.leader(), replay.follower(), replay.follower());
    drop(slow);
    for expected in ["he", "llo", "!!"] {
        leader.frame().await.unwrap().unwrap();
        assert_eq!(quick.frame().await.unwrap().unwrap().into_data().unwrap(), expected);
    }
    assert!(leader.frame().await.is_none() && quick.frame().await.is_none());
}

#[tokio::test]
async fn a_mirror_that_falls_behind_the_limit_gets_no_more() {
    let replay = Replay::new(body(&["he", "llo"]), false, 4, &stats());
    let (leader, slow) = (replay.leader(), replay.follower());
    assert_eq!(text(leader).await, Ok("hello".into()));
    assert_eq!(text(slow).await, Err("the request's body is not kept any more".into()));
}
