use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::tests::{active, assignment, config};
use super::*;
use crate::config::cluster::{Cluster as Config, DnsFamily, DnsOptions};
use crate::config::endpoint::Target;

/// Answers as the test says, and tells when it was asked.
#[derive(Default)]
struct Scripted {
    answer: Mutex<Option<Answer>>,
    asked: Mutex<Vec<tokio::time::Instant>>,
    asking: Notify,
}

impl Scripted {
    fn set(&self, addresses: &[&str], ttl: u64) {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        *self.answer.lock() = Some(Answer { addresses, ttl: Duration::from_secs(ttl) });
    }

    /// Lets time pass until the name was asked for again, and the answer was taken.
    async fn next(&self) {
        self.asking.notified().await;
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }

    fn waits(&self) -> Vec<u64> {
        let asked = self.asked.lock();
        asked.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect()
    }
}

impl Resolver for Scripted {
    fn resolve(
        &self,
        _name: Arc<str>,
        _family: DnsFamily,
    ) -> BoxFuture<'_, Result<Answer, ResolveError>> {
        self.asked.lock().push(tokio::time::Instant::now());
        self.asking.notify_one();
        let answer = self.answer.lock().clone().ok_or_else(|| ResolveError("down".into()));
        Box::pin(async { answer })
    }
}

fn named(kind: Kind) -> Config {
    let mut assignment = assignment(&[&["127.0.0.1:80"]]);
    assignment.localities[0].endpoints[0].target =
        Target::Name { name: "backend.test".into(), port: 8080 };
    let dns = DnsOptions {
        family: DnsFamily::V4Only,
        refresh_rate: Duration::from_secs(5),
        failure_refresh: (Duration::from_secs(2), Duration::from_secs(2)),
        respect_ttl: true,
        jitter: Duration::ZERO,
    };
    let discovery = match kind {
        Kind::Strict => Discovery::StrictDns { assignment, dns },
        Kind::Logical => Discovery::LogicalDns { assignment, dns },
    };
    Config { discovery, ..config("dns", &[]) }
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    cluster.hosts().hosts().iter().map(|host| host.address().to_string()).collect()
}

fn started(config: Config, scripted: &Arc<Scripted>) -> (Arc<Cluster>, oneshot::Receiver<()>) {
    let cluster = active(config);
    let resolver: Arc<dyn Resolver> = Arc::clone(scripted) as _;
    let first = start(&cluster, &resolver).unwrap();
    (cluster, first)
}

#[tokio::test(start_paused = true)]
async fn strict_dns_makes_a_host_of_each_address_and_keeps_the_last_good_answer() {
    let scripted = Arc::new(Scripted::default());
    scripted.set(&["10.0.0.2", "10.0.0.1"], 30);
    let (cluster, first) = started(named(Kind::Strict), &scripted);
    first.await.unwrap();
    assert_eq!(addresses(&cluster), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    let host = Arc::clone(&cluster.hosts().hosts()[0]);
    assert_eq!(host.hostname().map(|name| &**name), Some("backend.test"));
    scripted.next().await;

    scripted.set(&["10.0.0.3", "10.0.0.1"], 0);
    scripted.next().await;
    assert_eq!(addresses(&cluster), ["10.0.0.1:8080", "10.0.0.3:8080"]);
    assert!(Arc::ptr_eq(&host, &cluster.hosts().hosts()[0]));

    *scripted.answer.lock() = None;
    scripted.next().await;
    assert_eq!(addresses(&cluster).len(), 2);
    scripted.set(&[], 30);
    scripted.next().await;
    assert!(addresses(&cluster).is_empty());
    scripted.next().await;
    assert_eq!(scripted.waits(), [30, 5, 2, 5]);
}

#[tokio::test(start_paused = true)]
async fn logical_dns_stays_with_an_address_that_is_still_an_answer() {
    let scripted = Arc::new(Scripted::default());
    scripted.set(&["10.0.0.2", "10.0.0.1"], 5);
    let (cluster, first) = started(named(Kind::Logical), &scripted);
    first.await.unwrap();
    scripted.next().await;
    scripted.set(&["10.0.0.1", "10.0.0.2"], 5);
    scripted.next().await;
    assert_eq!(addresses(&cluster), ["10.0.0.2:8080"]);
    scripted.set(&["10.0.0.1"], 5);
    scripted.next().await;
    assert_eq!(addresses(&cluster), ["10.0.0.1:8080"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_at_the_start_counts_as_the_first_answer() {
    let scripted = Arc::new(Scripted::default());
    let (cluster, first) = started(named(Kind::Strict), &scripted);
    first.await.unwrap();
    assert!(addresses(&cluster).is_empty());
}

#[tokio::test]
async fn the_system_resolves_literal_addresses_without_a_name_server() {
    let resolver = SystemResolver::default();
    let answer = resolver.resolve("127.0.0.7".into(), DnsFamily::V4Only).await.unwrap();
    assert_eq!(answer.addresses, ["127.0.0.7".parse::<IpAddr>().unwrap()]);
}
