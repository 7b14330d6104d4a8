//! What the demo prints: steps, remarks and one line of live counters.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::traffic::{Counts, SharedTally};

/// How often the counters are looked at and, on a terminal, shown.
const REFRESH: Duration = Duration::from_millis(50);
/// After so long without it, what is awaited will not come.
const LIMIT: Duration = Duration::from_secs(60);

/// The narrator.
pub struct Display {
    terminal: bool,
    steps: u32,
}

impl Display {
    /// Prints to stdout; counters are live where that is a terminal.
    pub fn new() -> Self {
        Display { terminal: stdout().is_terminal(), steps: 0 }
    }

    /// Announces the next step.
    pub fn step(&mut self, title: &str) {
        self.steps += 1;
        println!("\n{}. {title}", self.steps);
    }

    /// Tells something about the current step.
    pub fn say(&self, remark: &str) {
        println!("   {remark}");
    }

    /// Shows the counters of the current phase until they fulfil `condition`.
    ///
    /// # Errors
    /// They do not in time; the error calls the condition `awaited`.
    pub async fn count_until(
        &self,
        tally: &SharedTally,
        awaited: &str,
        condition: impl Fn(&Counts) -> bool,
    ) -> Result<Counts, String> {
        let end = Instant::now() + LIMIT;
        loop {
            let counts = tally.borrow().current.clone();
            let done = condition(&counts);
            if self.terminal {
                print!("\r\x1b[K   {counts}");
                // A terminal that has gone is no reason to stop.
                let _ = stdout().flush();
            } else if done {
                println!("   {counts}");
            }
            if done || Instant::now() > end {
                self.end_line();
            }
            if done {
                return Ok(counts);
            }
            if Instant::now() > end {
                return Err(format!("after {LIMIT:?} still not: {awaited}; {counts}"));
            }
            sleep(REFRESH).await;
        }
    }

    fn end_line(&self) {
        if self.terminal {
            println!();
        }
    }
}
