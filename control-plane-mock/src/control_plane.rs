//! The control plane as a test holds it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::envoy::service::load_stats::v3::LoadStatsRequest;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::core::Shared;
use crate::event::Events;
use crate::folder::FolderError;
use crate::identity::{Identity, IdentityError, IdentityOptions, Svid};
use crate::resource::Resource;
use crate::scenario::{Fault, FaultId};
use crate::snapshot::{Change, Scope, Version};
use crate::{ads, api, folder};

/// How a control plane is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where xDS is served (gRPC without TLS): a free port of the loopback address unless set.
    pub listen: SocketAddr,
    /// Where the HTTP API is served; nowhere unless set.
    pub api_listen: Option<SocketAddr>,
    /// The certificate authority behind SDS.
    pub identity: IdentityOptions,
    /// Whether the endpoints of a changed cluster are sent again with it, as istiod does: true unless set. Envoy warms such a
    /// cluster anew and waits for its endpoints; go-control-plane does not send them.
    pub resend_endpoints: bool,
    /// How often clients that offer load reports are asked for them; they are refused unless set.
    pub load_interval: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            api_listen: None,
            identity: IdentityOptions::default(),
            resend_endpoints: true,
            load_interval: None,
        }
    }
}

/// Why a control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no certificate authority.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// What a client made of the latest push that it was waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `node.id` of the client.
    pub node: String,
    /// Version of the push.
    pub version: Version,
    /// When the answer came.
    pub at: Instant,
    /// The message of a NACK; `None` for an ACK.
    pub error: Option<String>,
}

/// The awaited answer did not come in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no answer in {timeout:?}; {state}")]
pub struct WaitError {
    timeout: Duration,
    /// What the clients are subscribed to and waiting for.
    state: String,
}

/// A running control plane. It stops when dropped.
pub struct ControlPlane {
    shared: Arc<Shared>,
    addr: SocketAddr,
    api_addr: Option<SocketAddr>,
    tasks: JoinSet<()>,
}

impl ControlPlane {
    /// Listens and serves, with no resources yet.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let identity = Identity::new(options.identity)?;
        let rotation = identity.rotation_period();
        let shared = Shared::new(identity, options.resend_endpoints, options.load_interval);
        let mut tasks = JoinSet::new();

        let (listener, addr) = listen(options.listen).await?;
        tasks.spawn(ads::service::serve(listener, shared.clone()));
        tasks.spawn(rotate_for_ever(shared.clone(), rotation));
        let mut api_addr = None;
        if let Some(address) = options.api_listen {
            let (listener, addr) = listen(address).await?;
            tasks.spawn(api::serve(listener, shared.clone()));
            api_addr = Some(addr);
        }
        Ok(Self { shared, addr, api_addr, tasks })
    }

    /// Starts on a free port of the loopback address, without the HTTP API.
    pub async fn start_default() -> Result<Self, StartError> {
        Self::start(Options::default()).await
    }

    /// Serves what lies in a folder of YAML and JSON files too, and follows its changes. See the crate's documentation.
    ///
    /// Broken files are no error but [`EventKind::FileBroken`](crate::EventKind::FileBroken).
    pub async fn serve_folder(&mut self, path: impl Into<PathBuf>) -> Result<(), FolderError> {
        let follow = folder::watch(path.into(), self.shared.clone()).await?;
        self.tasks.spawn(follow);
        Ok(())
    }

    /// Serves xDS on a unix socket too, as agents next to a proxy do.
    ///
    /// # Errors
    /// The socket cannot be made: the path is taken or its folder is not there.
    pub fn serve_socket(&mut self, path: impl AsRef<Path>) -> std::io::Result<()> {
        let listener = UnixListener::bind(path)?;
        self.tasks.spawn(ads::service::serve_unix(listener, self.shared.clone()));
        Ok(())
    }

    /// Where xDS is served.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the HTTP API is served, if it is.
    pub fn api_addr(&self) -> Option<SocketAddr> {
        self.api_addr
    }

    /// Adds or replaces resources that every node sees: one push for each type and client. Returns the version to wait for.
    pub fn put(&self, resources: impl IntoIterator<Item = Resource>) -> Version {
        let put = |resource| Change::Put(Scope::All, resource);
        self.apply(resources.into_iter().map(put).collect())
    }

    /// Removes resources that every node sees. Names that do not exist are no error.
    pub fn delete(
        &self,
        type_url: &str,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Version {
        let delete = |name: _| Change::Delete(Scope::All, type_url.to_owned(), Into::into(name));
        self.apply(names.into_iter().map(delete).collect())
    }

    /// Makes `resources` what the node with this `node.id` sees on top of what every node sees, in place of what it was before.
    pub fn set_node_view(
        &self,
        node_id: &str,
        resources: impl IntoIterator<Item = Resource>,
    ) -> Version {
        let scope = Scope::Node(node_id.to_owned());
        self.shared.update(|core| core.replace(&scope, resources))
    }

    /// Applies several changes at once; what is put is pushed before what is deleted.
    pub fn apply(&self, changes: Vec<Change>) -> Version {
        self.shared.update(|core| core.apply(changes))
    }

    /// Sends again everything of a type, or of all types, to the clients with this `node.id`, or to all clients.
    pub fn push_again(&self, type_url: Option<&str>, node: Option<&str>) {
        self.shared.update(|core| core.push_again(type_url, node));
    }

    /// Waits until the client with this `node.id`, or every client that is subscribed to the type (at least one), has answered a
    /// push of at least `version` and has nothing of the type left to answer. Returns the first NACK, or the last ACK.
    ///
    /// A client that subscribes by name must be subscribed to something that the version changed. Without a change of the type in
    /// that version it is the latest change before that counts.
    pub async fn wait_ack(
        &self,
        type_url: &str,
        version: Version,
        node: Option<&str>,
        timeout: Duration,
    ) -> Result<Answer, WaitError> {
        self.shared.wait_ack(type_url, version, node, timeout).await
    }

    /// Waits until `condition` holds for the list of clients, or returns false after `timeout`.
    pub async fn wait_until(
        &self,
        timeout: Duration,
        condition: impl Fn(&[Client]) -> bool,
    ) -> bool {
        let check = || condition(&self.clients()).then_some(());
        self.shared.wait(timeout, check).await.is_some()
    }

    /// Waits until `is_enough` holds for the load reports so far, or `timeout` is over; gives them.
    pub async fn load_reports(
        &self,
        timeout: Duration,
        is_enough: impl Fn(&[LoadStatsRequest]) -> bool,
    ) -> Vec<LoadStatsRequest> {
        let check = || is_enough(&self.shared.lock().load_reports).then_some(());
        self.shared.wait(timeout, check).await;
        self.shared.lock().load_reports.clone()
    }

    /// The open streams and what they are subscribed to.
    pub fn clients(&self) -> Vec<Client> {
        self.shared.clients()
    }

    /// Every event from now on.
    pub fn events(&self) -> Events {
        self.shared.events.subscribe()
    }

    /// Makes something go wrong from now on.
    pub fn arm(&self, fault: impl Into<Fault>) -> FaultId {
        self.shared.update(|core| core.faults.arm(fault.into()))
    }

    /// Ends a fault. What it held back is pushed. Returns whether there was such a fault.
    pub fn disarm(&self, id: FaultId) -> bool {
        self.shared.update(|core| {
            let found = core.faults.disarm(id);
            core.flush_all();
            found
        })
    }

    /// Ends all faults. What they held back is pushed.
    pub fn clear_faults(&self) {
        self.shared.update(|core| {
            core.faults.clear();
            core.flush_all();
        });
    }

    /// Ends the streams of the clients with this `node.id`, or all, with `UNAVAILABLE`.
    pub fn drop_streams(&self, node: Option<&str>) {
        self.shared.update(|core| core.drop_streams(node));
    }

    /// The trust bundle of the certificate authority, PEM encoded.
    pub fn trust_bundle(&self) -> String {
        self.shared.lock().identity.bundle()
    }

    /// Issues a certificate for a SPIFFE ID, for a test's own use.
    pub fn issue_svid(&self, spiffe_id: &str) -> Result<Svid, IdentityError> {
        self.shared.lock().identity.svid(spiffe_id)
    }

    /// Issues all certificates anew and pushes them.
    pub fn rotate_certificates(&self) -> Version {
        self.shared.update(|core| core.rotate())
    }

    /// Makes a new authority, issues all certificates and the bundle anew and pushes them. The bundle holds the old authority too.
    pub fn rotate_authority(&self) -> Result<Version, IdentityError> {
        self.shared.update(|core| {
            core.identity.rotate_ca()?;
            Ok(core.rotate())
        })
    }

    /// Stops, closes all connections and frees the addresses before it returns.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let error = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let bound = listener.local_addr().map_err(error)?;
    Ok((listener, bound))
}

/// Issues certificates anew when half of their lifetime is over.
async fn rotate_for_ever(shared: Arc<Shared>, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        shared.update(|core| core.rotate());
    }
}

impl Shared {
    /// Waits until `check` finds something, or gives up after `timeout`.
    pub(crate) async fn wait<T>(
        &self,
        timeout: Duration,
        check: impl Fn() -> Option<T>,
    ) -> Option<T> {
        let found = async {
            loop {
                // Registered before the check, so that no change between the two is missed.
                let progress = self.progress.notified();
                if let Some(found) = check() {
                    return found;
                }
                progress.await;
            }
        };
        tokio::time::timeout(timeout, found).await.ok()
    }

    pub(crate) async fn wait_ack(
        &self,
        type_url: &str,
        version: Version,
        node: Option<&str>,
        timeout: Duration,
    ) -> Result<Answer, WaitError> {
        let check = || self.answer(type_url, version, node);
        let answer = self.wait(timeout, check).await;
        answer.ok_or_else(|| WaitError { timeout, state: self.describe(type_url, node) })
    }

    /// The answer that the clients gave to this version of a type; `None` while one of them has not.
    fn answer(&self, type_url: &str, version: Version, node: Option<&str>) -> Option<Answer> {
        let core = self.lock();
        let mut last: Option<Answer> = None;
        for stream in core.streams.values() {
            let Some(subscription) = stream.subscription(type_url) else {
                continue;
            };
            if node.is_some_and(|node| node != stream.node.id) {
                continue;
            }
            let latest = core.snapshot.view(&stream.node.id).version(type_url);
            let answered = subscription.answer_to(version.min(latest))?;
            let answer = Answer {
                node: stream.node.id.clone(),
                version: answered.version,
                at: answered.at,
                error: answered.error.clone(),
            };
            if answer.error.is_some() {
                return Some(answer);
            }
            last = last.filter(|last| last.at > answer.at).or(Some(answer));
        }
        last
    }
}
