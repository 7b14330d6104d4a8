//! The admin interface of the process, opened or taken over.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::admin::{Context, Serving};
use crate::config::access_log::LogSink;
use crate::config::bootstrap::Admin;
use crate::downstream::socket::{self, Socket};
use crate::io::Address;
use crate::server::hot_restart::{Estate, Parent};

/// How often an address is tried that the old process of a hot restart does not give up.
const RETRY: Duration = Duration::from_millis(100);

/// Opens the admin interface and tells where it is. An old process hands its own over; one that does not is waited for in
/// the background.
///
/// # Errors
/// The address cannot be bound, or the file of `--admin-address-path` cannot be written.
pub fn open(
    config: &Admin,
    context: Context,
    parent: Option<&Parent>,
    estate: &Rc<Estate>,
    path: Option<&Path>,
) -> io::Result<()> {
    let nowhere = LogSink::File("/dev/null".into());
    if config.access_log.iter().any(|log| log.sink != nowhere) {
        tracing::warn!("admin.access_log: requests of the admin interface are not logged");
    }
    let address = config.address.clone();
    if let Some(socket) = parent.and_then(Parent::admin) {
        return serve(socket.into(), &address, context, estate, path);
    }
    match socket::bind_plain(&address) {
        Ok(socket) => serve(socket, &address, context, estate, path),
        Err(error) if parent.is_some() && error.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!("admin interface: waiting until the old process lets go of '{address}'");
            let (estate, path) = (Rc::clone(estate), path.map(PathBuf::from));
            spawn_local(open_when_free(address, context, estate, path));
            Ok(())
        }
        Err(error) => Err(cannot_bind(&address, &error)),
    }
}

async fn open_when_free(
    address: Address,
    context: Context,
    estate: Rc<Estate>,
    path: Option<PathBuf>,
) {
    let socket = loop {
        match socket::bind_plain(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(RETRY).await,
            other => break other,
        }
    };
    let socket = socket.map_err(|error| cannot_bind(&address, &error));
    let served =
        socket.and_then(|socket| serve(socket, &address, context, &estate, path.as_deref()));
    if let Err(error) = served {
        tracing::error!("no admin interface: {error}");
    }
}

fn serve(
    socket: Socket,
    address: &Address,
    context: Context,
    estate: &Estate,
    path: Option<&Path>,
) -> io::Result<()> {
    let serving = Serving::start(socket, address, context)?;
    tracing::info!("admin interface on {}", serving.address);
    if let Some(path) = path {
        std::fs::write(path, serving.address.to_string()).map_err(|error| {
            let what = format!("--admin-address-path {}: {error}", path.display());
            io::Error::new(error.kind(), what)
        })?;
    }
    estate.admin.replace(Some(serving));
    Ok(())
}

fn cannot_bind(address: &Address, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("admin.address: cannot bind '{address}': {error}"))
}
