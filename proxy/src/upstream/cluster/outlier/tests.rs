use std::time::Duration;

use super::*;
use crate::config::cluster::OutlierDetection;
use crate::config::{At, Context};
use crate::upstream::balance::PickContext;
use crate::upstream::cluster::{HealthFlags, tests as clusters};

/// An `OutlierDetection` from YAML.
pub fn config(yaml: &str) -> OutlierDetection {
    let yaml = format!("name: c\nconnect_timeout: 1s\noutlier_detection: {yaml}\n");
    let message = crate::config::testing::parse(&yaml);
    let context = Context::default();
    let at = At::resource("cluster", "c");
    let cluster = crate::config::cluster::Cluster::from_proto(&message, &at, &context);
    let cluster = cluster.expect("a good cluster");
    OutlierDetection::clone(&cluster.outlier_detection.expect("it was given"))
}
