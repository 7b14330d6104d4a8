//! The helper process: makes the namespace, and sockets in it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::process::{getgid, getuid};
use rustix::thread::{
    CapabilitySet, LinkNameSpaceType, UnshareFlags, capabilities,
    configure_capability_in_ambient_set, move_into_link_name_space, set_capabilities,
    unshare_unsafe,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::DNS_PORT;
use crate::intercept::tool;
use crate::intercept::{Plan, PortSet, install};
use crate::io::descriptor;

/// What the helper says when the namespace is there.
pub const READY: u8 = b'+';

/// Makes a namespace in which everything that is not for a loopback address goes to `outbound_port`, and serves sockets
/// in it until the proxy at the other end of the stream is gone. The process must have one thread.
///
/// # Errors
/// The stream broke. Why there is no namespace is said over it.
pub fn serve(mut stream: UnixStream, outbound_port: u16) -> io::Result<()> {
    if let Err(error) = make(outbound_port) {
        return stream.write_all(error.to_string().as_bytes());
    }
    stream.write_all(&[READY])?;
    let mut kind = [0];
    while stream.read(&mut kind)? == 1 {
        descriptor::send(&stream, &socket(kind[0]))?;
    }
    Ok(())
}

fn socket(kind: u8) -> io::Result<OwnedFd> {
    let (domain, kind, protocol) = match kind {
        b't' => (Domain::IPV4, Type::STREAM, Protocol::TCP),
        b'T' => (Domain::IPV6, Type::STREAM, Protocol::TCP),
        b'u' => (Domain::IPV4, Type::DGRAM, Protocol::UDP),
        b'U' => (Domain::IPV6, Type::DGRAM, Protocol::UDP),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn make(outbound_port: u16) -> io::Result<()> {
    let (uid, gid) = (getuid(), getgid());
    if unshare(UnshareFlags::NEWNET).is_err() {
        unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET).map_err(|error| {
            let why = "cannot make a user namespace and a network namespace; the kernel may forbid it to ordinary users \
                       (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces, AppArmor)";
            io::Error::other(format!("{why}: {error}"))
        })?;
        // The application keeps the user and group that it would have had.
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{uid} {uid} 1", uid = uid.as_raw()))?;
        fs::write("/proc/self/gid_map", format!("{gid} {gid} 1", gid = gid.as_raw()))?;
        pass_rights_on()?;
    }
    set_up(outbound_port).map_err(io::Error::other)
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: neither flag touches the table of descriptors or memory.
    unsafe { unshare_unsafe(flags) }.map_err(Into::into)
}

/// Lets the programs that set the namespace up have the right to. The application gets none of it: it is started by
/// another process.
fn pass_rights_on() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.inheritable |= CapabilitySet::NET_ADMIN;
    set_capabilities(None, sets)?;
    configure_capability_in_ambient_set(CapabilitySet::NET_ADMIN, true)?;
    Ok(())
}

/// The loopback interface is the way to everywhere, and on the way everything is redirected.
fn set_up(outbound_port: u16) -> Result<(), install::InstallError> {
    let ip = |line: &str| tool::run("ip", &line.split(' ').collect::<Vec<_>>(), "");
    ip("link set lo up")?;
    ip("-4 route add default dev lo src 127.0.0.1")?;
    // A machine without IPv6 has no such route, and needs none.
    let _ = ip("-6 route add default dev lo src ::1");
    let plan = Plan {
        is_namespace: true,
        inbound_ports: PortSet::Only(Vec::new()),
        outbound_port,
        proxy_uids: Vec::new(),
        proxy_gids: Vec::new(),
        dns_port: Some(DNS_PORT),
        ..Plan::default()
    };
    let backend = install::choose(&plan)?;
    install::install(&plan, backend).map(drop)
}

/// Enters the namespaces of the helper. The process must have one thread; what it then executes is inside.
///
/// # Errors
/// The helper is gone, or is not ours.
pub fn enter(helper: u32) -> io::Result<()> {
    let open = |process: &str, kind: &str| File::open(format!("/proc/{process}/ns/{kind}"));
    let same = |kind: &str| -> io::Result<bool> {
        let at = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}"));
        Ok(at("self")? == at(&helper.to_string())?)
    };
    let kinds = [("user", LinkNameSpaceType::User), ("net", LinkNameSpaceType::Network)];
    for (name, kind) in kinds {
        if !same(name)? {
            let namespace = open(&helper.to_string(), name)?;
            move_into_link_name_space(namespace.as_fd(), Some(kind))?;
        }
    }
    Ok(())
}
