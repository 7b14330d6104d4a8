use super::*;
use crate::config::cluster::load_balancing::{
    HashFunction, Hashing, LeastRequest, Maglev, PeakEwma, RingHash,
};
use crate::config::endpoint::{Endpoint, Locality, Target};

/// A host on `127.0.0.1:port` with a weight.
pub fn host(port: u16, weight: u32) -> Arc<Host> {
    host_in(port, weight, 0, "")
}

/// A host of a priority and zone.
pub fn host_in(port: u16, weight: u32, priority: u32, zone: &str) -> Arc<Host> {
    let address = Address::Ip(([127, 0, 0, 1], port).into());
    let target = Target::Address(address.clone());
    let endpoint = Endpoint {
        target,
        hostname: None,
        weight,
        health: Default::default(),
        metadata: None,
        check: None,
    };
    let locality = Locality { zone: zone.into(), ..Default::default() };
    Host::new(address, &endpoint, Arc::new(locality), priority)
}

/// A host's place among hosts on ports 1, 2 and so on.
pub fn place(host: &Host) -> usize {
    usize::from(host.address().port().unwrap()) - 1
}

/// How often each of the hosts, on ports 1, 2 and so on, is picked in `n` picks.
pub fn counts(picker: &dyn Picker, hosts: usize, n: usize) -> Vec<usize> {
    let mut counts = vec![0; hosts];
    for _ in 0..n {
        counts[place(picker.pick(&PickContext::default()).unwrap())] += 1;
    }
    counts
}

/// Hosts on ports 1, 2 and so on with these weights.
pub fn hosts(weights: &[u32]) -> HostList {
    weights.iter().zip(1..).map(|(weight, port)| host(port, *weight)).collect()
}

/// Shares of hosts on ports 1, 2 and so on with these weights.
pub(super) fn shares(weights: &[u32]) -> Vec<hashing::Share> {
    hashing::shares(&hosts(weights))
}

#[test]
fn every_policy_gives_nothing_without_hosts() {
    let hashing = Hashing::default();
    let ring = RingHash { min_size: 8, max_size: 8, function: HashFunction::XxHash, hashing };
    let second = std::time::Duration::from_secs(1);
    let policies = [
        LbPolicy::RoundRobin { slow_start: None },
        LbPolicy::LeastRequest(LeastRequest::default()),
        LbPolicy::LeastRequest(LeastRequest { full_scan: true, ..LeastRequest::default() }),
        LbPolicy::Random,
        LbPolicy::PeakEwma(PeakEwma { decay: second, default_rtt: second }),
    ];
    for policy in policies {
        assert!(build(&policy, hosts(&[])).pick(&PickContext::default()).is_none());
    }
    for policy in [LbPolicy::RingHash(ring), LbPolicy::Maglev(Maglev { table_size: 7, hashing })] {
        let table = build_table(&policy, Vec::new()).unwrap();
        assert!(table.pick(&PickContext::default()).is_none());
    }
}
