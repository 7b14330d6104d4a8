//! The messages that a dump is made of: one for each kind of resource.

use std::time::{SystemTime, UNIX_EPOCH};

use proto::Registry;
use proto::envoy::config::bootstrap::v3::Bootstrap as BootstrapMessage;
use proto::google::protobuf::{Any, Timestamp};
use serde_json::{Map, Value, json};

use super::{Input, assignment};
use crate::discovery::{Dynamic, Refused, TypeDump, Version};

/// A message of a dump, such as `envoy.admin.v3.ClustersConfigDump`.
#[derive(Debug)]
pub(super) struct Section {
    /// The message's name in `envoy.admin.v3`.
    pub(super) message: &'static str,
    /// Fields that are no lists.
    pub(super) singles: Map<String, Value>,
    /// Repeated fields.
    pub(super) lists: Vec<List>,
}

/// A repeated field.
#[derive(Debug)]
pub(super) struct List {
    pub(super) field: &'static str,
    /// The message of an element, in `envoy.admin.v3`.
    element: &'static str,
    elements: Vec<Value>,
}

impl List {
    /// The elements, each with its type.
    pub(super) fn into_typed(self) -> Vec<Value> {
        let element = self.element;
        let typed = |mut value: Value| {
            value["@type"] = type_url(element).into();
            value
        };
        self.elements.into_iter().map(typed).collect()
    }
}

impl Section {
    /// The message in JSON; empty lists are left out.
    pub(super) fn into_json(self) -> Value {
        let mut fields = self.singles;
        fields.insert("@type".to_string(), type_url(self.message).into());
        for list in self.lists.into_iter().filter(|list| !list.elements.is_empty()) {
            fields.insert(list.field.to_string(), list.elements.into());
        }
        fields.into()
    }
}

fn type_url(message: &str) -> String {
    format!("type.googleapis.com/envoy.admin.v3.{message}")
}

/// Every section, in Envoy's order.
pub(super) fn all(input: &Input, registry: &Registry) -> Vec<Section> {
    let print = Print { input, registry };
    let mut sections = vec![print.bootstrap(), print.clusters()];
    sections.extend(print.endpoints());
    let scopes =
        Section { message: "ScopedRoutesConfigDump", singles: Map::new(), lists: Vec::new() };
    sections.extend([print.listeners(), scopes, print.routes(), print.secrets()]);
    sections
}

struct Print<'a> {
    input: &'a Input,
    registry: &'a Registry,
}

impl Print<'_> {
    fn bootstrap(&self) -> Section {
        let mut bootstrap = self.registry.any_to_json(&self.input.bootstrap.dump());
        if let Some(fields) = bootstrap.as_object_mut() {
            fields.remove("@type");
        }
        let last_updated = self.timestamp(self.input.started);
        let singles = Map::from_iter([
            ("bootstrap".to_string(), bootstrap),
            ("last_updated".to_string(), last_updated),
        ]);
        Section { message: "BootstrapConfigDump", singles, lists: Vec::new() }
    }

    fn clusters(&self) -> Section {
        let dump = &self.input.dump.clusters;
        let dynamic = |element: fn(&Dynamic) -> Option<&Version>, with_errors: bool| {
            self.dynamic(dump, "cluster", element, with_errors)
        };
        let lists = vec![
            self.fixed("static_clusters", "ClustersConfigDump.StaticCluster", "cluster", dump),
            List {
                field: "dynamic_active_clusters",
                element: "ClustersConfigDump.DynamicCluster",
                elements: dynamic(active, true),
            },
            List {
                field: "dynamic_warming_clusters",
                element: "ClustersConfigDump.DynamicCluster",
                elements: dynamic(warming, false),
            },
        ];
        Section { message: "ClustersConfigDump", singles: version_info(dump), lists }
    }

    fn routes(&self) -> Section {
        let dump = &self.input.dump.routes;
        let (fixed, dynamic) =
            ("RoutesConfigDump.StaticRouteConfig", "RoutesConfigDump.DynamicRouteConfig");
        let lists = vec![
            self.fixed("static_route_configs", fixed, "route_config", dump),
            List {
                field: "dynamic_route_configs",
                element: dynamic,
                elements: self.dynamic(dump, "route_config", active, true),
            },
        ];
        Section { message: "RoutesConfigDump", singles: Map::new(), lists }
    }

    /// With `include_eds` only: the hosts of static and DNS clusters as they are, and what EDS sent.
    fn endpoints(&self) -> Option<Section> {
        let clusters = self.input.endpoints_of.as_ref()?;
        let fixed = clusters
            .iter()
            .filter(|cluster| self.wants(cluster.name()) && assignment::is_static(cluster))
            .map(|cluster| json!({"endpoint_config": assignment::of(cluster)}));
        let lists = vec![
            List {
                field: "static_endpoint_configs",
                element: "EndpointsConfigDump.StaticEndpointConfig",
                elements: fixed.collect(),
            },
            List {
                field: "dynamic_endpoint_configs",
                element: "EndpointsConfigDump.DynamicEndpointConfig",
                elements: self.dynamic(&self.input.dump.endpoints, "endpoint_config", active, true),
            },
        ];
        Some(Section { message: "EndpointsConfigDump", singles: Map::new(), lists })
    }

    fn listeners(&self) -> Section {
        let dump = &self.input.dump.listeners;
        let fixed = "ListenersConfigDump.StaticListener";
        let dynamic = dump.dynamic.iter().filter(|listener| self.wants(&listener.name));
        let lists = vec![
            self.fixed("static_listeners", fixed, "listener", dump),
            List {
                field: "dynamic_listeners",
                element: "ListenersConfigDump.DynamicListener",
                elements: dynamic.map(|listener| self.listener(listener)).collect(),
            },
        ];
        Section { message: "ListenersConfigDump", singles: version_info(dump), lists }
    }

    fn listener(&self, listener: &Dynamic) -> Value {
        let mut out = json!({"name": &*listener.name});
        let states = [("active_state", active(listener)), ("warming_state", warming(listener))];
        for (field, version) in states {
            if let Some(version) = version {
                out[field] = self.version("listener", version);
            }
        }
        if let Some(refused) = &listener.versions.refused {
            out["error_state"] = self.refused(refused);
        }
        out
    }

    /// The bootstrap's secrets, and those that came over SDS or are waited for.
    fn secrets(&self) -> Section {
        // It was translated before, so that it can be opened.
        let message: BootstrapMessage =
            proto::any::unpack(&self.input.bootstrap.dump()).unwrap_or_default();
        let secrets = message.static_resources.unwrap_or_default().secrets;
        let elements = secrets.iter().filter(|secret| self.wants(&secret.name)).map(|secret| {
            json!({"name": secret.name, "secret": self.resource(&proto::any::pack(secret))})
        });
        let fixed = List {
            field: "static_secrets",
            element: "SecretsConfigDump.StaticSecret",
            elements: elements.collect(),
        };
        let dynamic = |field, choose: fn(&Dynamic) -> Option<&Version>| List {
            field,
            element: "SecretsConfigDump.DynamicSecret",
            elements: self.dynamic_secrets(choose),
        };
        let lists = vec![
            fixed,
            dynamic("dynamic_active_secrets", active),
            dynamic("dynamic_warming_secrets", warming),
        ];
        Section { message: "SecretsConfigDump", singles: Map::new(), lists }
    }

    /// The secrets that have a version which `choose` takes, each with its name, as secrets do not say it everywhere.
    fn dynamic_secrets(&self, choose: fn(&Dynamic) -> Option<&Version>) -> Vec<Value> {
        let secrets = self.input.dump.secrets.dynamic.iter();
        let chosen = secrets.filter(|secret| self.wants(&secret.name)).filter_map(|secret| {
            let mut element = self.version("secret", choose(secret)?);
            element["name"] = (*secret.name).into();
            if let Some(refused) = &secret.versions.refused {
                element["error_state"] = self.refused(refused);
            }
            Some(element)
        });
        chosen.collect()
    }

    /// Static resources of one type; `key` is the field that holds the resource.
    fn fixed(
        &self,
        field: &'static str,
        element: &'static str,
        key: &str,
        dump: &TypeDump,
    ) -> List {
        let wanted = dump.fixed.iter().filter(|(name, _)| self.wants(name));
        let elements = wanted.map(|(_, version)| self.version(key, version)).collect();
        List { field, element, elements }
    }

    /// The versions of dynamic resources that `choose` takes; with errors, also those whose last version was refused.
    fn dynamic(
        &self,
        dump: &TypeDump,
        key: &str,
        choose: fn(&Dynamic) -> Option<&Version>,
        with_errors: bool,
    ) -> Vec<Value> {
        let mut elements = Vec::new();
        for resource in dump.dynamic.iter().filter(|resource| self.wants(&resource.name)) {
            let refused = resource.versions.refused.as_ref().filter(|_| with_errors);
            let mut element = match choose(resource) {
                Some(version) => self.version(key, version),
                None if refused.is_some() => json!({}),
                None => continue,
            };
            if let Some(refused) = refused {
                element["error_state"] = self.refused(refused);
            }
            elements.push(element);
        }
        elements
    }

    fn version(&self, key: &str, version: &Version) -> Value {
        let mut out = json!({"last_updated": self.timestamp(version.last_updated)});
        out[key] = self.resource(&version.body);
        if !version.version.is_empty() {
            out["version_info"] = (*version.version).into();
        }
        out
    }

    /// `envoy.admin.v3.UpdateFailureState`.
    fn refused(&self, Refused { failed, details }: &Refused) -> Value {
        json!({
            "failed_configuration": self.resource(&failed.body),
            "last_update_attempt": self.timestamp(failed.last_updated),
            "details": details,
            "version_info": &*failed.version,
        })
    }

    fn resource(&self, body: &Any) -> Value {
        self.registry.any_to_json(body)
    }

    fn timestamp(&self, time: SystemTime) -> Value {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = since.subsec_millis() as i32 * 1_000_000;
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        self.registry.to_json(&Timestamp { seconds, nanos })
    }

    fn wants(&self, name: &str) -> bool {
        self.input.names.as_ref().is_none_or(|names| names.is_match(name))
    }
}

fn active(resource: &Dynamic) -> Option<&Version> {
    resource.versions.active.as_ref()
}

fn warming(resource: &Dynamic) -> Option<&Version> {
    resource.versions.warming.as_ref()
}

fn version_info(dump: &TypeDump) -> Map<String, Value> {
    let version = (!dump.version.is_empty()).then(|| dump.version.as_str().into());
    version.map(|version| ("version_info".to_string(), version)).into_iter().collect()
}
