use proto::google::protobuf;

use super::*;

fn translate(message: &pb::RetryPolicy) -> Result<RetryPolicy, ConfigError> {
    RetryPolicy::from_proto(message, &At::resource("route", "r"), &Context::default())
}

fn millis(millis: i32) -> Option<protobuf::Duration> {
    Some(protobuf::Duration { seconds: 0, nanos: millis * 1_000_000 })
}

fn predicate(name: &str, config: Option<protobuf::Any>) -> pb_retry::RetryHostPredicate {
    use pb_retry::retry_host_predicate::ConfigType;
    pb_retry::RetryHostPredicate {
        name: name.into(),
        config_type: config.map(ConfigType::TypedConfig),
    }
}

#[test]
fn an_empty_policy_has_envoys_defaults() {
    let policy = translate(&pb::RetryPolicy::default()).unwrap();
    assert!(policy.on.is_empty());
    assert_eq!((policy.num_retries, policy.host_attempts), (1, 1));
    assert_eq!((policy.back_off, policy.per_try_timeout), (None, None));
}

#[test]
fn istios_default_policy_is_taken() {
    let previous = proto::any::pack(&PreviousHostsPredicate {});
    let policy = translate(&pb::RetryPolicy {
        retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
            .into(),
        num_retries: Some(protobuf::UInt32Value { value: 2 }),
        retry_host_predicate: vec![predicate(
            "envoy.retry_host_predicates.previous_hosts",
            Some(previous),
        )],
        host_selection_retry_max_attempts: 5,
        retriable_status_codes: vec![503],
        ..Default::default()
    });
    let policy = policy.unwrap();
    assert_eq!((policy.num_retries, policy.host_attempts), (2, 5));
    assert_eq!(policy.host_predicates, [HostPredicate::PreviousHosts]);
    assert_eq!(policy.status_codes, [503]);
}

#[test]
fn a_back_off_without_a_longest_interval_ends_at_ten_times_the_base() {
    let back_off = |base, max| pb_retry::RetryBackOff { base_interval: base, max_interval: max };
    let translate = |base, max| {
        let retry_back_off = Some(back_off(base, max));
        translate(&pb::RetryPolicy { retry_back_off, ..Default::default() })
            .map(|policy| policy.back_off.map(|back_off| back_off.max.as_millis()))
    };
    assert_eq!(translate(millis(20), None), Ok(Some(200)));
    assert_eq!(translate(millis(20), millis(30)), Ok(Some(30)));
    for (base, max, path) in [
        (None, None, "retry_back_off.base_interval"),
        (millis(0), None, "retry_back_off.base_interval"),
        (millis(20), millis(10), "retry_back_off.max_interval"),
    ] {
        assert_eq!(translate(base, max).unwrap_err().path, format!("route \"r\": {path}"));
    }
}

#[test]
fn predicates_that_do_not_exist_are_refused_where_they_stand() {
    let message =
        |predicate| pb::RetryPolicy { retry_host_predicate: vec![predicate], ..Default::default() };
    let by_name = message(predicate("envoy.retry_host_predicates.omit_canary_hosts", None));
    assert_eq!(translate(&by_name).unwrap().host_predicates, [HostPredicate::CanaryHosts]);
    let error = translate(&message(predicate("mine", None))).unwrap_err();
    assert_eq!(error.path, "route \"r\": retry_host_predicate[0]");
}
