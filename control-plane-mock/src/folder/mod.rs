//! A folder of files as the source of resources.
//!
//! Files end in `.yaml`, `.yml` or `.json`; see [`crate::parse_documents`] for what they hold. What lies in `nodes/<node.id>/` is for
//! that node only. A file that is broken is reported and its last good content stays in service.

mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use proto::Format;

use crate::document::{DocumentError, is_same, parse};
use crate::resource::Resource;
use crate::snapshot::{Change, Scope};

pub(crate) use watch::watch;

/// Why a folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder, or a folder in it, cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The folder cannot be watched.
    #[error("cannot watch {}: {source}", path.display())]
    Watch {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: notify::Error,
    },
}

/// A file that is not served as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) path: PathBuf,
    pub(crate) message: String,
}

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) changes: Vec<Change>,
    /// New ones only: a file that stays broken is reported once for each content.
    pub(crate) problems: Vec<Problem>,
    /// How many files are served.
    pub(crate) files: usize,
}

/// The name of a resource among all.
type Key = (Scope, String, String);

/// The folder as of its last scan.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    files: BTreeMap<PathBuf, File>,
    /// What the last scan found, with the file that it lies in.
    served: HashMap<Key, (PathBuf, Resource)>,
}

#[derive(Debug, Default)]
struct File {
    text: String,
    /// What the last good text held.
    resources: Vec<Resource>,
}

impl File {
    /// Takes a new content. What did not change keeps its encoding, so that only the rest is pushed.
    fn take(&mut self, resources: Vec<Resource>) {
        let old = std::mem::take(&mut self.resources);
        let keep_old = |new: Resource| {
            let mut old = old.iter();
            old.find(|old| is_same(old, &new)).cloned().unwrap_or(new)
        };
        self.resources = resources.into_iter().map(keep_old).collect();
    }
}

impl Folder {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, files: BTreeMap::new(), served: HashMap::new() }
    }

    /// Reads what has changed and returns how what is served has to change.
    pub(crate) fn scan(&mut self) -> Result<Scan, FolderError> {
        let mut scan = Scan::default();
        let mut paths = BTreeSet::new();
        collect_files(&self.root, &mut paths)?;
        self.files.retain(|path, _| paths.contains(path));
        for path in paths {
            self.read_file(path, &mut scan.problems);
        }
        scan.files = self.files.len();
        self.compare(&mut scan);
        Ok(scan)
    }

    /// Reads a file unless it is as it was. A broken one keeps its last good resources.
    fn read_file(&mut self, path: PathBuf, problems: &mut Vec<Problem>) {
        let file = self.files.entry(path.clone()).or_default();
        let problem = match fs::read_to_string(&path) {
            // It went between the listing and now; the watcher tells of that, too.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => error.to_string(),
            Ok(text) if text == file.text => return,
            Ok(text) => {
                let parsed = parse(format_of(&path), &text);
                file.text = text;
                match parsed {
                    Ok(resources) => {
                        file.take(resources);
                        return;
                    }
                    Err(error) => explain(&error, file.resources.len()),
                }
            }
        };
        problems.push(Problem { path, message: problem });
    }

    /// Compares what the files hold with what they held. What did not change is not put again: somebody else may have put another
    /// resource in its place meanwhile.
    fn compare(&mut self, scan: &mut Scan) {
        let found = self.find_all(&mut scan.problems);
        for (key, (_, resource)) in &found {
            let before = self.served.get(key).map(|(_, resource)| resource);
            if before != Some(resource) {
                scan.changes.push(Change::Put(key.0.clone(), resource.clone()));
            }
        }
        for key in self.served.keys().filter(|key| !found.contains_key(*key)) {
            let (scope, type_url, name) = key.clone();
            scan.changes.push(Change::Delete(scope, type_url, name));
        }
        self.served = found;
    }

    /// All resources of all files. Of two files that hold the same resource the last by path wins, and is reported the first time.
    fn find_all(&self, problems: &mut Vec<Problem>) -> HashMap<Key, (PathBuf, Resource)> {
        let mut found: HashMap<Key, (PathBuf, Resource)> = HashMap::new();
        for (path, file) in &self.files {
            let scope = scope_of(&self.root, path);
            for resource in &file.resources {
                let (type_url, name) = (resource.type_url(), resource.name());
                let key = (scope.clone(), type_url.to_owned(), name.to_owned());
                let known = self.served.get(&key).is_some_and(|(served, _)| served == path);
                let twice = found.insert(key, (path.clone(), resource.clone()));
                if let Some((first, _)) = twice
                    && !known
                {
                    let first = first.display();
                    let message =
                        format!("{name:?} ({type_url}) is in {first} too; this one is served");
                    problems.push(Problem { path: path.clone(), message });
                }
            }
        }
        found
    }
}

fn explain(error: &DocumentError, kept: usize) -> String {
    match kept {
        0 => format!("{error}; nothing of this file is served"),
        _ => format!("{error}; its last good content ({kept} resources) stays in service"),
    }
}

fn collect_files(directory: &Path, files: &mut BTreeSet<PathBuf>) -> Result<(), FolderError> {
    let error = |source| FolderError::Read { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(error)? {
        let path = entry.map_err(error)?.path();
        // Hidden entries are editors' temporary files, and the directories behind the links of a Kubernetes volume.
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if path.is_dir() {
            collect_files(&path, files)?;
        } else if is_resource_file(&path) {
            files.insert(path);
        }
    }
    Ok(())
}

fn is_resource_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

fn format_of(path: &Path) -> Format {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Format::Json,
        _ => Format::Yaml,
    }
}

/// `nodes/<id>/...` is for one node, everything else for all.
fn scope_of(root: &Path, path: &Path) -> Scope {
    let inside = path.strip_prefix(root).unwrap_or(path);
    let mut parts = inside.iter().filter_map(|part| part.to_str());
    match (parts.next(), parts.next(), parts.next()) {
        (Some("nodes"), Some(id), Some(_)) => Scope::Node(id.to_owned()),
        _ => Scope::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_node_is_its_scope() {
        let scope = |path: &str| scope_of(Path::new("/r"), Path::new(path));
        assert_eq!(scope("/r/a.yaml"), Scope::All);
        assert_eq!(scope("/r/sub/a.yaml"), Scope::All);
        assert_eq!(scope("/r/nodes/a.yaml"), Scope::All);
        assert_eq!(scope("/r/nodes/n1/a.yaml"), Scope::Node("n1".into()));
        assert_eq!(scope("/r/nodes/n1/deep/a.yaml"), Scope::Node("n1".into()));
    }
    const CLUSTER: &str = "'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster\n";

    struct Files(tempfile::TempDir);

    impl Files {
        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.path().join(name), text).expect("writable");
        }

        fn remove(&self, name: &str) {
            std::fs::remove_file(self.0.path().join(name)).expect("it is there");
        }
    }

    fn folder() -> (Files, Folder) {
        let files = tempfile::tempdir().expect("writable");
        let folder = Folder::new(files.path().to_owned());
        (Files(files), folder)
    }

    /// The names that a scan puts and deletes, and the number of its problems.
    fn scan(folder: &mut Folder) -> (BTreeSet<String>, BTreeSet<String>, usize) {
        let scan = folder.scan().expect("readable");
        let (mut put, mut deleted) = (BTreeSet::new(), BTreeSet::new());
        for change in scan.changes {
            match change {
                Change::Put(_, resource) => put.insert(resource.name().to_owned()),
                Change::Delete(_, _, name) => deleted.insert(name),
            };
        }
        (put, deleted, scan.problems.len())
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_broken_file_keeps_its_last_good_content_and_is_reported_once() {
        let (files, mut folder) = folder();
        files.write("a.yaml", &format!("{CLUSTER}name: a\n"));
        files.write("broken.json", "{");
        files.write("notes.txt", "no resource");
        assert_eq!(scan(&mut folder), (set(&["a"]), set(&[]), 1));
        files.write("a.yaml", "broken");
        assert_eq!(scan(&mut folder), (set(&[]), set(&[]), 1));
        assert_eq!(scan(&mut folder), (set(&[]), set(&[]), 0));
        files.remove("a.yaml");
        assert_eq!(scan(&mut folder), (set(&[]), set(&["a"]), 0));
    }

    #[test]
    fn of_two_files_with_the_same_resource_the_last_is_served_and_reported() {
        let (files, mut folder) = folder();
        files.write("1.yaml", &format!("{CLUSTER}name: a\nalt_stat_name: first\n"));
        files.write("2.yaml", &format!("{CLUSTER}name: a\nalt_stat_name: second\n"));
        assert_eq!(scan(&mut folder).2, 1);
        assert_eq!(scan(&mut folder).2, 0);
        files.remove("2.yaml");
        assert_eq!(scan(&mut folder), (set(&["a"]), set(&[]), 0));
    }

    #[test]
    fn only_what_changed_in_a_changed_file_is_put() {
        let (files, mut folder) = folder();
        let entries: Vec<_> = (0..20).map(|i| format!("f{i}: {{ x: {i} }}")).collect();
        let metadata = format!("metadata: {{ filter_metadata: {{ {} }} }}\n", entries.join(", "));
        let first = format!("{CLUSTER}name: a\n{metadata}---\n");
        files.write("a.yaml", &format!("{first}{CLUSTER}name: b\n"));
        assert_eq!(scan(&mut folder), (set(&["a", "b"]), set(&[]), 0));
        files.write("a.yaml", &format!("{first}{CLUSTER}name: b\nalt_stat_name: new\n"));
        assert_eq!(scan(&mut folder), (set(&["b"]), set(&[]), 0));
    }
}
