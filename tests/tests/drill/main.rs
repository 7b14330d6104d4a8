//! The drills in their small form. The program `drill` runs them in their big one and prints the figures.

use pillion_tests::drill::{DRILLS, Size};

async fn run(name: &str) {
    let drill = DRILLS.iter().find(|drill| drill.name == name).expect("it is in the list");
    let report = (drill.run)(Size::Small).await;
    assert!(report.faults.is_empty(), "{report:#?}");
}

macro_rules! drills {
    ($($test:ident: $name:literal),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                run($name).await;
            }
        )*

        #[test]
        fn every_drill_is_run() {
            let mut names: Vec<_> = DRILLS.iter().map(|drill| drill.name).collect();
            names.sort_unstable();
            let mut run = vec![$($name),*];
            run.sort_unstable();
            assert_eq!(names, run);
        }
    };
}

drills! {
    a_replica_in_trouble_is_not_noticed: "replicas",
    traffic_moves_between_zones_and_back: "zones",
    retries_of_a_chain_do_not_multiply: "storm",
    no_get_fails_and_no_post_is_doubled_where_connections_close_at_random: "race",
    replicas_restart_one_after_the_other: "rolling-replicas",
    sidecars_restart_one_after_the_other: "rolling-sidecars",
    a_sidecar_is_replaced_by_hot_restarts: "hot-restart",
    a_proxy_serves_within_a_second_without_its_control_plane: "outage",
    lost_packets_and_a_replica_that_is_cut_off_are_not_noticed: "network",
}
