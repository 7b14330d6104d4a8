//! What is known of resources, for `/config_dump` and to tell whether one has changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use proto::google::protobuf::Any;

/// A resource as it came.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its version; empty for static resources.
    pub version: Arc<str>,
    /// The packed resource, exactly as it came.
    pub body: Arc<Any>,
    /// When it came.
    pub last_updated: SystemTime,
}

impl Version {
    /// A resource that comes now.
    pub fn now(version: &str, body: Any) -> Self {
        Version { version: version.into(), body: Arc::new(body), last_updated: SystemTime::now() }
    }
}

/// A version that was refused (`envoy.admin.v3.UpdateFailureState`).
#[derive(Clone, Debug)]
pub struct Refused {
    /// What was refused.
    pub failed: Version,
    /// Why.
    pub details: String,
}

/// The versions of one resource. A refused version leaves the others as they are.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    /// In use.
    pub active: Option<Version>,
    /// Waits for something, then it is in use.
    pub warming: Option<Version>,
    /// The last one, if it was refused.
    pub refused: Option<Box<Refused>>,
}

impl Versions {
    /// Whether `body` is what was last applied: the warming version, else the active one.
    pub fn is_current(&self, body: &Any) -> bool {
        self.warming.as_ref().or(self.active.as_ref()).is_some_and(|known| *known.body == *body)
    }

    /// Whether `body` is in use.
    pub fn is_active(&self, body: &Any) -> bool {
        self.active.as_ref().is_some_and(|known| *known.body == *body)
    }

    fn is_empty(&self) -> bool {
        self.active.is_none() && self.warming.is_none() && self.refused.is_none()
    }

    /// A version is in use from now on.
    pub fn activate(&mut self, version: Version) {
        *self = Versions { active: Some(version), warming: None, refused: None };
    }

    /// A version warms from now on, in place of one that warmed.
    pub fn warm(&mut self, version: Version) {
        self.warming = Some(version);
        self.refused = None;
    }

    /// The warming version is in use from now on.
    pub fn finish_warming(&mut self) {
        if let Some(version) = self.warming.take() {
            self.active = Some(version);
        }
    }

    /// A version was refused.
    pub fn refuse(&mut self, failed: Version, details: String) {
        self.refused = Some(Box::new(Refused { failed, details }));
    }
}

/// The dynamic resources of one type by name.
#[derive(Debug, Default)]
pub struct Resources {
    /// Version of the last response that was accepted as a whole.
    version: String,
    entries: BTreeMap<Arc<str>, Versions>,
}

impl Resources {
    /// The versions of a resource, made if there is none of this name.
    pub fn entry(&mut self, name: &Arc<str>) -> &mut Versions {
        self.entries.entry(Arc::clone(name)).or_default()
    }

    /// The warming version of a resource is in use from now on.
    pub fn finish_warming(&mut self, name: &str) {
        if let Some(versions) = self.entries.get_mut(name) {
            versions.finish_warming();
        }
    }

    /// The versions in use.
    pub fn active(&self) -> impl Iterator<Item = (&Arc<str>, &Version)> {
        self.entries.iter().filter_map(|(name, versions)| Some((name, versions.active.as_ref()?)))
    }

    /// Forgets a resource.
    pub fn remove(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// A response was accepted as a whole.
    pub fn set_version(&mut self, version: &str) {
        version.clone_into(&mut self.version);
    }

    /// A copy for a dump.
    pub fn dump(&self, fixed: &[(Arc<str>, Version)]) -> TypeDump {
        let known = self.entries.iter().filter(|(_, versions)| !versions.is_empty());
        let dynamic = known
            .map(|(name, versions)| Dynamic { name: Arc::clone(name), versions: versions.clone() });
        TypeDump {
            version: self.version.clone(),
            fixed: fixed.to_vec(),
            dynamic: dynamic.collect(),
        }
    }
}

/// A dynamic resource in a dump.
#[derive(Clone, Debug)]
pub struct Dynamic {
    /// The resource's name.
    pub name: Arc<str>,
    /// Its versions.
    pub versions: Versions,
}

/// Every resource of one type.
#[derive(Clone, Debug, Default)]
pub struct TypeDump {
    /// `version_info` of the last response that was accepted as a whole; empty for types that come name by name.
    pub version: String,
    /// Static resources with their names, in the bootstrap's order.
    pub fixed: Vec<(Arc<str>, Version)>,
    /// Dynamic resources by name.
    pub dynamic: Vec<Dynamic>,
}

/// Every resource: what `/config_dump` prints.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// `ClustersConfigDump`
    pub clusters: TypeDump,
    /// `EndpointsConfigDump`
    pub endpoints: TypeDump,
    /// `ListenersConfigDump`
    pub listeners: TypeDump,
    /// `RoutesConfigDump`: static ones are those inside of listeners.
    pub routes: TypeDump,
    /// `SecretsConfigDump`, without the bootstrap's.
    pub secrets: TypeDump,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(body: &str) -> Version {
        Version::now("1", any(body))
    }

    fn any(body: &str) -> Any {
        Any { type_url: "t".into(), value: body.into() }
    }

    #[test]
    fn the_warming_version_is_current_before_the_active_one() {
        let mut versions = Versions::default();
        assert!(!versions.is_current(&any("a")));
        versions.activate(version("a"));
        versions.warm(version("b"));
        assert!(versions.is_current(&any("b")) && !versions.is_current(&any("a")));
        assert!(versions.is_active(&any("a")));
        versions.finish_warming();
        assert!(versions.is_active(&any("b")) && versions.warming.is_none());
    }

    #[test]
    fn a_refused_version_leaves_the_active_one() {
        let mut versions = Versions::default();
        versions.activate(version("a"));
        versions.refuse(version("b"), "why".into());
        assert!(versions.is_current(&any("a")));
        assert_eq!(versions.refused.as_ref().unwrap().details, "why");
        versions.activate(version("c"));
        assert!(versions.refused.is_none());
    }
}
