//! Ports for programs that must be told their port before they start.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports handed out: below the range that Linux takes for outgoing connections (32768 and up). A port that the kernel
/// picked for `bind(0)` may be given to somebody's outgoing connection before the program has bound it.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// Two test processes at the same time start at different places; one process never hands out a port twice in a row.
static NEXT: LazyLock<AtomicU32> =
    LazyLock::new(|| AtomicU32::new(RandomState::new().hash_one(std::process::id()) as u32));

/// A port on 127.0.0.1 that nothing listens on, over TCP and UDP.
///
/// # Panics
/// When there is none, which means that the machine has leaked thousands of listeners.
pub fn free_port() -> u16 {
    for _ in 0..COUNT {
        let port = (FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) as u16;
        // A round number is often something else, 15000 ms say, and who takes the ports out of a text would take it too.
        if port.is_multiple_of(100) {
            continue;
        }
        let address = (Ipv4Addr::UNSPECIFIED, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// [`free_port`] on 127.0.0.1.
pub fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_process_gets_different_free_ports() {
        let ports: HashSet<u16> = (0..50).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| (12_000..32_000).contains(port)));
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let taken = TcpListener::bind(free_address()).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!((0..50).all(|_| free_port() != port));
    }
}
