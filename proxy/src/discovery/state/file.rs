//! The file that resources are kept in: a mark, a record for the proxy it is of, a record for each resource, and a checksum over
//! everything before it. A record is a `DeltaDiscoveryResponse` behind its length.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use prost::Message;
use proto::envoy::config::core::v3::{ControlPlane, Node};
use proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use xxhash_rust::xxh64::Xxh64;

use super::{Known, holds_secret};

const MARK: &[u8] = b"pillion last good resources 1\n";
const NAME: &str = "last-good";
/// Length of the checksum.
const SUM: usize = size_of::<u64>();

/// Why there is nothing to use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{}: it is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How that is known.
        reason: &'static str,
    },
    /// It is another proxy's.
    #[error("{}: it is of node {node:?}; every proxy needs a folder of its own", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        node: String,
    },
}

/// A resource as it was kept.
pub struct Kept {
    /// Type URL.
    pub type_url: String,
    /// See [`source_key`](super::source_key).
    pub source: String,
    /// The resource.
    pub resource: xds_client::Resource,
}

/// Whose file it is.
pub fn owner(node: &Node) -> String {
    format!("{}/{}", node.cluster, node.id)
}

/// Writes resources, all or nothing; those that hold a secret are left out. Gives the checksum, and writes nothing if it is
/// `before`.
///
/// # Errors
/// A file or the folder cannot be written.
pub fn write(
    folder: &Path,
    owner: &str,
    resources: &[Known],
    before: Option<u64>,
) -> Result<u64, FileError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| FileError::Io { path: folder.to_owned(), source })?;
    let path = folder.join(NAME);
    let temporary = folder.join(format!(".{NAME}.new"));
    let written = write_to(&temporary, owner, resources).and_then(|sum| {
        if before != Some(sum) {
            fs::rename(&temporary, &path)?;
            // The name must survive a crash as well as the content.
            File::open(folder)?.sync_all()?;
        }
        Ok(sum)
    });
    written.map_err(|source| FileError::Io { path, source })
}

fn write_to(path: &Path, owner: &str, resources: &[Known]) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut out = Summed { out: BufWriter::new(file), sum: Xxh64::new(0) };
    out.write_all(MARK)?;
    let control_plane = Some(ControlPlane { identifier: owner.to_owned() });
    let header = DeltaDiscoveryResponse { control_plane, ..Default::default() };
    out.write_all(&header.encode_length_delimited_to_vec())?;
    for Known { kind, source, name, version } in resources {
        if holds_secret(&version.body) {
            tracing::warn!(kind = ?kind, name = &**name, "holds a private key and is not kept on disk");
            continue;
        }
        // One after the other: a copy of all of them would double their memory.
        let resource = Resource {
            name: name.to_string(),
            version: version.version.to_string(),
            resource: Some((*version.body).clone()),
            ..Default::default()
        };
        let record = DeltaDiscoveryResponse {
            type_url: kind.type_url().to_owned(),
            nonce: source.clone(),
            resources: vec![resource],
            ..Default::default()
        };
        out.write_all(&record.encode_length_delimited_to_vec())?;
    }
    let sum = out.sum.digest();
    let mut file = out.out;
    file.write_all(&sum.to_le_bytes())?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(sum)
}

/// A writer that sums up what it writes.
struct Summed {
    out: BufWriter<File>,
    sum: Xxh64,
}

impl Summed {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.out.write_all(bytes)
    }
}

/// Reads what was written; none if nothing ever was.
///
/// # Errors
/// The file cannot be read, is damaged, or is another proxy's.
pub fn read(folder: &Path, owner: &str) -> Result<Option<Vec<Kept>>, FileError> {
    let path = folder.join(NAME);
    let mut bytes = Vec::new();
    match File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FileError::Io { path, source }),
    }
    let (node, kept) =
        parse(&bytes).map_err(|reason| FileError::Damaged { path: path.clone(), reason })?;
    match node == owner {
        true => Ok(Some(kept)),
        false => Err(FileError::Foreign { path, node }),
    }
}

fn parse(bytes: &[u8]) -> Result<(String, Vec<Kept>), &'static str> {
    let body = bytes.strip_prefix(MARK).ok_or("it does not begin as such a file does")?;
    let (mut records, sum) = body.split_last_chunk::<SUM>().ok_or("it has no end")?;
    let mut summed = Xxh64::new(0);
    summed.update(&bytes[..bytes.len() - SUM]);
    if summed.digest() != u64::from_le_bytes(*sum) {
        return Err("its checksum is wrong");
    }
    let mut next = || {
        let more = !records.is_empty();
        more.then(|| DeltaDiscoveryResponse::decode_length_delimited(&mut records))
    };
    let unreadable = "a record cannot be decoded";
    let header = next().ok_or("it has no header")?.map_err(|_| unreadable)?;
    let mut kept = Vec::new();
    while let Some(record) = next() {
        let DeltaDiscoveryResponse { type_url, nonce, resources, .. } =
            record.map_err(|_| unreadable)?;
        for Resource { name, version, resource, .. } in resources {
            let body = resource.ok_or("a resource has no body")?;
            let resource =
                xds_client::Resource { name, version, body, ttl: None, aliases: Vec::new() };
            kept.push(Kept { type_url: type_url.clone(), source: nonce.clone(), resource });
        }
    }
    Ok((header.control_plane.unwrap_or_default().identifier, kept))
}

#[cfg(test)]
mod tests {
    use proto::google::protobuf::Any;

    use super::*;
    use crate::discovery::resources::Version;
    use crate::discovery::sources::Kind;

    fn known(name: &str, content: &str) -> Known {
        let body = Any { type_url: Kind::Clusters.type_url().into(), value: content.into() };
        Known {
            kind: Kind::Clusters,
            source: "ads".into(),
            name: name.into(),
            version: Version::now("7", body),
        }
    }

    #[test]
    fn what_is_written_is_read_again_but_for_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made").join("here");
        assert!(read(&folder, "a/b").unwrap().is_none());
        let all =
            [known("one", "x"), known("two", "-----BEGIN PRIVATE KEY-----"), known("three", "")];
        let sum = write(&folder, "a/b", &all, None).unwrap();
        let kept = read(&folder, "a/b").unwrap().unwrap();
        let names: Vec<_> = kept.iter().map(|kept| kept.resource.name.as_str()).collect();
        assert_eq!(names, ["one", "three"]);
        let Kept { type_url, source, resource } = &kept[0];
        assert_eq!((type_url.as_str(), source.as_str()), (Kind::Clusters.type_url(), "ads"));
        assert_eq!((resource.version.as_str(), resource.body.value.as_slice()), ("7", &b"x"[..]));
        assert_eq!(write(&folder, "a/b", &all, Some(sum)).unwrap(), sum);
        assert_ne!(write(&folder, "a/b", &all[..1], Some(sum)).unwrap(), sum);
        let foreign = read(&folder, "a/c").err().unwrap().to_string();
        assert!(foreign.contains("it is of node \"a/b\""), "{foreign}");
    }

    #[test]
    fn every_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a/b", &[known("one", "x")], None).unwrap();
        let path = folder.path().join(NAME);
        let whole = fs::read(&path).unwrap();
        let is_damaged = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            matches!(read(folder.path(), "a/b"), Err(FileError::Damaged { .. }))
        };
        for index in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[index] ^= 0x20;
            assert!(is_damaged(&bytes), "byte {index}");
            assert!(is_damaged(&whole[..index]), "cut at {index}");
        }
        assert!(!is_damaged(&whole));
    }
}
