//! A resource as it is served: encoded once, with its name and the hash that is its version.

use std::time::Duration;

use prost::{Message, Name};
use proto::envoy::service::discovery::v3 as discovery;
use proto::google::protobuf::Any;
use proto::{any, convert};
use xxhash_rust::xxh64::xxh64;

/// One xDS resource, encoded once and shared by all that send it.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    name: String,
    any: Any,
    version: String,
    aliases: Vec<String>,
    ttl: Option<Duration>,
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
    /// The time to live is negative or out of range.
    #[error("ttl of resource {name:?}: {error}")]
    Ttl {
        /// The resource.
        name: String,
        /// What is wrong with the time.
        error: convert::DurationError,
    },
    /// A `Resource` wrapper without a resource in it.
    #[error("envoy.service.discovery.v3.Resource {0:?} holds no resource")]
    EmptyWrapper(String),
}

impl Resource {
    /// A resource of this name, whatever `any` holds. This is how a test serves something broken.
    pub fn named(name: impl Into<String>, any: Any) -> Self {
        let version = format!("{:016x}", xxh64(&any.value, 0));
        Self { name: name.into(), any, version, aliases: Vec::new(), ttl: None }
    }

    /// Packs `message`, which names itself (`Cluster.name`, `ClusterLoadAssignment.cluster_name`, ...).
    pub fn pack<T: Message + Name>(message: &T) -> Result<Self, ResourceError> {
        Self::try_from(any::pack(message))
    }

    /// The resource with other names that clients may subscribe to (delta only): VHDS clients ask for `<route>/<host>`.
    pub fn with_aliases(mut self, aliases: Vec<String>) -> Self {
        self.aliases = aliases;
        self
    }

    /// The resource with a time after which clients drop it unless it is sent again
    /// ([`push_again`](crate::ControlPlane::push_again)).
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        let seed = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.version = format!("{:016x}", xxh64(&self.any.value, seed));
        self.ttl = Some(ttl);
        self
    }

    /// The other names that clients may subscribe to.
    pub fn aliases(&self) -> &[String] {
        &self.aliases
    }

    /// How long clients keep the resource; for ever when `None`.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
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

/// Reads the name off the resource. A `envoy.service.discovery.v3.Resource` is unwrapped: its `name`, `aliases` and `ttl` are those
/// of what it holds.
impl TryFrom<Any> for Resource {
    type Error = ResourceError;

    fn try_from(any: Any) -> Result<Self, ResourceError> {
        if let Ok(wrapper) = any::unpack::<discovery::Resource>(&any) {
            return Self::unwrap_from(wrapper);
        }
        match any::resource_name(&any) {
            None => Err(ResourceError::Unnamed(any.type_url)),
            Some(name) if name.is_empty() => Err(ResourceError::EmptyName(any.type_url)),
            Some(name) => Ok(Self::named(name, any)),
        }
    }
}

impl Resource {
    fn unwrap_from(wrapper: discovery::Resource) -> Result<Self, ResourceError> {
        let inner =
            wrapper.resource.ok_or_else(|| ResourceError::EmptyWrapper(wrapper.name.clone()))?;
        let resource = match wrapper.name.as_str() {
            "" => Self::try_from(inner)?,
            name => Self::named(name, inner),
        };
        let resource = resource.with_aliases(wrapper.aliases);
        let Some(ttl) = wrapper.ttl else {
            return Ok(resource);
        };
        match convert::duration(&ttl) {
            Ok(ttl) => Ok(resource.with_ttl(ttl)),
            Err(error) => Err(ResourceError::Ttl { name: resource.name, error }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_resources_take_the_name_of_the_wrapper() {
        let wrapper = discovery::Resource {
            name: "outer".into(),
            resource: Some(Any { type_url: "t".into(), value: vec![1] }),
            ..Default::default()
        };
        let unwrapped = Resource::pack(&wrapper).expect("named");
        assert_eq!((unwrapped.name(), unwrapped.type_url()), ("outer", "t"));
        let unnamed = Resource::try_from(Any::default());
        assert_eq!(unnamed, Err(ResourceError::Unnamed(String::new())));
    }
}
