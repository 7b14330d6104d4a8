//! Delta, request by request.

use std::collections::HashMap;

use proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, ResourceName};
use xds_client::{Protocol, ResourceError};

use crate::script::*;

#[tokio::test(start_paused = true)]
async fn a_wildcard_alone_is_an_empty_list_and_answers_carry_the_nonce() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    assert_eq!(
        stream.path,
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
    );
    let first = stream.delta().await;
    assert_eq!((first.type_url.as_str(), first.node), (CDS, Some(node())));
    assert!(
        first.resource_names_subscribe.is_empty() && first.initial_resource_versions.is_empty()
    );

    stream.send(&change(CDS, "n1", &[("a", "1"), ("b", "1")], &[]));
    let update = update(&mut subscription).await;
    assert_eq!(names(&update), ["a", "b"]);
    stream.is_silent().await;
    update.accept();
    let ack = stream.delta().await;
    assert_eq!((ack.response_nonce.as_str(), ack.error_detail), ("n1", None));
    stream.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn a_wildcard_with_names_is_spelt_out() {
    let (client, mut script) = start(Protocol::Delta);
    let subscription = client.subscribe(clusters());
    subscription.handle().add(["on-demand"]);
    let mut stream = script.accept().await;
    assert_eq!(stream.delta().await.resource_names_subscribe, ["*", "on-demand"]);
}

#[tokio::test(start_paused = true)]
async fn only_changes_are_sent_and_they_carry_no_nonce() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(endpoints());
    let handle = subscription.handle();
    let mut stream = script.accept().await;
    stream.is_silent().await;
    handle.add(["a", "b"]);
    assert_eq!(stream.delta().await.resource_names_subscribe, ["a", "b"]);
    stream.send(&change(EDS, "n1", &[("a", "1"), ("b", "1")], &[]));
    update(&mut subscription).await.accept();
    stream.delta().await;

    handle.add(["c", "a"]);
    handle.remove(["b", "unknown"]);
    let request = stream.delta().await;
    assert_eq!(
        (request.resource_names_subscribe, request.resource_names_unsubscribe),
        (vec!["c".into()], vec!["b".into()])
    );
    assert!(request.response_nonce.is_empty() && request.initial_resource_versions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn changes_need_not_wait_for_an_answer() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(endpoints());
    subscription.handle().add(["a"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    stream.send(&change(EDS, "n1", &[("a", "1")], &[]));
    let update = update(&mut subscription).await;
    subscription.handle().add(["b"]);
    let request = stream.delta().await;
    assert_eq!((request.resource_names_subscribe.len(), request.response_nonce.as_str()), (1, ""));
    update.accept();
    assert_eq!(stream.delta().await.response_nonce, "n1");
}

#[tokio::test(start_paused = true)]
async fn a_name_removed_and_added_again_is_subscribed_to_again() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(endpoints());
    let handle = subscription.handle();
    handle.add(["a"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    stream.send(&change(EDS, "n1", &[("a", "1")], &[]));
    update(&mut subscription).await.accept();
    stream.delta().await;

    handle.remove(["a"]);
    handle.add(["a"]);
    let request = stream.delta().await;
    assert_eq!(request.resource_names_subscribe, ["a"]);
    assert!(request.resource_names_unsubscribe.is_empty());
    stream.send(&change(EDS, "n2", &[("a", "1")], &[]));
    assert_eq!(names(&update(&mut subscription).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn refreshing_unsubscribes_and_then_subscribes() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(endpoints());
    let handle = subscription.handle();
    handle.add(["a", "b"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    handle.refresh(["a", "unknown"]);
    let gone = stream.delta().await;
    assert_eq!(
        (gone.resource_names_subscribe.len(), gone.resource_names_unsubscribe),
        (0, vec!["a".into()])
    );
    let back = stream.delta().await;
    assert_eq!(
        (back.resource_names_subscribe, back.resource_names_unsubscribe.len()),
        (vec!["a".into()], 0)
    );
    stream.is_silent().await;
    stream.send(&change(EDS, "n1", &[("a", "1")], &[]));
    assert_eq!(names(&update(&mut subscription).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn every_response_is_answered_once_and_in_any_order() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.delta().await;
    stream.send(&change(CDS, "n1", &[("a", "1")], &[]));
    stream.send(&change(CDS, "n2", &[("a", "2")], &[]));
    let first = update(&mut subscription).await;
    let second = update(&mut subscription).await;
    second.accept();
    assert_eq!(stream.delta().await.response_nonce, "n2");
    first.reject(vec![ResourceError::new("a", "was wrong")]);
    let refusal = stream.delta().await;
    assert_eq!(
        (refusal.response_nonce.as_str(), nack(&refusal.error_detail)),
        ("n1", "a: was wrong")
    );
    assert_eq!(resources(&subscription).await[0].2, "2");
}

#[tokio::test(start_paused = true)]
async fn a_removed_name_stays_subscribed_but_its_version_is_forgotten() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(endpoints());
    subscription.handle().add(["a", "b"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    stream.send(&change(EDS, "n1", &[("a", "1"), ("b", "1")], &[]));
    update(&mut subscription).await.accept();
    stream.send(&change(EDS, "n2", &[], &["a", "never-known"]));
    let removal = update(&mut subscription).await;
    assert_eq!(removal.removed, ["a"]);
    removal.accept();
    stream.delta().await;
    stream.delta().await;

    drop(stream);
    let mut stream = script.accept().await;
    let first = stream.delta().await;
    assert_eq!(first.resource_names_subscribe, ["a", "b"]);
    assert_eq!(first.initial_resource_versions, HashMap::from([("b".into(), "1".into())]));
}

/// Sends a response and gives the names that the receiver got and the message of the NACK.
async fn refused(response: DeltaDiscoveryResponse) -> (Vec<String>, String) {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.delta().await;
    stream.send(&response);
    let update = update(&mut subscription).await;
    assert!(update.removed.is_empty());
    let names = names(&update).into_iter().map(str::to_owned).collect();
    update.accept();
    let refusal = stream.delta().await;
    assert_eq!(refusal.response_nonce, response.nonce);
    (names, nack(&refusal.error_detail).to_owned())
}

#[tokio::test(start_paused = true)]
async fn contradictory_responses_are_refused_as_a_whole() {
    let twice = "a: occurs twice in the response, every name may occur once";
    for response in [
        change(CDS, "n1", &[("b", "1"), ("a", "1"), ("a", "2")], &[]),
        change(CDS, "n1", &[("b", "1"), ("a", "1")], &["a"]),
    ] {
        assert_eq!(refused(response).await, (vec![], twice.into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_resource_is_refused_alone() {
    let good = change(CDS, "n1", &[("a", "1"), ("b", "1")], &[]);
    let mut mistyped = good.clone();
    mistyped.resources[1].resource = Some(packed(EDS, "b"));
    let mut bodiless = good.clone();
    bodiless.resources[1].resource = None;
    let mut nameless = good;
    nameless.resources[1].name.clear();
    for (response, reason) in [
        (mistyped, "b: resource.type_url: "),
        (bodiless, "b: resource: missing"),
        (nameless, "resources[1]: name: empty"),
    ] {
        let (names, message) = refused(response).await;
        assert_eq!(names, ["a"]);
        assert!(message.starts_with(reason), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_nack_does_not_advance_versions_even_of_what_was_applied() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.delta().await;
    stream.send(&change(CDS, "n1", &[("a", "1"), ("b", "1")], &[]));
    update(&mut subscription).await.accept();
    stream.send(&change(CDS, "n2", &[("a", "2"), ("b", "2")], &[]));
    update(&mut subscription).await.reject(vec![ResourceError::new("b", "no")]);
    stream.delta().await;
    stream.delta().await;
    drop(stream);

    let first = script.accept().await.delta().await;
    let versions = [("a".into(), "1".into()), ("b".into(), "1".into())];
    assert_eq!(first.initial_resource_versions, HashMap::from(versions));
}

#[tokio::test(start_paused = true)]
async fn an_alias_answers_for_the_name_that_was_asked_for() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(endpoints());
    subscription.handle().add(["routes/known", "routes/unknown"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    let mut response = change(EDS, "n1", &[("routes/host", "1"), ("nothing", "")], &[]);
    response.resources[0].aliases = vec!["routes/known".into()];
    response.resources[1].aliases = vec!["routes/unknown".into()];
    response.resources[1].resource = None;
    stream.send(&response);
    let update = update(&mut subscription).await;
    assert_eq!(
        (names(&update), &update.removed[..]),
        (vec!["routes/host"], &["routes/unknown".to_string()][..])
    );
    assert_eq!(update.resources[0].aliases, ["routes/known"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_released_under_a_wildcard_is_kept_until_the_server_says() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(clusters());
    let handle = subscription.handle();
    handle.add(["a"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    stream.send(&change(CDS, "n1", &[("a", "1")], &[]));
    update(&mut subscription).await.accept();
    stream.delta().await;
    handle.remove(["a"]);
    assert_eq!(stream.delta().await.resource_names_unsubscribe, ["a"]);
    assert_eq!(resources(&subscription).await.len(), 1);
    stream.send(&change(CDS, "n2", &[], &["a"]));
    let removal = update(&mut subscription).await;
    assert_eq!(removal.removed, ["a"]);
    removal.accept();
    stream.delta().await;
    assert_eq!(resources(&subscription).await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_wildcard_subscription_gets_everything_again() {
    let (client, mut script) = start(Protocol::Delta);
    let mut first = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.delta().await;
    stream.send(&change(CDS, "n1", &[("a", "1")], &[]));
    update(&mut first).await.accept();
    stream.delta().await;

    let mut second = client.subscribe(clusters());
    assert_eq!(stream.delta().await.resource_names_unsubscribe, ["*"]);
    assert_eq!(stream.delta().await.resource_names_subscribe, ["*"]);
    assert!(first.next().await.is_none());
    drop(first);
    stream.send(&change(CDS, "n2", &[("a", "1")], &[]));
    update(&mut second).await.accept();
    assert_eq!(stream.delta().await.response_nonce, "n2");
}

#[tokio::test(start_paused = true)]
async fn one_name_more_than_ten_thousand_is_one_name_on_the_wire() {
    let (client, mut script) = start(Protocol::Delta);
    let subscription = client.subscribe(endpoints());
    subscription.handle().add((0..10_000).map(|number| number.to_string()));
    let mut stream = script.accept().await;
    assert_eq!(stream.delta().await.resource_names_subscribe.len(), 10_000);
    subscription.handle().add(["one more"]);
    assert_eq!(stream.delta().await.resource_names_subscribe, ["one more"]);
}

#[tokio::test(start_paused = true)]
async fn removals_may_come_as_resource_names() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(endpoints());
    subscription.handle().add(["a"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    let mut response = change(EDS, "n1", &[], &[]);
    response.removed_resource_names = vec![ResourceName { name: "a".into(), ..Default::default() }];
    stream.send(&response);
    assert_eq!(update(&mut subscription).await.removed, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_response_tells_a_wildcard_that_there_is_nothing() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.delta().await;
    stream.send(&change(CDS, "n1", &[], &[]));
    let update = update(&mut subscription).await;
    assert!(update.resources.is_empty() && update.removed.is_empty());
    update.accept();
    assert_eq!(stream.delta().await.response_nonce, "n1");
}

#[tokio::test(start_paused = true)]
async fn ending_a_subscription_unsubscribes_from_names_and_wildcard() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(clusters());
    subscription.handle().add(["a"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    stream.send(&change(CDS, "n1", &[("a", "1")], &[]));
    let held = update(&mut subscription).await;
    drop(subscription);
    let request = stream.delta().await;
    assert_eq!(request.resource_names_unsubscribe, ["*", "a"]);
    assert!(nack(&request.error_detail).contains("the subscription ended"));
    held.accept();
    stream.is_silent().await;
}

/// A receiver holds its ACKs back until something else comes: it must come, however many are held.
#[tokio::test(start_paused = true)]
async fn held_acks_do_not_keep_other_types_from_coming() {
    let (client, mut script) = start(Protocol::Delta);
    let mut cds = client.subscribe(clusters());
    let mut eds = client.subscribe(endpoints());
    eds.handle().add(["a"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    stream.delta().await;
    let held = client.hold_answers(&[CDS]);
    for number in 0..100 {
        stream.send(&change(CDS, &number.to_string(), &[("a", "1")], &[]));
        update(&mut cds).await.accept();
    }
    stream.is_silent().await;
    stream.send(&change(EDS, "e", &[("a", "1")], &[]));
    update(&mut eds).await.accept();
    assert_eq!(stream.delta().await.response_nonce, "e");
    drop(held);
    for number in 0..100 {
        assert_eq!(stream.delta().await.response_nonce, number.to_string());
    }
}
