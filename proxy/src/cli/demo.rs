//! The demo.

use clap::Args;

/// Flags of the demo.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Leave everything running and print what to try.
    #[arg(long)]
    pub keep: bool,
}
