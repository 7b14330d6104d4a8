//! `pillion wait`: until a proxy serves, for probes and for hooks that hold an application back.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use prost::Message;
use proto::envoy::config::bootstrap::v3 as pb;
use serde_json::Value;

use crate::cli::bootstrap::{self, BootstrapArgs};
use crate::config::Context;
use crate::config::bootstrap::Bootstrap;
use crate::io::Address;

/// How often the proxy is asked.
const PERIOD: Duration = Duration::from_millis(100);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// `pillion wait ...`
#[derive(Args, Clone, Debug)]
pub struct WaitArgs {
    /// The bootstrap whose `admin.address` is asked.
    #[command(flatten)]
    pub bootstrap: BootstrapArgs,
    /// The admin address, `127.0.0.1:15000` or a unix socket's path; instead of a bootstrap.
    #[arg(long, value_name = "ADDRESS")]
    pub admin_address: Option<String>,
    /// The file that the proxy writes its admin address to; instead of a bootstrap.
    #[arg(long, value_name = "FILE", conflicts_with = "admin_address")]
    pub admin_address_path: Option<PathBuf>,
    /// Seconds to wait at most; 0 asks once.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub timeout: u64,
}

/// Waits until the proxy is ready. The exit code is 0 then, and 1 when the time is over; what is missing meanwhile goes to standard
/// error.
pub fn run(args: &WaitArgs) -> ExitCode {
    match wait(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wait(args: &WaitArgs) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let limit = Duration::from_secs(args.timeout);
    let configured = match (&args.admin_address, &args.admin_address_path) {
        (None, None) => Some(address_of(&args.bootstrap)?),
        _ => args.admin_address.as_deref().map(parse),
    };
    let mut told = String::new();
    loop {
        let state = match address(configured.as_ref(), args.admin_address_path.as_deref()) {
            Ok(address) => look(&address),
            Err(reason) => Err(reason),
        };
        let news = match state {
            Ok(missing) => {
                eprintln!("ready after {:.1} s{missing}", begin.elapsed().as_secs_f64());
                return Ok(());
            }
            Err(reason) => reason,
        };
        if news != told {
            eprintln!("not ready: {news}");
            told = news;
        }
        if begin.elapsed() >= limit {
            return Err(format!("not ready within {limit:?}: {told}").into());
        }
        std::thread::sleep(PERIOD);
    }
}

/// The bootstrap's admin address.
fn address_of(args: &BootstrapArgs) -> Result<Address, Box<dyn Error>> {
    if args.config_path.is_none() && args.config_yaml.is_none() {
        let rule = "nobody to ask: give --admin-address, --admin-address-path or a bootstrap (-c)";
        return Err(rule.into());
    }
    let message = pb::Bootstrap::decode(bootstrap::read(args)?.rest)?;
    // The rest is the proxy's business.
    let message = pb::Bootstrap { admin: message.admin, ..pb::Bootstrap::default() };
    let bootstrap = Bootstrap::from_proto(&message, &Context::default())?;
    let admin =
        bootstrap.admin.ok_or("admin: the bootstrap has none, so that nobody can be asked")?;
    match admin.address.port() {
        Some(0) => {
            Err("admin.address: the port is chosen by the system; give --admin-address-path".into())
        }
        _ => Ok(admin.address),
    }
}

fn parse(text: &str) -> Address {
    match text.parse::<SocketAddr>() {
        Ok(address) => Address::Ip(address),
        Err(_) => Address::Pipe(Path::new(text).into()),
    }
}

/// The address that is known, or that the proxy has written down by now.
fn address(known: Option<&Address>, path: Option<&Path>) -> Result<Address, String> {
    match (known, path) {
        (Some(known), _) => Ok(known.clone()),
        (None, path) => {
            let path = path.unwrap_or(Path::new(""));
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(parse(text.trim()))
        }
    }
}

/// What is missing although the proxy is ready, or as an error why it is not.
fn look(address: &Address) -> Result<String, String> {
    let (status, state) = get(address, "/ready").map_err(|error| format!("{address}: {error}"))?;
    let (_, dump) = get(address, "/init_dump").unwrap_or_default();
    let missing = missing(&dump);
    let list = missing.into_iter().collect::<Vec<_>>().join("; ");
    match (status == "200", list.is_empty()) {
        (true, true) => Ok(String::new()),
        (true, false) => Ok(format!(", though {list}")),
        (false, true) => Err(state.trim().to_owned()),
        (false, false) => Err(format!("{}: {list}", state.trim())),
    }
}

/// Who waits for what, from `/init_dump`.
fn missing(dump: &str) -> BTreeSet<String> {
    let dump: Value = serde_json::from_str(dump).unwrap_or_default();
    let targets = dump["unready_targets_dumps"].as_array().cloned().unwrap_or_default();
    let one = |target: &Value| {
        let names = target["target_names"].as_array().cloned().unwrap_or_default();
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        Some(format!("{} waits for {}", target["name"].as_str()?, names.join(", ")))
    };
    targets.iter().filter_map(one).collect()
}

/// The status and body of a `GET`.
fn get(address: &Address, path: &str) -> std::io::Result<(String, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    match address {
        Address::Ip(address) => {
            let mut stream = TcpStream::connect_timeout(address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_end(&mut answer)?;
        }
        Address::Pipe(path) => {
            let mut stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_end(&mut answer)?;
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).unwrap_or_default();
    Ok((status.to_owned(), body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_as_one_says_it() {
        let dump = r#"{"unready_targets_dumps": [{"name": "CDS", "target_names": ["a", "b"]}]}"#;
        assert_eq!(Vec::from_iter(missing(dump)), ["CDS waits for a, b"]);
        assert!(missing("{}").is_empty() && missing("nonsense").is_empty());
    }

    #[test]
    fn an_address_that_is_no_socket_address_is_a_path() {
        assert_eq!(parse("[::1]:15000").port(), Some(15000));
        assert_eq!(parse("/run/admin"), Address::Pipe(Path::new("/run/admin").into()));
    }
}
