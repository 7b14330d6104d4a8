//! PINGs that find out whether a peer is still there.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// `connection_keepalive`: a PING after each interval, which the peer has to answer in time.
pub struct KeepAlive {
    ping: PingPong,
    interval: Duration,
    timeout: Duration,
    alarm: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl KeepAlive {
    /// Sends the connection's PINGs; `times` are the interval and how long an answer may take.
    pub fn new(ping: PingPong, times: (Duration, Duration)) -> Self {
        let (interval, timeout) = times;
        let alarm = Box::pin(sleep(interval));
        KeepAlive { ping, interval, timeout, alarm, is_waiting: false }
    }

    /// Ready when the peer has not answered in time.
    pub fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_waiting {
                if self.ping.poll_pong(cx).is_pending() {
                    return self.alarm.as_mut().poll(cx);
                }
                self.set(false, self.interval);
            }
            ready!(self.alarm.as_mut().poll(cx));
            // A connection that cannot take it is ending already.
            let _ = self.ping.send_ping(Ping::opaque());
            self.set(true, self.timeout);
        }
    }

    fn set(&mut self, is_waiting: bool, time: Duration) {
        self.is_waiting = is_waiting;
        self.alarm.as_mut().reset(Instant::now() + time);
    }
}
