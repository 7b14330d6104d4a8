//! The new process, as the old one sees it.
//!
//! The old process keeps its listening sockets until it ends. If the new one dies meanwhile, it goes on as before, and
//! takes the connections that wait.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::getuid;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use super::message::{self, Answer, Ask, MAX_ASK, PROTOCOL};
use crate::admin::Serving;
use crate::downstream::manager::ListenerManager;
use crate::downstream::socket::Acceptor;
use crate::io::{Address, Stream, descriptor};
use crate::server::lifecycle::Lifecycle;
use crate::telemetry::stats::{Counts, Store};

/// A new process greets at once.
const HELLO_TIME: Duration = Duration::from_secs(5);
/// The old process stays so long at least, should the new one die soon.
const PROBATION: Duration = Duration::from_secs(5);

/// What the new process takes over.
pub struct Estate {
    /// The listeners.
    pub listeners: Rc<RefCell<ListenerManager>>,
    /// The process.
    pub lifecycle: Rc<Lifecycle>,
    /// Every statistic.
    pub store: Arc<Store>,
    /// The admin interface, once it is there.
    pub admin: RefCell<Option<Rc<Serving>>>,
    /// `--restart-epoch`
    pub epoch: u32,
    /// A new process is here already.
    is_busy: Cell<bool>,
}

impl Estate {
    /// What a process of this epoch has.
    pub fn new(
        listeners: &Rc<RefCell<ListenerManager>>,
        lifecycle: &Rc<Lifecycle>,
        store: &Arc<Store>,
        epoch: u32,
    ) -> Rc<Self> {
        Rc::new(Estate {
            listeners: Rc::clone(listeners),
            lifecycle: Rc::clone(lifecycle),
            store: Arc::clone(store),
            admin: RefCell::default(),
            epoch,
            is_busy: Cell::default(),
        })
    }
}

/// Waits for new processes, one at a time.
pub async fn wait(acceptor: Acceptor, estate: Rc<Estate>) {
    loop {
        match acceptor.accept().await {
            Ok((Stream::Unix(stream), _, _)) => {
                spawn_local(serve(stream, Rc::clone(&estate)));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "hot restart: cannot accept; trying again");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(mut stream: UnixStream, estate: Rc<Estate>) {
    if let Err(reason) = greet(&mut stream, &estate).await {
        tracing::warn!("hot restart refused: {reason}");
        let _ = message::send(&mut stream, &Answer::Refused { reason }).await;
        return;
    }
    estate.is_busy.set(true);
    tracing::info!("hot restart: a process of epoch {} takes over", estate.epoch + 1);
    // A grandparent has nothing to wait for any more.
    estate.lifecycle.succeed();
    let mut takeover = TakeOver { stream, estate: &estate, drained: None };
    let ended = takeover.run().await;
    if let Err(error) = ended {
        tracing::warn!(%error, "hot restart: the new process is gone; this one goes on");
        takeover.undo();
        estate.is_busy.set(false);
    }
}

/// Hears who is there. An error says why there will be no take-over.
async fn greet(stream: &mut UnixStream, estate: &Estate) -> Result<(), String> {
    let owner = stream.peer_cred().map_err(|error| error.to_string())?.uid();
    let own = getuid();
    if owner != own.as_raw() && owner != 0 {
        return Err(format!("the new process runs as user {owner}, this one as {}", own.as_raw()));
    }
    let hello = timeout(HELLO_TIME, message::receive(stream, MAX_ASK)).await;
    let hello: io::Result<Ask> = hello.unwrap_or_else(|elapsed| Err(elapsed.into()));
    let Ask::Hello { protocol, epoch } = hello.map_err(|error| error.to_string())? else {
        return Err("the new process does not greet".to_owned());
    };
    if protocol != PROTOCOL {
        return Err(format!(
            "the new process speaks version {protocol} of the protocol, this one speaks {PROTOCOL}"
        ));
    }
    if epoch != estate.epoch + 1 {
        return Err(format!("the new process has epoch {epoch}, this one has {}", estate.epoch));
    }
    if estate.is_busy.get() {
        return Err(format!("another process of epoch {epoch} takes over already"));
    }
    let lifecycle = &estate.lifecycle;
    let (started, generation) = (lifecycle.first_start(), lifecycle.generation() + 1);
    let welcome = Answer::Welcome { started, generation };
    message::send(stream, &welcome).await.map_err(|error| error.to_string())
}

/// A take-over under way.
struct TakeOver<'a> {
    stream: UnixStream,
    estate: &'a Estate,
    /// When the new process began to serve.
    drained: Option<Instant>,
}

impl TakeOver<'_> {
    /// Answers until this process has to end. An error is the new process's death.
    async fn run(&mut self) -> io::Result<()> {
        loop {
            match message::receive(&mut self.stream, MAX_ASK).await? {
                Ask::Hello { .. } => self.say(&Answer::Done).await?,
                Ask::Sockets { address } => self.share(&parsed(&address)).await?,
                Ask::Admin => self.share_admin().await?,
                Ask::Release { address } => {
                    self.estate.listeners.borrow().release(&parsed(&address));
                    self.say(&Answer::Done).await?;
                }
                Ask::Drain => {
                    tracing::info!("hot restart: the new process serves; draining");
                    self.estate.listeners.borrow_mut().hand_over();
                    self.drained = Some(Instant::now());
                    self.say(&Answer::Done).await?;
                }
                Ask::Stats => {
                    let over = self.is_over();
                    self.report(over).await?;
                    if over {
                        tracing::info!("hot restart: nothing is left to do; ending");
                        self.estate.lifecycle.retire();
                        return Ok(());
                    }
                }
                Ask::Terminate => {
                    tracing::info!("hot restart: the new process ends this one");
                    self.estate.lifecycle.retire();
                    return self.report(true).await;
                }
            }
        }
    }

    /// Nobody is connected any more, and the new process has lived for a while.
    fn is_over(&self) -> bool {
        self.drained.is_some_and(|since| since.elapsed() >= PROBATION)
            && self.estate.listeners.borrow().active_connections() == 0
    }

    async fn say(&mut self, answer: &Answer) -> io::Result<()> {
        message::send(&mut self.stream, answer).await
    }

    async fn report(&mut self, over: bool) -> io::Result<()> {
        let counts = Counts::of(&self.estate.store);
        let connections = self.estate.listeners.borrow().active_connections();
        self.say(&Answer::Stats { counts, connections, over }).await
    }

    async fn share(&mut self, address: &Address) -> io::Result<()> {
        let sockets = self.estate.listeners.borrow().share(address);
        let sockets = sockets.sockets().await.unwrap_or_else(|error| {
            tracing::warn!(%error, %address, "hot restart: sockets cannot be handed over");
            Vec::new()
        });
        self.hand_over(sockets).await
    }

    async fn share_admin(&mut self) -> io::Result<()> {
        let admin = self.estate.admin.borrow().clone();
        let socket = admin.and_then(|admin| {
            admin.pause();
            admin.duplicate().ok()
        });
        self.hand_over(socket.into_iter().collect()).await
    }

    async fn hand_over(&mut self, sockets: Vec<OwnedFd>) -> io::Result<()> {
        self.say(&Answer::Sockets { count: sockets.len() }).await?;
        for socket in sockets {
            let socket = Ok(socket);
            let stream = &self.stream;
            stream.async_io(Interest::WRITABLE, || descriptor::send(stream, &socket)).await?;
        }
        Ok(())
    }

    /// Serves as before.
    fn undo(&self) {
        if self.drained.is_some() {
            self.estate.listeners.borrow_mut().take_back();
        }
        if let Some(admin) = &*self.estate.admin.borrow() {
            admin.resume();
        }
    }
}

fn parsed(address: &str) -> Address {
    match address.parse() {
        Ok(ip) => Address::Ip(ip),
        Err(_) => Address::Pipe(std::path::Path::new(address).into()),
    }
}
