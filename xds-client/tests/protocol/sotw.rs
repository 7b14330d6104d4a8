//! State of the world, request by request.

use xds_client::{Protocol, ResourceError};

use crate::script::*;

#[tokio::test(start_paused = true)]
async fn a_wildcard_asks_without_names_and_is_acked_only_when_applied() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    assert_eq!(
        stream.path,
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
    );

    let first = stream.sotw().await;
    assert_eq!((first.type_url.as_str(), first.node), (CDS, Some(node())));
    assert_eq!(
        (first.version_info, first.response_nonce, first.resource_names.len()),
        ("".into(), "".into(), 0)
    );

    stream.send(&world(CDS, "1", "n1", &["a", "b"]));
    let update = update(&mut subscription).await;
    assert_eq!((names(&update), update.version.as_str()), (vec!["a", "b"], "1"));
    stream.is_silent().await;

    update.accept();
    let ack = stream.sotw().await;
    assert_eq!(
        (ack.version_info.as_str(), ack.response_nonce.as_str(), ack.error_detail),
        ("1", "n1", None)
    );
    stream.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn a_nack_keeps_the_version_and_says_why_once() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.sotw().await;
    stream.send(&world(CDS, "1", "n1", &["a"]));
    update(&mut subscription).await.accept();
    stream.sotw().await;

    stream.send(&world(CDS, "2", "n2", &["a", "b", "c"]));
    let errors =
        vec![ResourceError::new("a", "lb_policy: 99 is unknown"), ResourceError::new("c", "no")];
    update(&mut subscription).await.reject(errors);
    let refusal = stream.sotw().await;
    assert_eq!((refusal.version_info.as_str(), refusal.response_nonce.as_str()), ("1", "n2"));
    assert_eq!(nack(&refusal.error_detail), "a: lb_policy: 99 is unknown\nc: no");

    stream.send(&world(CDS, "3", "n3", &["a"]));
    update(&mut subscription).await.accept();
    let ack = stream.sotw().await;
    assert_eq!(
        (ack.version_info.as_str(), ack.response_nonce.as_str(), ack.error_detail),
        ("3", "n3", None)
    );
}

#[tokio::test(start_paused = true)]
async fn an_update_dropped_without_an_answer_is_refused() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.sotw().await;
    stream.send(&world(CDS, "1", "n1", &["a"]));
    drop(update(&mut subscription).await);
    let refusal = stream.sotw().await;
    assert_eq!(refusal.version_info, "");
    assert!(nack(&refusal.error_detail).contains("without an answer"));
}

#[tokio::test(start_paused = true)]
async fn absence_removes_from_a_full_state_only() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut cds = client.subscribe(clusters());
    let mut eds = client.subscribe(endpoints());
    eds.handle().add(["a", "b"]);
    let mut stream = script.accept().await;
    assert_eq!(stream.sotw().await.type_url, CDS);
    assert_eq!(stream.sotw().await.resource_names, ["a", "b"]);

    stream.send(&world(CDS, "1", "c1", &["a", "b", "c"]));
    update(&mut cds).await.accept();
    stream.send(&world(CDS, "2", "c2", &["b"]));
    let second = update(&mut cds).await;
    assert_eq!(
        (names(&second), &second.removed[..]),
        (vec!["b"], &["a".to_string(), "c".into()][..])
    );
    second.accept();
    stream.send(&world(CDS, "3", "c3", &[]));
    let empty = update(&mut cds).await;
    assert_eq!((names(&empty).len(), &empty.removed[..]), (0, &["b".to_string()][..]));
    empty.accept();

    stream.send(&world(EDS, "1", "e1", &["a", "b"]));
    update(&mut eds).await.accept();
    stream.send(&world(EDS, "2", "e2", &["b"]));
    let second = update(&mut eds).await;
    assert_eq!((names(&second), second.removed.len()), (vec!["b"], 0));
}

#[tokio::test(start_paused = true)]
async fn names_are_repeated_with_version_and_nonce_whenever_they_change() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut subscription = client.subscribe(endpoints());
    let handle = subscription.handle();
    let mut stream = script.accept().await;
    stream.is_silent().await;

    handle.add(["b", "a"]);
    handle.add(["a"]);
    let first = stream.sotw().await;
    assert_eq!(
        (first.resource_names, first.response_nonce.as_str()),
        (vec!["a".into(), "b".into()], "")
    );
    stream.send(&world(EDS, "1", "n1", &["a", "b"]));
    update(&mut subscription).await.accept();
    stream.sotw().await;

    handle.remove(["a", "unknown"]);
    let request = stream.sotw().await;
    assert_eq!(request.resource_names, ["b"]);
    assert_eq!((request.version_info.as_str(), request.response_nonce.as_str()), ("1", "n1"));
    handle.add(["b"]);
    stream.is_silent().await;
    handle.refresh(["b"]);
    assert!(stream.sotw().await.resource_names.is_empty());
    assert_eq!(stream.sotw().await.resource_names, ["b"]);
    stream.is_silent().await;

    handle.remove(["b"]);
    assert!(stream.sotw().await.resource_names.is_empty());
    handle.add(["a"]);
    assert_eq!(stream.sotw().await.resource_names, ["a"]);
    stream.send(&world(EDS, "2", "n2", &["a"]));
    assert_eq!(names(&update(&mut subscription).await), ["a"]);
}

/// The server has dropped the request that gave a name up, for its stale nonce, and has sent the name to a client that no longer
/// wanted it. It takes a request that names it again for no news.
#[tokio::test(start_paused = true)]
async fn a_name_that_comes_back_is_news_to_the_server() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut subscription = client.subscribe(endpoints());
    let handle = subscription.handle();
    handle.add(["a", "b"]);
    let mut stream = script.accept().await;
    stream.sotw().await;
    stream.send(&world(EDS, "1", "n1", &["a", "b"]));
    update(&mut subscription).await.accept();
    stream.sotw().await;

    handle.remove(["a"]);
    assert_eq!(stream.sotw().await.resource_names, ["b"]);
    stream.send(&world(EDS, "2", "n2", &["a", "b"]));
    let crossed = update(&mut subscription).await;
    assert_eq!(names(&crossed), ["b"]);
    handle.add(["a"]);
    crossed.accept();
    let without = stream.sotw().await;
    assert_eq!((without.resource_names, without.response_nonce.as_str()), (vec!["b".into()], "n2"));
    let with = stream.sotw().await;
    assert_eq!((with.resource_names.len(), with.response_nonce.as_str()), (2, "n2"));
    stream.is_silent().await;

    // Both changes before anything could be said.
    handle.remove(["b"]);
    handle.add(["b"]);
    assert_eq!(stream.sotw().await.resource_names, ["a"]);
    assert_eq!(stream.sotw().await.resource_names, ["a", "b"]);
    // It was said that it is gone.
    handle.remove(["b"]);
    assert_eq!(stream.sotw().await.resource_names, ["a"]);
    handle.add(["b"]);
    assert_eq!(stream.sotw().await.resource_names, ["a", "b"]);
    stream.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn changes_wait_for_the_answer_that_makes_their_nonce_valid() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut subscription = client.subscribe(endpoints());
    let handle = subscription.handle();
    handle.add(["a"]);
    let mut stream = script.accept().await;
    stream.sotw().await;
    stream.send(&world(EDS, "1", "n1", &["a"]));
    let update = update(&mut subscription).await;
    handle.add(["b"]);
    stream.is_silent().await;
    update.accept();
    let request = stream.sotw().await;
    assert_eq!((request.resource_names.len(), request.response_nonce.as_str()), (2, "n1"));
    stream.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_unanswered_responses_only_the_later_nonce_is_used() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.sotw().await;
    stream.send(&world(CDS, "1", "n1", &["a"]));
    stream.send(&world(CDS, "2", "n2", &["a"]));
    let first = update(&mut subscription).await;
    let second = update(&mut subscription).await;
    second.accept();
    let ack = stream.sotw().await;
    assert_eq!((ack.version_info.as_str(), ack.response_nonce.as_str()), ("2", "n2"));
    first.reject(vec![ResourceError::new("a", "too late to matter")]);
    stream.is_silent().await;

    let state = subscription.handle().state().await.expect("the client runs");
    assert_eq!((state.version.as_str(), state.resources[0].version.as_str()), ("2", "2"));
}

#[tokio::test(start_paused = true)]
async fn a_wildcard_with_names_is_spelt_out() {
    let (client, mut script) = start(Protocol::Sotw);
    let subscription = client.subscribe(clusters());
    subscription.handle().add(["on-demand"]);
    let mut stream = script.accept().await;
    assert_eq!(stream.sotw().await.resource_names, ["*", "on-demand"]);
}

#[tokio::test(start_paused = true)]
async fn wrapped_resources_are_unwrapped_under_the_response_version() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.sotw().await;
    let mut response = world(CDS, "7", "n1", &["plain"]);
    response.resources.push(wrap(&wrapper(CDS, "wrapped", "own")));
    stream.send(&response);
    let update = update(&mut subscription).await;
    assert_eq!(names(&update), ["plain", "wrapped"]);
    assert_eq!(
        (update.resources[1].version.as_str(), &update.resources[1].body),
        ("7", &packed(CDS, "wrapped"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_resource_of_another_type_is_refused_alone_and_removes_nothing() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.sotw().await;
    stream.send(&world(CDS, "1", "n1", &["a", "b"]));
    update(&mut subscription).await.accept();
    stream.sotw().await;
    let mut response = world(CDS, "2", "n2", &["a"]);
    response.resources.push(packed(EDS, "b"));
    stream.send(&response);
    let update = update(&mut subscription).await;
    assert_eq!((names(&update), update.removed.len()), (vec!["a"], 0));
    assert_eq!(update.answer.errors().len(), 1);
    update.accept();
    let refusal = stream.sotw().await;
    assert_eq!(refusal.version_info, "1");
    let message = nack(&refusal.error_detail);
    assert!(message.starts_with("resources[1]: resource.type_url: "), "{message}");
    assert!(message.ends_with("they must be equal"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_has_no_name_or_comes_twice_is_refused_alone() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.sotw().await;
    let mut response = world(CDS, "1", "n1", &["a", "b", "a", ""]);
    response.resources[1].value = vec![0xff; 9];
    stream.send(&response);
    let update = update(&mut subscription).await;
    assert_eq!(names(&update), ["a"]);
    update.accept();
    let refusal = stream.sotw().await;
    let message = nack(&refusal.error_detail);
    assert!(message.contains("resources[1]: has no name or is no "), "{message}");
    assert!(message.contains("resources[3]: has no name"), "{message}");
    assert!(message.contains("a: the response holds this name twice"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asked_for_is_left_out() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut subscription = client.subscribe(endpoints());
    subscription.handle().add(["a"]);
    let mut stream = script.accept().await;
    stream.sotw().await;
    stream.send(&world("type.googleapis.com/google.protobuf.Empty", "1", "x", &[]));
    stream.is_silent().await;
    stream.send(&world(EDS, "1", "n1", &["b"]));
    assert_eq!(stream.sotw().await.version_info, "1");
    stream.send(&world(EDS, "2", "n2", &["b", "a"]));
    assert_eq!(names(&update(&mut subscription).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn ending_a_subscription_unsubscribes_and_another_starts_from_nothing() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut first = client.subscribe(endpoints());
    first.handle().add(["a"]);
    let mut stream = script.accept().await;
    stream.sotw().await;
    stream.send(&world(EDS, "1", "n1", &["a"]));
    update(&mut first).await.accept();
    stream.sotw().await;
    drop(first);
    assert!(stream.sotw().await.resource_names.is_empty());

    let mut second = client.subscribe(endpoints());
    second.handle().add(["a"]);
    let request = stream.sotw().await;
    assert_eq!((request.resource_names.len(), request.version_info.as_str()), (1, ""));
    stream.send(&world(EDS, "1", "n2", &["a"]));
    update(&mut second).await.accept();
    assert_eq!(stream.sotw().await.version_info, "1");
}
