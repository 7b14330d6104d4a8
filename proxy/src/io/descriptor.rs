//! Sockets that one process hands to another over a unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Hands a socket over, or says by its number which error there is instead.
///
/// # Errors
/// As `sendmsg(2)`: the other side is gone.
pub fn send(stream: impl AsFd, socket: &io::Result<OwnedFd>) -> io::Result<()> {
    let code = match socket {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
    };
    let code = code.to_ne_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets: Vec<_> = socket.iter().map(AsFd::as_fd).collect();
    if !sockets.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&sockets));
    }
    sendmsg(stream, &[IoSlice::new(&code)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes a socket that [`send`] hands over.
///
/// # Errors
/// What the other side says instead; or it is gone.
pub fn receive(stream: impl AsFd) -> io::Result<OwnedFd> {
    let mut code = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let buffers = &mut [IoSliceMut::new(&mut code)];
    let received = recvmsg(stream, buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes < code.len() {
        let why = "the process that hands sockets over has ended";
        return Err(io::Error::new(io::ErrorKind::BrokenPipe, why));
    }
    let mut sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    match (i32::from_ne_bytes(code), sockets.next()) {
        (0, Some(socket)) => Ok(socket),
        (0, None) => Err(io::ErrorKind::InvalidData.into()),
        (code, _) => Err(io::Error::from_raw_os_error(code)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn sockets_and_errors_are_handed_over() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address");
        send(&there, &Ok(listener.into())).expect("it is sent");
        let received = std::net::TcpListener::from(receive(&here).expect("it arrives"));
        assert_eq!(received.local_addr().expect("an address"), address);
        send(&there, &Err(io::Error::from_raw_os_error(13))).expect("it is sent");
        assert_eq!(receive(&here).expect_err("an error").kind(), io::ErrorKind::PermissionDenied);
        drop(there);
        assert_eq!(receive(&here).expect_err("the end").kind(), io::ErrorKind::BrokenPipe);
    }
}
