//! The command line as `/server_info` shows it.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{DrainStrategy, Mode, RunArgs};

/// `envoy.admin.v3.CommandLineOptions`: every flag, given or not. `workers` is the concurrency that came of them.
pub fn command_line_options(args: &RunArgs, workers: usize) -> Value {
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_deref().map_or_else(String::new, |path: &Path| path.display().to_string())
    };
    json!({
        "base_id": args.base_id.unwrap_or(0).to_string(),
        "use_dynamic_base_id": args.use_dynamic_base_id,
        "base_id_path": path(&args.base_id_path),
        "concurrency": workers,
        "config_path": path(&args.bootstrap.config_path),
        "config_yaml": args.bootstrap.config_yaml.as_deref().unwrap_or_default(),
        "allow_unknown_static_fields": args.bootstrap.allow_unknown_static_fields,
        "reject_unknown_dynamic_fields": args.reject_unknown_dynamic_fields,
        "ignore_unknown_dynamic_fields": args.ignore_unknown_dynamic_fields,
        "skip_deprecated_logs": args.skip_deprecated_logs,
        "admin_address_path": path(&args.admin_address_path),
        "local_address_ip_version": args.local_address_ip_version,
        "log_level": args.log_level,
        "component_log_level": args.component_log_level.as_deref().unwrap_or_default(),
        "log_format": args.log_format.as_deref().unwrap_or_default(),
        "log_format_escaped": args.log_format_escaped,
        "log_path": path(&args.log_path),
        "enable_fine_grain_logging": args.enable_fine_grain_logging,
        "service_cluster": args.service_cluster.as_deref().unwrap_or_default(),
        "service_node": args.service_node.as_deref().unwrap_or_default(),
        "service_zone": args.service_zone.as_deref().unwrap_or_default(),
        "file_flush_interval": duration(args.file_flush_interval_msec),
        "file_flush_min_size": args.file_flush_min_size_kb,
        "drain_time": duration(args.drain_time_s.saturating_mul(1000)),
        "drain_strategy": match args.drain_strategy {
            DrainStrategy::Gradual => "Gradual",
            DrainStrategy::Immediate => "Immediate",
        },
        "parent_shutdown_time": duration(args.parent_shutdown_time_s.saturating_mul(1000)),
        "mode": match args.mode {
            Mode::Serve => "Serve",
            Mode::Validate => "Validate",
            Mode::InitOnly => "InitOnly",
        },
        "disable_hot_restart": args.disable_hot_restart,
        "restart_epoch": args.restart_epoch,
        "cpuset_threads": args.cpuset_threads,
        "socket_path": args.socket_path.display().to_string(),
        "socket_mode": args.socket_mode,
        "skip_hot_restart_on_no_parent": args.skip_hot_restart_on_no_parent,
        "skip_hot_restart_parent_stats": args.skip_hot_restart_parent_stats,
        "disabled_extensions": [],
        "enable_mutex_tracing": args.enable_mutex_tracing,
        "enable_core_dump": args.enable_core_dump,
        "stats_tag": args.stats_tag,
    })
}

/// A `Duration` in protobuf's JSON.
fn duration(milliseconds: u64) -> String {
    match (milliseconds / 1000, milliseconds % 1000) {
        (seconds, 0) => format!("{seconds}s"),
        (seconds, rest) => format!("{seconds}.{rest:03}s"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proto::envoy::admin::v3::CommandLineOptions;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn is_a_command_line_options_message() {
        let flags = [
            "pillion",
            "-c",
            "a.yaml",
            "--file-flush-interval-msec",
            "1500",
            "--drain-strategy",
            "immediate",
        ];
        let options = command_line_options(&Cli::parse_from(flags).run, 3);
        let registry = proto::Registry::load();
        let message: CommandLineOptions = registry.from_json(&options.to_string()).unwrap();
        assert_eq!((message.config_path.as_str(), message.concurrency), ("a.yaml", 3));
        let interval = message.file_flush_interval.unwrap();
        assert_eq!((interval.seconds, interval.nanos), (1, 500_000_000));
        assert_eq!(message.drain_time.unwrap().seconds, 600);
        assert_eq!(message.drain_strategy, 1);
    }
}
