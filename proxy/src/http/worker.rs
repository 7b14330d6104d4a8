//! What a worker's connections use in common.

use std::rc::Rc;
use std::sync::Arc;

use crate::overload::Overload;
use crate::upstream::cluster::ClusterRegistry;
use crate::upstream::pool::Pools;

/// One worker, as its connections see it.
pub struct Worker {
    /// The worker's connections to hosts.
    pub pools: Rc<Pools>,
    /// Every cluster, shared by all workers.
    pub registry: Arc<ClusterRegistry>,
    /// Who this proxy is.
    pub identity: Arc<Identity>,
    /// What the process does about overload.
    pub overload: Arc<Overload>,
}

/// The node's identity as headers tell it.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// `node.cluster`
    pub cluster: String,
    /// `node.id`
    pub id: String,
}
