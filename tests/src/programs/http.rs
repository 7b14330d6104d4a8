//! The smallest HTTP/1.1 client: admin endpoints, asked from plain threads and without a pool.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An admin endpoint that takes longer than this is broken.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// Head without the status line, as sent.
    pub head: String,
    /// The body, with chunked encoding taken off.
    pub body: String,
}

/// `GET path` on `address`. Fails where the connection does, or where the answer is no HTTP/1.1.
pub fn http_get(address: SocketAddr, path: &str) -> io::Result<HttpAnswer> {
    request(address, "GET", path)
}

/// `POST path` with an empty body on `address`.
pub fn http_post(address: SocketAddr, path: &str) -> io::Result<HttpAnswer> {
    request(address, "POST", path)
}

fn request(address: SocketAddr, method: &str, path: &str) -> io::Result<HttpAnswer> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let length = if method == "POST" { "content-length: 0\r\n" } else { "" };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{length}connection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{address} did not answer in HTTP/1.1"))
    })
}

fn parse(text: &str) -> Option<HttpAnswer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (status_line, head) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = status_line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body)? } else { body.to_owned() };
    Some(HttpAnswer { status, head: head.to_owned(), body })
}

fn unchunk(mut body: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.push_str(rest.get(..size)?);
        body = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_answer_is_put_together() {
        let answer = parse(
            "HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nPRE\r\n2\r\n-I\r\n0\r\n\r\n",
        )
        .unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "PRE-I"));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        assert_eq!(parse("SSH-2.0\r\n\r\n"), None);
    }
}
