//! What goes over a link, seen by a raw socket.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};

/// `ETH_P_ALL` as the socket wants it, in network byte order.
const ALL: i32 = (3u16).to_be() as i32;

/// Records every frame in a namespace, except those of its loopback interface.
pub struct Capture {
    stopped: Arc<AtomicBool>,
    recorder: JoinHandle<Vec<u8>>,
}

impl Capture {
    /// Starts to record in the namespace of this file.
    pub fn start(namespace: &str) -> Capture {
        let namespace = File::open(namespace).expect("the namespace is there");
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let (started, is_started) = std::sync::mpsc::channel();
        let recorder = std::thread::spawn(move || {
            // A socket belongs to the namespace that its thread was in when it was made.
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind).expect("root may enter it");
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ALL)));
            let socket = socket.expect("root may look");
            socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
            started.send(()).expect("somebody waits");
            record(&socket, &stop)
        });
        is_started.recv().expect("it starts");
        Capture { stopped, recorder }
    }

    /// Everything that went over the link until now.
    pub fn stop(self) -> Vec<u8> {
        self.stopped.store(true, Relaxed);
        self.recorder.join().expect("it records to the end")
    }
}

fn record(socket: &Socket, stop: &AtomicBool) -> Vec<u8> {
    let mut seen = Vec::new();
    let mut frame = vec![MaybeUninit::new(0); 65_536];
    loop {
        match socket.recv(&mut frame) {
            Ok(length) => {
                let bytes: Vec<u8> = frame[..length]
                    .iter()
                    // SAFETY: every element was initialised with 0 above.
                    .map(|byte| unsafe { byte.assume_init() })
                    .collect();
                // Frames of the loopback interface have no addresses.
                if bytes.len() > 12 && bytes[..12] != [0; 12] {
                    seen.extend(bytes);
                }
            }
            // What waits is read before the end.
            Err(_) if stop.load(Relaxed) => return seen,
            Err(_) => {}
        }
    }
}

/// Whether the bytes hold the text.
pub fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
