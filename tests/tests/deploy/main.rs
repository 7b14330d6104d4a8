//! The files under `proxy/deploy`: they parse, the configurations in them are accepted, the flags exist, and the script runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pillion_tests::programs::{did_not_run, in_path, needed, pillion};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it has a parent").join("proxy/deploy")
}

/// The files of a folder, by name, with what is in them.
fn files(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let read = |path: PathBuf| {
        (path.display().to_string(), fs::read_to_string(&path).expect("it is a text"))
    };
    let mut files: Vec<_> = paths.filter(|path| path.is_file()).map(read).collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

fn documents(name: &str, text: &str) -> Vec<Value> {
    let parse = |document: &str| {
        yaml_serde::from_str(document).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    text.split("\n---\n").map(parse).collect()
}

/// Every object of a document that has this key.
fn with_key<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            if map.contains_key(key) {
                found.push(value);
            }
            map.values().for_each(|value| with_key(value, key, found));
        }
        Value::Array(list) => list.iter().for_each(|value| with_key(value, key, found)),
        _ => {}
    }
}

fn help(command: &[&str]) -> String {
    let output = Command::new(pillion()).args(command).arg("--help").output().expect("it runs");
    assert!(output.status.success(), "{command:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every flag of a command line is one of the command's.
fn check_flags(place: &str, words: &[&str]) {
    let own: Vec<&str> = words.iter().copied().take_while(|word| !word.starts_with('-')).collect();
    let help = help(&own);
    let known: Vec<&str> = help.split([' ', ',', '\n', '=']).collect();
    for flag in words.iter().filter(|word| word.starts_with("--")) {
        let flag = flag.split('=').next().unwrap_or_default();
        assert!(known.contains(&flag), "{place}: `pillion {}` has no {flag}", own.join(" "));
    }
}

#[test]
fn manifests_hold_configurations_and_flags_that_exist() {
    for (name, text) in files(&folder().join("kubernetes")) {
        for document in documents(&name, &text) {
            assert!(document["kind"].is_string() && document["apiVersion"].is_string(), "{name}");
            if let Some(bootstrap) = document["data"]["bootstrap.yaml"].as_str() {
                let mut command = Command::new(pillion());
                command.args([
                    "--mode",
                    "validate",
                    "--service-node",
                    "n",
                    "--service-cluster",
                    "c",
                ]);
                let output = command.args(["--config-yaml", bootstrap]).output().expect("it runs");
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{name}: {said}");
            }
            let mut containers = Vec::new();
            with_key(&document, "args", &mut containers);
            for container in containers {
                let args = container["args"].as_array().expect("a list");
                let words: Vec<&str> = args.iter().filter_map(Value::as_str).collect();
                check_flags(&name, &words);
            }
        }
    }
}

#[test]
fn units_have_flags_that_exist() {
    for (name, text) in files(&folder().join("systemd")) {
        let commands = text.lines().filter_map(|line| {
            line.strip_prefix("ExecStart=").or_else(|| line.strip_prefix("ExecStop="))
        });
        let commands: Vec<&str> = commands.collect();
        assert!(!commands.is_empty(), "{name}");
        for command in commands {
            let words: Vec<&str> = command.split(' ').collect();
            assert!(words[0].ends_with("/pillion"), "{name}: {command}");
            check_flags(&name, &words[1..]);
        }
        let sections = text.lines().filter(|line| line.starts_with('['));
        assert_eq!(sections.collect::<Vec<_>>(), ["[Unit]", "[Service]", "[Install]"], "{name}");
    }
}

#[test]
fn the_local_mesh_runs() {
    let missing = ["sh", "python3", "curl", "grep"].into_iter().find(|p| in_path(p).is_none());
    let programs = pillion().parent().expect("a folder").to_owned();
    let control_plane = programs.join("control-plane-mock");
    let why = match missing {
        Some(program) => Some(format!("`{program}` is not installed")),
        None if !control_plane.is_file() => Some(format!("no {}", control_plane.display())),
        None => None,
    };
    if let Some(why) = why {
        did_not_run(&why);
        return;
    }
    let script = folder().join("local/mesh.sh");
    let output = Command::new("sh").arg(script).arg(programs).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("42 pieces"), "{said}");
    assert!(said.contains("200 from spiffe://cluster.local/shop"), "{said}");
}

/// Fails where `found` lacks something that `written` has.
fn check_kept(place: &str, written: &Value, found: &Value) {
    match (written, found) {
        (Value::Object(written), Value::Object(found)) => {
            for (key, value) in written {
                let found = found.get(key).unwrap_or_else(|| panic!("{place}: no field {key}"));
                check_kept(&format!("{place}.{key}"), value, found);
            }
        }
        (Value::Array(written), Value::Array(found)) => {
            assert_eq!(written.len(), found.len(), "{place}");
            for (i, (written, found)) in written.iter().zip(found).enumerate() {
                check_kept(&format!("{place}[{i}]"), written, found);
            }
        }
        _ => assert_eq!(written, found, "{place}"),
    }
}

/// kubectl reads a manifest into Kubernetes' own types and prints it again: a field that they do not have, or of another
/// type, does not come back.
#[test]
fn kubernetes_knows_every_field_of_the_manifests() {
    let Some(kubectl) = needed("kubectl") else { return };
    for (name, text) in files(&folder().join("kubernetes")) {
        for document in documents(&name, &text) {
            if document["kind"] == "ConfigMap" {
                continue;
            }
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("manifest.json");
            fs::write(&file, document.to_string()).expect("a file");
            let mut command = Command::new(&kubectl);
            command
                .args(["set", "serviceaccount", "--local", "-o", "json", "-f"])
                .arg(&file)
                .arg("default");
            let output = command.output().expect("it runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {said}");
            let typed = serde_json::from_slice(&output.stdout).expect("it prints JSON");
            check_kept(&name, &document, &typed);
        }
    }
}

#[test]
fn systemd_takes_the_units() {
    let Some(systemd) = needed("systemd-analyze") else { return };
    let units = tempfile::tempdir().expect("a folder");
    for (name, text) in files(&folder().join("systemd")) {
        // The program and its user are not installed here.
        let program = pillion().display().to_string();
        let text = text.replace("/usr/local/bin/pillion", &program);
        let text = text.replace("User=pillion", "User=root").replace("Group=pillion", "Group=root");
        let name = Path::new(&name).file_name().expect("it is a file");
        fs::write(units.path().join(name), text).expect("a file");
    }
    let paths = files(units.path()).into_iter().map(|(path, _)| path);
    let mut command = Command::new(systemd);
    command.args(["verify", "--recursive-errors=no"]).args(paths);
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
