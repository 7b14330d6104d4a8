//! Protobuf to model: `OverloadManager`.

use std::time::Duration;

use proto::envoy::config::overload::v3 as pb;
use proto::envoy::config::overload::v3::scale_timers_overload_action_config::scale_timer::OverloadAdjust;
use proto::envoy::config::overload::v3::scale_timers_overload_action_config::{
    ScaleTimer, TimerType,
};
use proto::envoy::config::overload::v3::trigger::TriggerOneof;
use proto::envoy::extensions::resource_monitors::cgroup_memory::v3::CgroupMemoryConfig;
use proto::envoy::extensions::resource_monitors::cpu_utilization::v3::CpuUtilizationConfig;
use proto::envoy::extensions::resource_monitors::cpu_utilization::v3::cpu_utilization_config::UtilizationComputeStrategy;
use proto::envoy::extensions::resource_monitors::downstream_connections::v3::DownstreamConnectionsConfig;
use proto::envoy::extensions::resource_monitors::fixed_heap::v3::FixedHeapConfig;
use proto::envoy::extensions::resource_monitors::injected_resource::v3::InjectedResourceConfig;

use super::{
    ACTIONS, Action, ActionKind, Monitor, OverloadManager, POINTS, Resource, SHRINK_INTERVAL,
    ShedPoint, Trigger,
};
use crate::config::error::{At, ConfigError, Context};
use crate::config::{any, value};
use crate::overload::{Least, Point, Timer};
use crate::{refuse_set, warn_set};

const MONITORS: &str = "envoy.extensions.resource_monitors.";
const DEFAULT_REFRESH: Duration = Duration::from_secs(1);

impl OverloadManager {
    /// Translates `Bootstrap.overload_manager`.
    ///
    /// # Errors
    /// A monitor, action, point or timer that does not exist here, one that is there twice, and triggers that name no
    /// monitor or cannot be met.
    pub fn from_proto(
        message: &pb::OverloadManager,
        at: &At<'_>,
        context: &Context,
    ) -> Result<OverloadManager, ConfigError> {
        if message.resource_monitors.is_empty() {
            return Err(at.field("resource_monitors").error("at least 1 is required"));
        }
        let interval =
            value::positive_duration(message.refresh_interval, &at.field("refresh_interval"))?;
        let mut manager = OverloadManager {
            refresh_interval: interval.unwrap_or(DEFAULT_REFRESH),
            monitors: Vec::new(),
            actions: Vec::new(),
            points: Vec::new(),
        };
        for (index, monitor) in message.resource_monitors.iter().enumerate() {
            let at = at.index("resource_monitors", index);
            let monitor = Monitor::from_proto(monitor, &at)?;
            let names = manager.monitors.iter().map(|known| &*known.name);
            refuse_double(names, &monitor.name, &at)?;
            manager.monitors.push(monitor);
        }
        for (index, action) in message.actions.iter().enumerate() {
            let at = at.index("actions", index);
            refuse_double(manager.actions.iter().map(|known| &*known.name), &action.name, &at)?;
            let buffers = message.buffer_factory_config.is_some();
            let action = manager.action(action, buffers, &at, context)?;
            manager.actions.push(action);
        }
        for (index, point) in message.loadshed_points.iter().enumerate() {
            let at = at.index("loadshed_points", index);
            refuse_double(manager.points.iter().map(|known| &*known.name), &point.name, &at)?;
            let point = manager.point(point, &at)?;
            manager.points.push(point);
        }
        Ok(manager)
    }

    fn action(
        &self,
        message: &pb::OverloadAction,
        has_buffer_factory: bool,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Action, ConfigError> {
        let at_name = at.field("name");
        let at_config = at.field("typed_config");
        let config = message.typed_config.as_ref();
        let name = message.name.strip_prefix(ACTIONS).unwrap_or_default();
        let kind = match name {
            "stop_accepting_requests" => ActionKind::StopAcceptingRequests,
            "disable_http_keepalive" => ActionKind::DisableHttpKeepalive,
            "stop_accepting_connections" => ActionKind::StopAcceptingConnections,
            "reject_incoming_connections" => ActionKind::RejectIncomingConnections,
            "shrink_heap" => ActionKind::ShrinkHeap(shrink_interval(config, &at_config, context)?),
            "reduce_timeouts" => {
                let config: pb::ScaleTimersOverloadActionConfig = any::open(config, &at_config)?;
                ActionKind::ReduceTimeouts(timers(&config.timer_scale_factors, &at_config)?)
            }
            "reset_high_memory_stream" if !has_buffer_factory => {
                return Err(at_name.error(format_args!("{name} requires buffer_factory_config")));
            }
            "reset_high_memory_stream" => {
                let reason = "no stream is reset: what one may hold is bounded by buffer limits";
                context.warn(&at_name, reason);
                ActionKind::ResetHighMemoryStream
            }
            _ => {
                let rule = format_args!("{:?} is no overload action", message.name);
                return Err(at_name.error(rule));
            }
        };
        let configured = matches!(kind, ActionKind::ShrinkHeap(_) | ActionKind::ReduceTimeouts(_));
        if config.is_some() && !configured {
            return Err(at_config.error(format_args!("{name} takes no configuration")));
        }
        let triggers = self.triggers(&message.triggers, at)?;
        Ok(Action { name: message.name.as_str().into(), kind, triggers })
    }

    fn point(&self, message: &pb::LoadShedPoint, at: &At<'_>) -> Result<ShedPoint, ConfigError> {
        let name = message.name.strip_prefix(POINTS).unwrap_or_default();
        let found = Point::ALL.iter().find(|(_, known)| *known == name);
        let (point, _) = found.ok_or_else(|| {
            let known = Point::ALL.map(|(_, name)| name).join(", ");
            let rule = format_args!("{:?} is none of {POINTS}{{{known}}}", message.name);
            at.field("name").error(rule)
        })?;
        let triggers = self.triggers(&message.triggers, at)?;
        Ok(ShedPoint { name: message.name.as_str().into(), point: *point, triggers })
    }

    fn triggers(&self, messages: &[pb::Trigger], at: &At<'_>) -> Result<Vec<Trigger>, ConfigError> {
        if messages.is_empty() {
            return Err(at.field("triggers").error("at least 1 is required"));
        }
        let mut triggers: Vec<Trigger> = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let at = at.index("triggers", index);
            let monitor = self.monitors.iter().position(|known| *known.name == *message.name);
            let monitor = monitor.ok_or_else(|| {
                at.field("name").error(format_args!("unknown trigger resource {:?}", message.name))
            })?;
            if triggers.iter().any(|trigger| trigger.monitor == monitor) {
                return Err(at.field("name").error(format_args!("duplicate {:?}", message.name)));
            }
            let (from, full) = match value::required(&message.trigger_oneof, &at)? {
                TriggerOneof::Threshold(threshold) => (threshold.value, threshold.value),
                TriggerOneof::Scaled(scaled)
                    if scaled.scaling_threshold >= scaled.saturation_threshold =>
                {
                    return Err(at
                        .field("scaled")
                        .error("scaling_threshold must be less than saturation_threshold"));
                }
                TriggerOneof::Scaled(s) => (s.scaling_threshold, s.saturation_threshold),
            };
            if let Some(bad) = [from, full].into_iter().find(|value| !(0.0..=1.0).contains(value)) {
                return Err(at.error(format_args!("{bad} is not within 0 and 1")));
            }
            triggers.push(Trigger { monitor, from, full });
        }
        Ok(triggers)
    }
}

fn refuse_double<'n>(
    mut known: impl Iterator<Item = &'n str>,
    name: &str,
    at: &At<'_>,
) -> Result<(), ConfigError> {
    match known.any(|known| known == name) {
        true => Err(at.field("name").error(format_args!("{name:?} is there twice"))),
        false => Ok(()),
    }
}

impl Monitor {
    fn from_proto(message: &pb::ResourceMonitor, at: &At<'_>) -> Result<Monitor, ConfigError> {
        let name = value::non_empty(&message.name, &at.field("name"))?;
        let config = message.config_type.as_ref().map(|config| match config {
            pb::resource_monitor::ConfigType::TypedConfig(config) => config,
        });
        let at = at.field("typed_config");
        let resource = match any::type_name(config).strip_prefix(MONITORS).unwrap_or_default() {
            "fixed_heap.v3.FixedHeapConfig" => {
                let config: FixedHeapConfig = any::open(config, &at)?;
                refuse_set!(at, config, [max_heap_size_bytes_runtime]);
                Resource::FixedHeap(above_zero(
                    config.max_heap_size_bytes,
                    &at.field("max_heap_size_bytes"),
                )?)
            }
            "cgroup_memory.v3.CgroupMemoryConfig" => {
                let config: CgroupMemoryConfig = any::open(config, &at)?;
                let max = config.max_memory_bytes;
                Resource::CgroupMemory((max > 0).then_some(max))
            }
            "cpu_utilization.v3.CpuUtilizationConfig" => {
                let config: CpuUtilizationConfig = any::open(config, &at)?;
                let mode: UtilizationComputeStrategy =
                    value::enumeration(config.mode, &at.field("mode"))?;
                Resource::Cpu { container: mode == UtilizationComputeStrategy::Container }
            }
            "injected_resource.v3.InjectedResourceConfig" => {
                let config: InjectedResourceConfig = any::open(config, &at)?;
                Resource::Injected(
                    value::non_empty(&config.filename, &at.field("filename"))?.into(),
                )
            }
            "downstream_connections.v3.DownstreamConnectionsConfig" => {
                let config: DownstreamConnectionsConfig = any::open(config, &at)?;
                let max = config.max_active_downstream_connections;
                let at = at.field("max_active_downstream_connections");
                Resource::DownstreamConnections(above_zero(u64::try_from(max).unwrap_or(0), &at)?)
            }
            _ => return Err(any::unknown(name, config, &at)),
        };
        Ok(Monitor { name: name.into(), resource })
    }
}

fn above_zero(number: u64, at: &At<'_>) -> Result<u64, ConfigError> {
    match number {
        0 => Err(at.error("must be above 0")),
        number => Ok(number),
    }
}

fn shrink_interval(
    config: Option<&proto::google::protobuf::Any>,
    at: &At<'_>,
    context: &Context,
) -> Result<Duration, ConfigError> {
    if config.is_none() {
        return Ok(SHRINK_INTERVAL);
    }
    let config: pb::ShrinkHeapConfig = any::open(config, at)?;
    let reason = "memory that is not used is given back at once";
    warn_set!(context, at, config, [max_unfreed_memory_bytes], reason);
    let at = at.field("timer_interval");
    let interval = value::duration(config.timer_interval, &at)?.unwrap_or(SHRINK_INTERVAL);
    if interval < Duration::from_secs(1) {
        return Err(at.error(format_args!("{interval:?} is shorter than 1s")));
    }
    Ok(interval)
}

fn timers(messages: &[ScaleTimer], at: &At<'_>) -> Result<Vec<(Timer, Least)>, ConfigError> {
    if messages.is_empty() {
        return Err(at.field("timer_scale_factors").error("at least 1 is required"));
    }
    let mut timers: Vec<(Timer, Least)> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let at = at.index("timer_scale_factors", index);
        let at_timer = at.field("timer");
        let timer = match value::enumeration(message.timer, &at_timer)? {
            TimerType::HttpDownstreamConnectionIdle => Timer::ConnectionIdle,
            TimerType::HttpDownstreamStreamIdle => Timer::StreamIdle,
            TimerType::TransportSocketConnect => Timer::TransportSocketConnect,
            TimerType::HttpDownstreamConnectionMax => Timer::ConnectionMax,
            TimerType::HttpDownstreamStreamFlush => return Err(at_timer.unsupported()),
            TimerType::Unspecified => return Err(at_timer.error("is required")),
        };
        if timers.iter().any(|(known, _)| *known == timer) {
            return Err(at_timer.error("is there twice"));
        }
        let least = match value::required(&message.overload_adjust, &at)? {
            OverloadAdjust::MinTimeout(least) => {
                let least = value::duration(Some(*least), &at.field("min_timeout"))?;
                Least::Timeout(least.unwrap_or_default())
            }
            OverloadAdjust::MinScale(scale) => {
                Least::Scale(value::percent(scale, &at.field("min_scale"))? / 100.0)
            }
        };
        timers.push((timer, least));
    }
    Ok(timers)
}
