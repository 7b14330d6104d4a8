//! Copies the descriptor set of Envoy's types, which their crate ships but does not export, into `OUT_DIR`.
//!
//! Comments and source positions are left out (3.4 MB become 0.7 MB). That is done on the wire: a decode and re-encode through
//! known types would lose the extension options (`validate.rules`, `udpa.annotations.sensitive`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Name and version of the package; the workspace pins the same version.
const PACKAGE: &str = "envoy-types-0.7.7";
/// The descriptor set inside the package.
const DESCRIPTORS: &str = "src/generated/types.bin";
/// `FileDescriptorSet.file`.
const FILE: u64 = 1;
/// `FileDescriptorProto.source_code_info`.
const SOURCE_CODE_INFO: u64 = 9;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ENVOY_TYPES_DIR");
    let Some(path) = find_descriptors() else {
        panic!("the sources of {PACKAGE} were not found; name their directory in ENVOY_TYPES_DIR");
    };
    let set =
        fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let stripped = strip(&set).unwrap_or_else(|| panic!("{} is no descriptor set", path.display()));
    let out =
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("descriptors.bin");
    fs::write(&out, stripped)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", out.display()));
}

/// Where the descriptor set lies: in the directory the user named, in cargo's copy of the registry, or where cargo says (vendored).
fn find_descriptors() -> Option<PathBuf> {
    let named = env::var_os("ENVOY_TYPES_DIR").map(PathBuf::from);
    let found = named.or_else(in_registry).or_else(by_metadata)?.join(DESCRIPTORS);
    found.is_file().then_some(found)
}

/// `$CARGO_HOME/registry/src/<registry>/<package>`.
fn in_registry() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")))?;
    let registries = fs::read_dir(home.join("registry/src")).ok()?;
    let packages = registries.flatten().map(|registry| registry.path().join(PACKAGE));
    packages.into_iter().find(|package| package.is_dir())
}

/// The manifest's directory that `cargo metadata` prints. It is asked last, since it may want packages of other platforms.
fn by_metadata() -> Option<PathBuf> {
    let cargo = env::var_os("CARGO")?;
    let output =
        Command::new(cargo).args(["metadata", "--format-version=1", "--locked"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let manifests = text.split("\"manifest_path\":\"").skip(1);
    let mut paths = manifests
        .filter_map(|rest| Some(Path::new(rest.split_once('"')?.0).parent()?.to_path_buf()));
    paths.find(|path| path.ends_with("envoy-types") || path.ends_with(PACKAGE))
}

/// The set with every file's source code information dropped; `None` when it is no protobuf.
fn strip(set: &[u8]) -> Option<Vec<u8>> {
    let mut stripped = Vec::with_capacity(set.len() / 4);
    for field in fields(set) {
        let Field { number: FILE, content, .. } = field? else { continue };
        let mut file = Vec::with_capacity(content.len());
        for field in fields(content) {
            let field = field?;
            if field.number != SOURCE_CODE_INFO {
                file.extend_from_slice(field.whole);
            }
        }
        stripped.push((FILE as u8) << 3 | 2);
        write_varint(&mut stripped, file.len());
        stripped.extend_from_slice(&file);
    }
    Some(stripped)
}

/// One field of an encoded message.
struct Field<'a> {
    number: u64,
    content: &'a [u8],
    whole: &'a [u8],
}

/// The fields of an encoded message; `None` for the first broken one. Descriptors hold varints and length-delimited fields only.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Option<Field<'_>>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = read_field(&mut rest);
        if field.is_none() {
            rest = &[];
        }
        Some(field)
    })
}

fn read_field<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let start = *rest;
    let key = read_varint(rest)?;
    let content = match key & 7 {
        0 => {
            read_varint(rest)?;
            &[]
        }
        2 => {
            let length = usize::try_from(read_varint(rest)?).ok()?;
            rest.split_off(..length)?
        }
        _ => return None,
    };
    Some(Field { number: key >> 3, content, whole: &start[..start.len() - rest.len()] })
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn write_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
