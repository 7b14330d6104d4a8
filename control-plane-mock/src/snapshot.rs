//! What the control plane has: resources by type and name, in layers that give each node its own view.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use proto::type_url;

use crate::resource::Resource;

/// A point in the history of what the control plane serves. Every change that changes anything makes a new, higher one.
///
/// It is sent as `version_info` (state of the world) and `system_version_info` (delta).
pub type Version = u64;

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
    /// The resources' names by alias.
    aliases: HashMap<String, String>,
}

impl TypeSet {
    fn insert(&mut self, resource: Resource) {
        self.remove(resource.name());
        for alias in resource.aliases() {
            self.aliases.insert(alias.clone(), resource.name().to_owned());
        }
        self.resources.insert(resource.name().to_owned(), Arc::new(resource));
    }

    fn remove(&mut self, name: &str) {
        let old = self.resources.remove(name);
        for alias in old.iter().flat_map(|old| old.aliases()) {
            self.aliases.remove(alias);
        }
    }
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
            Some(resource) => set.insert(resource),
            None => set.remove(&name),
        }
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
        let layers: BTreeMap<_, _> = self.layers.iter().collect();
        let mut list = Vec::new();
        for (scope, layer) in layers {
            let sets: BTreeMap<_, _> = layer.iter().collect();
            for resource in sets.values().flat_map(|set| set.resources.values()) {
                list.push((scope.clone(), resource.clone()));
            }
        }
        list
    }

    /// The type URL and name of everything in one scope.
    pub(crate) fn names(&self, scope: &Scope) -> HashSet<(String, String)> {
        let layer = self.layers.get(scope).into_iter().flatten();
        let names = layer.flat_map(|(type_url, set)| {
            set.resources.keys().map(move |name| (type_url.clone(), name.clone()))
        });
        names.collect()
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

    /// The name of the resource that this node sees under a name or an alias; the name itself when there is none.
    pub(crate) fn resolve_alias<'b>(&self, type_url: &str, name: &'b str) -> &'b str
    where
        'a: 'b,
    {
        if self.get(type_url, name).is_some() {
            return name;
        }
        let found = self.sets(type_url).find_map(|set| set.aliases.get(name));
        found.map_or(name, String::as_str)
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
    use proto::google::protobuf::Any;

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
        let value = |view: View<'_>, name| view.get("t", name).map(|found| found.any().value[0]);
        assert_eq!(value(snapshot.view("n"), "a"), Some(2));
        assert_eq!(value(snapshot.view("n"), "b"), Some(1));
        assert_eq!(value(snapshot.view("other"), "a"), Some(1));
        assert_eq!(snapshot.view("n").all("t").len(), 2);
        snapshot.apply(vec![Change::Delete(own, "t".into(), "a".into())]);
        assert_eq!(value(snapshot.view("n"), "a"), Some(1));
    }
}
