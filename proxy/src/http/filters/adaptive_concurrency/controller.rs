//! Envoy's gradient controller: the limit grows while latency stays near the least one, and shrinks as it rises.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::GradientStats;
use super::latencies::Latencies;
use super::parameters::{MinRtt, Parameters};

/// At so many windows in a row with the least limit, the least latency is measured anew.
const MIN_WINDOWS: u32 = 5;

/// The limit on requests at a time, over all workers.
pub struct Controller {
    parameters: Parameters,
    stats: Arc<GradientStats>,
    limit: AtomicU32,
    outstanding: AtomicU32,
    /// Held for an addition; once in a window for the calculation.
    state: Mutex<State>,
    /// Told when a time in `state` has changed.
    changed: Arc<Notify>,
}

struct State {
    latencies: Latencies,
    min_rtt: Duration,
    /// The limit that holds again after the measurement of the least latency, while that goes on.
    deferred: Option<u32>,
    /// When that measurement began: what started before is no sample.
    epoch: Instant,
    windows_at_min: u32,
    next_measurement: Option<Instant>,
    next_window: Option<Instant>,
}

impl Controller {
    /// A controller with the least limit; in its own time it measures and calculates, until it is dropped.
    pub fn start(parameters: Parameters, stats: Arc<GradientStats>) -> Arc<Self> {
        let controller = Arc::new(Controller::new(parameters, stats, Instant::now()));
        tokio::spawn(run(Arc::downgrade(&controller), Arc::clone(&controller.changed)));
        controller
    }

    fn new(parameters: Parameters, stats: Arc<GradientStats>, now: Instant) -> Self {
        let mut state = State {
            latencies: Latencies::new(),
            min_rtt: Duration::ZERO,
            deferred: None,
            epoch: now,
            windows_at_min: 0,
            next_measurement: None,
            next_window: Some(now + parameters.update),
        };
        let controller = Controller {
            limit: AtomicU32::new(parameters.min),
            outstanding: AtomicU32::new(0),
            state: Mutex::new(State { latencies: Latencies::new(), ..state }),
            changed: Arc::default(),
            parameters,
            stats,
        };
        match controller.parameters.min_rtt {
            MinRtt::Fixed(fixed) => controller.set_min_rtt(&mut state, fixed),
            MinRtt::Measured { .. } => controller.measure(&mut state, now),
        }
        controller.stats.concurrency_limit.set(controller.limit().into());
        *controller.state.lock() = state;
        controller
    }

    /// The limit now.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// Whether one more request may go on; it counts until [`Controller::record`] or [`Controller::cancel`].
    pub fn admit(&self) -> bool {
        let admit = |now| (now < self.limit()).then_some(now + 1);
        let admitted = self.outstanding.fetch_update(Relaxed, Relaxed, admit).is_ok();
        if !admitted {
            self.stats.rq_blocked.inc();
        }
        admitted
    }

    /// A request was broken off.
    pub fn cancel(&self) {
        self.outstanding.fetch_sub(1, Relaxed);
    }

    /// A request has come to its end.
    pub fn record(&self, started: Instant, now: Instant) {
        self.outstanding.fetch_sub(1, Relaxed);
        let mut state = self.state.lock();
        if started < state.epoch {
            return;
        }
        state.latencies.add(now - started);
        if let MinRtt::Measured { interval, jitter, requests } = self.parameters.min_rtt
            && let Some(deferred) = state.deferred
            && state.latencies.count() >= requests
        {
            let min_rtt = self.take_quantile(&mut state);
            self.set_min_rtt(&mut state, min_rtt);
            self.set_limit(&mut state, deferred, now);
            state.deferred = None;
            self.stats.min_rtt_calculation_active.set(0);
            state.next_measurement = Some(now + jittered(interval, jitter, fastrand::u64(..)));
            state.next_window = Some(now + self.parameters.update);
            self.changed.notify_one();
        }
    }

    /// Does what is due; tells when something is due next.
    fn tick(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        if state.next_measurement.is_some_and(|at| at <= now) {
            state.next_measurement = None;
            if state.deferred.is_none() {
                self.measure(&mut state, now);
            }
        }
        if state.next_window.is_some_and(|at| at <= now) {
            // While the least latency is measured, its end starts the next window.
            state.next_window = None;
            if state.deferred.is_none() {
                self.calculate(&mut state, now);
                state.next_window = Some(now + self.parameters.update);
            }
        }
        state.next_measurement.into_iter().chain(state.next_window).min()
    }

    /// Begins to measure the least latency, with the least limit.
    fn measure(&self, state: &mut State, now: Instant) {
        self.stats.min_rtt_calculation_active.set(1);
        state.deferred = Some(self.limit());
        self.set_limit(state, self.parameters.min, now);
        state.latencies.clear();
        state.epoch = now;
    }

    /// Sets the limit by the latencies of the window, if there are any.
    fn calculate(&self, state: &mut State, now: Instant) {
        if state.latencies.count() == 0 {
            return;
        }
        let sample = self.take_quantile(state);
        self.stats.sample_rtt_msecs.set(sample.as_millis() as u64);
        let (min_rtt, sample) = (state.min_rtt.as_micros() as f64, sample.as_micros() as f64);
        let buffered = min_rtt + min_rtt * self.parameters.buffer;
        let gradient = (buffered / sample.max(1.0)).clamp(0.5, 2.0);
        self.stats.gradient.set((gradient * 1000.0) as u64);
        let limit = f64::from(self.limit()) * gradient;
        let headroom = limit.sqrt();
        self.stats.burst_queue_size.set(headroom as u64);
        let limit = ((limit + headroom) as u32).min(self.parameters.max);
        self.set_limit(state, limit.max(self.parameters.floor), now);
    }

    fn take_quantile(&self, state: &mut State) -> Duration {
        let quantile = state.latencies.quantile(self.parameters.percentile);
        state.latencies.clear();
        quantile
    }

    fn set_min_rtt(&self, state: &mut State, min_rtt: Duration) {
        state.min_rtt = min_rtt;
        self.stats.min_rtt_msecs.set(min_rtt.as_millis() as u64);
    }

    /// A limit that stays at the least one may come of a wrong least latency, which is then measured again.
    fn set_limit(&self, state: &mut State, limit: u32, now: Instant) {
        let before = self.limit.swap(limit, Relaxed);
        self.stats.concurrency_limit.set(limit.into());
        let floor = self.parameters.floor;
        let stays_at_min = state.deferred.is_none() && before == floor && limit == floor;
        state.windows_at_min = if stays_at_min { state.windows_at_min + 1 } else { 0 };
        let is_measured = matches!(self.parameters.min_rtt, MinRtt::Measured { .. });
        if state.windows_at_min >= MIN_WINDOWS && is_measured {
            state.next_measurement = Some(now);
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

async fn run(controller: Weak<Controller>, changed: Arc<Notify>) {
    loop {
        let Some(due) = controller.upgrade().map(|controller| controller.tick(Instant::now()))
        else {
            return;
        };
        match due {
            Some(due) => tokio::select! {
                () = sleep_until(due) => {}
                () = changed.notified() => {}
            },
            None => changed.notified().await,
        }
    }
}

/// An interval made longer by up to a share of it, in whole milliseconds.
fn jittered(interval: Duration, jitter: f64, random: u64) -> Duration {
    let range = (interval.as_millis() as f64 * jitter).ceil() as u64;
    interval + Duration::from_millis(random.checked_rem(range).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn parameters(min_rtt: MinRtt) -> Parameters {
        let update = 100 * MS;
        Parameters { percentile: 0.5, max: 1000, floor: 3, update, min_rtt, min: 3, buffer: 0.25 }
    }

    fn measured() -> MinRtt {
        MinRtt::Measured { interval: 1000 * MS, jitter: 0.0, requests: 5 }
    }

    fn controller(min_rtt: MinRtt) -> Arc<Controller> {
        Controller::start(parameters(min_rtt), Arc::new(GradientStats::new("")))
    }

    /// Requests, one after the other, that take so long.
    async fn requests(controller: &Controller, count: usize, latency: Duration) {
        for _ in 0..count {
            assert!(controller.admit());
            let started = Instant::now();
            tokio::time::sleep(latency).await;
            controller.record(started, Instant::now());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_grows_while_latency_stays_at_its_least() {
        let controller = controller(measured());
        assert_eq!(controller.stats.min_rtt_calculation_active.get(), 1);
        requests(&controller, 5, 10 * MS).await;
        assert_eq!(controller.stats.min_rtt_calculation_active.get(), 0);
        assert_eq!(controller.stats.min_rtt_msecs.get(), 10);
        requests(&controller, 10, 10 * MS).await;
        tokio::time::sleep(MS).await;
        // 3 * 1.25 + sqrt(3.75), cut off.
        assert_eq!(controller.limit(), 5);
        assert!((1180..=1260).contains(&controller.stats.gradient.get()));
        // Where nothing was sent, nothing changes.
        tokio::time::sleep(500 * MS).await;
        assert_eq!(controller.limit(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_shrinks_as_latency_rises_and_the_least_one_is_measured_anew() {
        let controller = controller(measured());
        requests(&controller, 5, 10 * MS).await;
        // Five windows at the least limit.
        requests(&controller, 12, 50 * MS).await;
        assert_eq!(controller.stats.gradient.get(), 500);
        assert_eq!((controller.limit(), controller.stats.min_rtt_calculation_active.get()), (3, 1));
        requests(&controller, 6, 50 * MS).await;
        assert_eq!(controller.stats.min_rtt_msecs.get(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_beyond_the_limit_are_refused_until_others_end() {
        let controller = controller(MinRtt::Fixed(10 * MS));
        assert_eq!(controller.stats.min_rtt_msecs.get(), 10);
        let admitted = (0..4).filter(|_| controller.admit()).count();
        assert_eq!((admitted, controller.stats.rq_blocked.get()), (3, 1));
        controller.cancel();
        assert!(controller.admit());
    }

    #[test]
    fn intervals_get_longer_by_a_share() {
        assert_eq!(jittered(1000 * MS, 0.15, 149), 1149 * MS);
        assert_eq!(jittered(1000 * MS, 0.15, 150), 1000 * MS);
        assert_eq!(jittered(1000 * MS, 0.0, 7), 1000 * MS);
    }
}
