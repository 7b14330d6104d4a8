//! The order in which a process starts, as Envoy's: clusters before what needs them, listeners last.

use std::sync::Arc;

use proto::google::protobuf::Any;
use tokio::sync::watch;

use super::clusters::{Clusters, is_primary};
use super::listeners::Listeners;
use super::sources::Sources;
use crate::config::ConfigError;
use crate::config::bootstrap::Bootstrap;
use crate::config::cluster::Cluster;
use crate::config::listener::Listener;
use crate::config::source::ConfigSource;

/// How far the start has come. Each stage waits for the resources of the one before, or for their initial fetch timeouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing is done yet.
    Begin,
    /// Static clusters that need no management server (Envoy's `PRE_INITIALIZING`).
    PrimaryClusters,
    /// Static clusters whose endpoints a management server has.
    SecondaryClusters,
    /// Clusters of CDS.
    DynamicClusters,
    /// Static listeners, and those of LDS.
    Listeners,
    /// Everything is there (Envoy's `LIVE`).
    Live,
    /// The bootstrap cannot be used.
    Failed,
}

/// What the start still has to do.
pub struct Startup {
    stage: Stage,
    clusters: Vec<(Arc<Cluster>, Any)>,
    listeners: Vec<(Arc<Listener>, Any)>,
    cds: Option<ConfigSource>,
    lds: Option<ConfigSource>,
    outcome: watch::Sender<Option<Result<(), ConfigError>>>,
}

/// Where a start tells its end, once it has come.
pub type Outcome = watch::Receiver<Option<Result<(), ConfigError>>>;

impl Startup {
    /// A start with this bootstrap, and where it tells its end.
    pub fn new(bootstrap: &Bootstrap) -> (Self, Outcome) {
        let (outcome, told) = watch::channel(None);
        let startup = Startup {
            stage: Stage::Begin,
            clusters: bootstrap.clusters.clone(),
            listeners: bootstrap.listeners.clone(),
            cds: bootstrap.cds.clone(),
            lds: bootstrap.lds.clone(),
            outcome,
        };
        (startup, told)
    }

    /// How far the start has come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Goes as far as it can.
    pub fn advance(
        &mut self,
        sources: &mut Sources,
        clusters: &mut Clusters,
        listeners: &mut Listeners,
    ) {
        while self.stage < Stage::Live && clusters.is_settled() && listeners.is_settled() {
            match self.next(sources, clusters, listeners) {
                Ok(stage) => self.stage = stage,
                Err(error) => {
                    self.stage = Stage::Failed;
                    self.outcome.send_replace(Some(Err(error)));
                }
            }
        }
    }

    /// Begins the next stage.
    fn next(
        &mut self,
        sources: &mut Sources,
        clusters: &mut Clusters,
        listeners: &mut Listeners,
    ) -> Result<Stage, ConfigError> {
        match self.stage {
            Stage::Begin => {
                let primary = self.clusters.iter().filter(|(config, _)| is_primary(config));
                clusters.add_static(sources, primary)?;
                Ok(Stage::PrimaryClusters)
            }
            Stage::PrimaryClusters => {
                let secondary = self.clusters.iter().filter(|(config, _)| !is_primary(config));
                clusters.add_static(sources, secondary)?;
                self.clusters = Vec::new();
                Ok(Stage::SecondaryClusters)
            }
            Stage::SecondaryClusters => {
                if let Some(cds) = self.cds.take() {
                    clusters.subscribe(sources, &cds)?;
                }
                Ok(Stage::DynamicClusters)
            }
            Stage::DynamicClusters => {
                clusters.started();
                listeners.add_static(sources, &std::mem::take(&mut self.listeners))?;
                if let Some(lds) = self.lds.take() {
                    listeners.subscribe(sources, &lds)?;
                }
                Ok(Stage::Listeners)
            }
            Stage::Listeners | Stage::Live | Stage::Failed => {
                self.outcome.send_replace(Some(Ok(())));
                Ok(Stage::Live)
            }
        }
    }
}
