//! What the control plane has: resources by type and name, in layers that give each node its own view.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use prost::{Message, Name};
use proto::envoy::service::discovery::v3 as discovery;
use proto::google::protobuf::Any;
use proto::{any, type_url};
use xxhash_rust::xxh64::xxh64;

/// A point in the history of what the control plane serves. Every change that changes anything makes a new, higher one.
///
/// It is sent as `version_info` (state of the world) and `system_version_info` (delta).
pub type Version = u64;

/// One xDS resource, encoded once and shared by all that send it.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    name: String,
    any: Any,
    version: String,
}

/// Why an `Any` cannot be served as a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// The type carries no name, or the bytes are no protobuf.
    #[error(
        "{0:?} has no readable resource name: wrap it in envoy.service.discovery.v3.Resource and name it there"
    )]
    Unnamed(String),
    /// The name field is there and empty.
    #[error("a resource of type {0:?} has an empty name")]
    EmptyName(String),
    /// A `Resource` wrapper without a resource in it.
    #[error("envoy.service.discovery.v3.Resource {0:?} holds no resource")]
    EmptyWrapper(String),
}

impl Resource {
    /// A resource of this name, whatever `any` holds. This is how a test serves something broken.
    pub fn named(name: impl Into<String>, any: Any) -> Self {
        let version = format!("{:016x}", xxh64(&any.value, 0));
        Self { name: name.into(), any, version }
    }

    /// Packs `message`, which names itself (`Cluster.name`, `ClusterLoadAssignment.cluster_name`, ...).
    pub fn pack<T: Message + Name>(message: &T) -> Result<Self, ResourceError> {
        Self::try_from(any::pack(message))
    }

    /// The name that clients subscribe to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type URL, such as `type.googleapis.com/envoy.config.cluster.v3.Cluster`.
    pub fn type_url(&self) -> &str {
        &self.any.type_url
    }

    /// The encoded resource.
    pub fn any(&self) -> &Any {
        &self.any
    }

    /// The hash of the encoded resource, sent as the version of the resource in delta.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// Reads the name off the resource; a `envoy.service.discovery.v3.Resource` is unwrapped and names what it holds.
impl TryFrom<Any> for Resource {
    type Error = ResourceError;

    fn try_from(any: Any) -> Result<Self, ResourceError> {
        if let Ok(wrapper) = any::unpack::<discovery::Resource>(&any) {
            let inner = wrapper
                .resource
                .ok_or_else(|| ResourceError::EmptyWrapper(wrapper.name.clone()))?;
            if wrapper.name.is_empty() {
                return Self::try_from(inner);
            }
            return Ok(Self::named(wrapper.name, inner));
        }
        match any::resource_name(&any) {
            None => Err(ResourceError::Unnamed(any.type_url)),
            Some(name) if name.is_empty() => Err(ResourceError::EmptyName(any.type_url)),
            Some(name) => Ok(Self::named(name, any)),
        }
    }
}

/// Which nodes see a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Every node.
    All,
    /// The node with this `node.id`, in place of a resource of the same name that every node sees.
    Node(String),
    /// The node with this `node.id`, unless somebody put a resource of that name: secrets that the control plane issues itself.
    Issued(String),
}

/// One step of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Adds or replaces a resource.
    Put(Scope, Resource),
    /// Removes a resource by type URL and name; it need not exist.
    Delete(Scope, String, String),
}

impl Change {
    pub(crate) fn type_url(&self) -> &str {
        match self {
            Self::Put(_, resource) => resource.type_url(),
            Self::Delete(_, type_url, _) => type_url,
        }
    }
}

/// The resources of one type in one layer.
#[derive(Debug, Default)]
struct TypeSet {
    /// When this set last changed.
    version: Version,
    resources: BTreeMap<String, Arc<Resource>>,
}

type Layer = HashMap<String, TypeSet>;

/// All layers, and the version of the latest change.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    version: Version,
    layers: HashMap<Scope, Layer>,
}

/// What one node sees: its own layer over the common one over what was issued to it.
pub(crate) struct View<'a> {
    layers: [Option<&'a Layer>; 3],
}

/// What a batch really changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Changed {
    pub(crate) scope: Scope,
    pub(crate) type_url: String,
    pub(crate) name: String,
}

impl Snapshot {
    /// Whether a change makes a difference.
    pub(crate) fn differs(&self, change: &Change) -> bool {
        match change {
            Change::Put(scope, resource) => {
                let current = self.in_scope(scope, resource.type_url(), resource.name());
                current != Some(resource)
            }
            Change::Delete(scope, type_url, name) => self.in_scope(scope, type_url, name).is_some(),
        }
    }

    /// Applies `changes` as one new version and returns what differs from before: nothing, and no new version, for a repetition.
    pub(crate) fn apply(&mut self, changes: Vec<Change>) -> Vec<Changed> {
        let version = self.version + 1;
        let mut changed = Vec::new();
        for change in changes {
            if self.differs(&change) {
                changed.push(self.apply_one(change, version));
            }
        }
        if !changed.is_empty() {
            self.version = version;
        }
        changed
    }

    fn apply_one(&mut self, change: Change, version: Version) -> Changed {
        let (scope, type_url, name, resource) = match change {
            Change::Put(scope, resource) => {
                let (type_url, name) = (resource.type_url().to_owned(), resource.name().to_owned());
                (scope, type_url, name, Some(resource))
            }
            Change::Delete(scope, type_url, name) => (scope, type_url, name, None),
        };
        let layer = self.layers.entry(scope.clone()).or_default();
        let set = layer.entry(type_url.clone()).or_default();
        set.version = version;
        match resource {
            Some(resource) => set.resources.insert(name.clone(), Arc::new(resource)),
            None => set.resources.remove(&name),
        };
        Changed { scope, type_url, name }
    }

    /// The version of the latest change.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn view(&self, node: &str) -> View<'_> {
        let layer = |scope| self.layers.get(&scope);
        View {
            layers: [
                layer(Scope::Node(node.to_owned())),
                layer(Scope::All),
                layer(Scope::Issued(node.to_owned())),
            ],
        }
    }

    /// The resource of this name in one scope.
    pub(crate) fn in_scope(&self, scope: &Scope, type_url: &str, name: &str) -> Option<&Resource> {
        let set = self.layers.get(scope)?.get(type_url)?;
        set.resources.get(name).map(Arc::as_ref)
    }

    /// Every resource with its scope, in the order of type and name.
    pub(crate) fn list(&self) -> Vec<(Scope, Arc<Resource>)> {
        let mut all: Vec<_> = self.layers.iter().collect();
        all.sort_by_key(|(scope, _)| *scope);
        let resources = all.into_iter().flat_map(|(scope, layer)| {
            let sets: BTreeMap<_, _> = layer.iter().collect();
            let resources: Vec<_> = sets
                .values()
                .flat_map(|set| set.resources.values())
                .map(|resource| (scope.clone(), resource.clone()))
                .collect();
            resources
        });
        resources.collect()
    }

    /// The names of one scope, by type URL.
    pub(crate) fn names(&self, scope: &Scope) -> Vec<(String, String)> {
        let layer = self.layers.get(scope).into_iter().flatten();
        layer
            .flat_map(|(type_url, set)| {
                let names = set.resources.keys();
                names.map(move |name| (type_url.clone(), name.clone()))
            })
            .collect()
    }
}

impl<'a> View<'a> {
    fn sets(&self, type_url: &str) -> impl DoubleEndedIterator<Item = &'a TypeSet> {
        let layers = self.layers.into_iter().flatten();
        layers.filter_map(move |layer| layer.get(type_url))
    }

    /// The resource this node sees under `name`.
    pub(crate) fn get(&self, type_url: &str, name: &str) -> Option<&'a Arc<Resource>> {
        self.sets(type_url).find_map(|set| set.resources.get(name))
    }

    /// Everything of a type that this node sees, in the order of names.
    pub(crate) fn all(&self, type_url: &str) -> BTreeMap<&'a str, &'a Arc<Resource>> {
        let sets = self.sets(type_url).rev();
        sets.flat_map(|set| &set.resources)
            .map(|(name, resource)| (name.as_str(), resource))
            .collect()
    }

    /// When what this node sees of a type last changed; 0 when there never was any.
    pub(crate) fn version(&self, type_url: &str) -> Version {
        let versions = self.sets(type_url).map(|set| set.version);
        versions.max().unwrap_or_default()
    }
}

impl Scope {
    /// Whether the node with this `node.id` is in the scope.
    pub(crate) fn includes(&self, node: &str) -> bool {
        match self {
            Self::All => true,
            Self::Node(id) | Self::Issued(id) => id == node,
        }
    }
}

/// The place of a type in a push: what others refer to goes first (make before break), so CDS, EDS, LDS, RDS and then the rest.
pub(crate) fn push_order(type_url: &str) -> usize {
    const ORDER: [&str; 9] = [
        type_url::SECRET,
        type_url::CLUSTER,
        type_url::CLUSTER_LOAD_ASSIGNMENT,
        type_url::LB_ENDPOINT,
        type_url::LISTENER,
        type_url::SCOPED_ROUTE_CONFIGURATION,
        type_url::ROUTE_CONFIGURATION,
        type_url::VIRTUAL_HOST,
        type_url::TYPED_EXTENSION_CONFIG,
    ];
    let place = ORDER.iter().position(|known| *known == type_url);
    place.unwrap_or(ORDER.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str, value: u8) -> Resource {
        let any = Any { type_url: "t".into(), value: vec![value] };
        Resource::named(name, any)
    }

    #[test]
    fn a_repeated_put_changes_nothing_and_makes_no_version() {
        let mut snapshot = Snapshot::default();
        let put = |value| vec![Change::Put(Scope::All, resource("a", value))];
        assert_eq!(snapshot.apply(put(1)).len(), 1);
        assert_eq!(snapshot.apply(put(1)), []);
        assert_eq!(snapshot.version(), 1);
        assert_eq!(snapshot.apply(put(2)).len(), 1);
        assert_eq!(snapshot.version(), 2);
    }

    #[test]
    fn a_node_sees_its_own_resource_over_the_common_one() {
        let mut snapshot = Snapshot::default();
        let own = Scope::Node("n".into());
        snapshot.apply(vec![
            Change::Put(Scope::All, resource("a", 1)),
            Change::Put(Scope::All, resource("b", 1)),
            Change::Put(own.clone(), resource("a", 2)),
            Change::Put(Scope::Issued("n".into()), resource("b", 3)),
        ]);
        let value = |view: View<'_>, name| view.get("t", name).map(|found| found.any.value[0]);
        assert_eq!(value(snapshot.view("n"), "a"), Some(2));
        assert_eq!(value(snapshot.view("n"), "b"), Some(1));
        assert_eq!(value(snapshot.view("other"), "a"), Some(1));
        assert_eq!(snapshot.view("n").all("t").len(), 2);
        snapshot.apply(vec![Change::Delete(own, "t".into(), "a".into())]);
        assert_eq!(value(snapshot.view("n"), "a"), Some(1));
    }

    #[test]
    fn wrapped_resources_take_the_name_of_the_wrapper() {
        let wrapper = discovery::Resource {
            name: "outer".into(),
            resource: Some(resource("x", 1).any),
            ..Default::default()
        };
        let unwrapped = Resource::pack(&wrapper).expect("named");
        assert_eq!((unwrapped.name(), unwrapped.type_url()), ("outer", "t"));
        let unnamed = Resource::try_from(Any::default());
        assert_eq!(unnamed, Err(ResourceError::Unnamed(String::new())));
    }
}
