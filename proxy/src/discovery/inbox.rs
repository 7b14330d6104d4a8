//! What reaches the discovery loop, and the feeds that bring it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use xds_client::{Event, SubscriptionHandle};

use super::sources::Subscribed;
use crate::config::source::SourceKind;
use crate::upstream::cluster::Cluster;

/// Something happened.
pub enum Notice {
    /// On the subscription to clusters.
    Clusters(Event),
    /// A DNS cluster has its first answers.
    Resolved(Arc<Cluster>),
    /// The hosts of a warming cluster have been checked once.
    Checked(Arc<Cluster>),
    /// On the subscription to a source's endpoints.
    Endpoints(SourceKind, Event),
    /// On the subscription to a source's secrets.
    Secrets(SourceKind, Event),
    /// Something was moved into these folders, in which secrets have files.
    Moved(HashSet<PathBuf>),
    /// On the subscription to listeners.
    Listeners(Event),
    /// On the subscription to a source's routes.
    Routes(SourceKind, Event),
    /// A control plane's time to answer is over, before the resources of an earlier process are used.
    Grace,
}

impl Notice {
    /// What came together is applied in this order, which makes before it breaks.
    pub fn order(&self) -> u8 {
        match self {
            Notice::Clusters(_) => 0,
            Notice::Resolved(_) | Notice::Checked(_) => 1,
            Notice::Endpoints(..) => 2,
            Notice::Secrets(..) => 3,
            Notice::Moved(_) => 4,
            Notice::Listeners(_) => 5,
            Notice::Routes(..) => 6,
            Notice::Grace => 7,
        }
    }
}

/// The way to the discovery loop.
pub type Inbox = mpsc::UnboundedSender<Notice>;

/// A subscription whose events go to the discovery loop. Dropping it ends the subscription.
pub struct Feed {
    /// Changes the names.
    pub handle: SubscriptionHandle,
    _pump: AbortOnDropHandle<()>,
    _lease: Option<Rc<()>>,
}

impl Feed {
    /// Starts forwarding the events of a subscription.
    pub fn start(
        subscribed: Subscribed,
        inbox: &Inbox,
        notice: impl Fn(Event) -> Notice + 'static,
    ) -> Self {
        let Subscribed { mut subscription, lease } = subscribed;
        let handle = subscription.handle();
        let inbox = inbox.clone();
        let pump = tokio::task::spawn_local(async move {
            while let Some(event) = subscription.next().await {
                if inbox.send(notice(event)).is_err() {
                    break;
                }
            }
        });
        Feed { handle, _pump: AbortOnDropHandle::new(pump), _lease: lease }
    }
}
