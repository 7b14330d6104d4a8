//! The command line: Envoy's flags as they are, and Pillion's own commands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub mod bootstrap;
pub mod demo;
pub mod exec;
pub mod intercept;
pub mod run;
pub mod server_info;
pub mod version;
pub mod wait;

/// A sidecar service-mesh proxy configured over xDS v3.
#[derive(Debug, Parser)]
#[command(name = "pillion", disable_version_flag = true, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// A command of Pillion's own; without one, the proxy runs.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Envoy's flags.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Pillion's own commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a small mesh: a control plane, two sidecars and three replicas of a service, as real processes.
    Demo(demo::DemoArgs),
    /// Run the proxy with an application: `pillion run [FLAGS] -- COMMAND`. The application starts when the proxy is ready,
    /// gets its signals, and the proxy drains and ends with it, with its exit code.
    Run(Box<exec::ExecArgs>),
    /// What becomes the application of `run`.
    #[command(hide = true)]
    Application(exec::ApplicationArgs),
    /// The helper of `run --intercept`.
    #[command(hide = true)]
    Namespace(exec::NamespaceArgs),
    /// Bring connections to the proxy by rules of the packet filter.
    Intercept(Box<intercept::InterceptArgs>),
    /// Wait until a proxy serves, and say what is missing meanwhile.
    Wait(wait::WaitArgs),
    /// A replica of the demo's service.
    #[command(hide = true)]
    DemoService(demo::service::ServiceArgs),
    /// The demo's control plane.
    #[command(hide = true)]
    DemoControlPlane,
    /// Read a bootstrap and write it to standard output, as binary protobuf.
    #[command(hide = true)]
    ReadBootstrap(bootstrap::BootstrapArgs),
}

/// `--mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Serve traffic.
    #[default]
    Serve,
    /// Check the configuration and exit.
    Validate,
    /// Check the configuration, set everything up and exit.
    #[value(name = "init_only")]
    InitOnly,
}

/// `--drain-strategy`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DrainStrategy {
    /// Connections are closed little by little over the drain time.
    #[default]
    Gradual,
    /// Every response closes its connection at once.
    Immediate,
}

/// Envoy's flags. Those without a meaning here are accepted, since agents pass them.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Where the bootstrap comes from.
    #[command(flatten)]
    pub bootstrap: bootstrap::BootstrapArgs,
    /// What to do with the configuration.
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// How many workers; 0 means 1. Default: what the CPU quota allows.
    #[arg(long, value_name = "N")]
    pub concurrency: Option<usize>,
    /// Accepted; without `--concurrency`, the CPU set is respected anyway.
    #[arg(long)]
    pub cpuset_threads: bool,
    /// Overrides `node.id`.
    #[arg(long, value_name = "ID")]
    pub service_node: Option<String>,
    /// Overrides `node.cluster`.
    #[arg(long, value_name = "NAME")]
    pub service_cluster: Option<String>,
    /// Overrides `node.locality.zone`.
    #[arg(long, value_name = "ZONE")]
    pub service_zone: Option<String>,
    /// trace, debug, info, warning, error, critical or off.
    #[arg(short = 'l', long, default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
    /// Levels of single components: `name:level,...`.
    #[arg(long, value_name = "LIST")]
    pub component_log_level: Option<String>,
    /// Accepted without effect: log lines have one form.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Accepted without effect: log lines are always escaped.
    #[arg(long)]
    pub log_format_escaped: bool,
    /// Write log lines to this file instead of stderr.
    #[arg(long, value_name = "FILE")]
    pub log_path: Option<PathBuf>,
    /// Accepted without effect.
    #[arg(long)]
    pub enable_fine_grain_logging: bool,
    /// Seconds that connections get to end when their listener goes.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub drain_time_s: u64,
    /// Take connections from the moment when a listener is known, and let them wait until it is ready: an application that
    /// starts before its proxy waits instead of failing.
    #[arg(long)]
    pub listen_early: bool,
    /// Seconds that connections are still taken after SIGTERM, so that load balancers notice that `/ready` fails; outbound
    /// listeners serve as before meanwhile.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub min_drain_time_s: u64,
    /// How connections are drained.
    #[arg(long, value_enum, default_value_t)]
    pub drain_strategy: DrainStrategy,
    /// Seconds until the old process of a hot restart ends.
    #[arg(long, default_value_t = 900, value_name = "SECONDS")]
    pub parent_shutdown_time_s: u64,
    /// `v4` or `v6`: which local address `%LOCAL_ADDRESS%`-like uses prefer.
    #[arg(long, default_value = "v4", value_name = "VERSION")]
    pub local_address_ip_version: String,
    /// Milliseconds between flushes of access logs.
    #[arg(long, default_value_t = 10_000, value_name = "MS")]
    pub file_flush_interval_msec: u64,
    /// Kilobytes after which an access log is flushed.
    #[arg(long, default_value_t = 64, value_name = "KB")]
    pub file_flush_min_size_kb: u64,
    /// Write the bound admin address to this file.
    #[arg(long, value_name = "FILE")]
    pub admin_address_path: Option<PathBuf>,
    /// Keep the last good resources of the control plane in this folder, for a restart while it is gone; secrets never. The
    /// environment variable PILLION_STATE_DIR does the same. Every proxy needs a folder of its own.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Seconds that the control plane may take to answer before resources kept in `--state-dir` serve.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    pub state_grace_s: u64,
    /// Do not take part in hot restarts.
    #[arg(long)]
    pub disable_hot_restart: bool,
    /// How many hot restarts came before: 0 is a first process, each other one takes over from that of the epoch before.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub restart_epoch: u32,
    /// Number that keeps several proxies on one host apart.
    #[arg(long, value_name = "N")]
    pub base_id: Option<u32>,
    /// Choose a free base id.
    #[arg(long, conflicts_with = "base_id")]
    pub use_dynamic_base_id: bool,
    /// Write the base id to this file.
    #[arg(long, value_name = "FILE")]
    pub base_id_path: Option<PathBuf>,
    /// Where processes of a hot restart meet; base id and epoch are added. A name that starts with `@` is no file.
    #[arg(long, default_value = "@pillion_domain_socket", value_name = "PATH")]
    pub socket_path: PathBuf,
    /// The mode of that socket if it is a file, in octal.
    #[arg(long, default_value = "600", value_name = "MODE", value_parser = octal)]
    pub socket_mode: u32,
    /// Refuse resources with unknown fields.
    #[arg(long)]
    pub reject_unknown_dynamic_fields: bool,
    /// Do not even count unknown fields of resources.
    #[arg(long)]
    pub ignore_unknown_dynamic_fields: bool,
    /// Accepted without effect: deprecated fields are not logged.
    #[arg(long)]
    pub skip_deprecated_logs: bool,
    /// Accepted without effect: `name,...`.
    #[arg(long, value_name = "LIST")]
    pub disable_extensions: Option<String>,
    /// Accepted without effect.
    #[arg(long)]
    pub enable_mutex_tracing: bool,
    /// Accepted without effect: core dumps are the system's business.
    #[arg(long)]
    pub enable_core_dump: bool,
    /// Tags of every statistic: `name:value`.
    #[arg(long, value_name = "TAG")]
    pub stats_tag: Vec<String>,
    /// Print the version and exit.
    #[arg(long)]
    pub version: bool,
    /// Print the version of the hot restart protocol and exit.
    #[arg(long)]
    pub hot_restart_version: bool,
    /// That there is no old process to take over from is no reason to warn.
    #[arg(long)]
    pub skip_hot_restart_on_no_parent: bool,
    /// Do not go on with the counters of the old process.
    #[arg(long)]
    pub skip_hot_restart_parent_stats: bool,
}

/// The mode of a file.
fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| format!("'{text}' is no file mode in octal"))
}
