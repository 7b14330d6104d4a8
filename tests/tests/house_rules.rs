//! The rules of the house, as far as a program can check them: who may import whom, how long files and functions are, and
//! what no source may hold.

use std::fs;
use std::path::{Path, PathBuf};

/// Production lines of a file.
const FILE_LIMIT: usize = 400;
/// Lines of a function, from its signature to its closing brace.
const FUNCTION_LIMIT: usize = 60;
/// The crates.
const CRATES: [&str; 5] = ["proto", "xds-client", "control-plane-mock", "proxy", "tests"];

/// The rooms of `proxy/src` from the roof down: an import only goes down.
const FLOORS: [&str; 11] = [
    "main",
    "cli",
    "server",
    "admin",
    "discovery",
    "downstream",
    "http",
    "route",
    "upstream",
    "tls",
    "config",
];
/// Rooms on the ground: everyone may use them, and they may use each other, but not in a circle.
const GROUND: [&str; 5] = ["drain", "io", "overload", "telemetry", "intercept"];

/// A file of production code.
struct Source {
    /// Path from the root of the repository.
    path: String,
    /// Its lines without those of its test module; a line that is a comment is empty here.
    code: Vec<String>,
}

impl Source {
    /// The room of `proxy/src` that it belongs to.
    fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("proxy/src/")?;
        let room = inside.split('/').next()?;
        Some(room.trim_end_matches(".rs"))
    }

    /// Lines that hold `needle`, as `path:line`.
    fn places<'a>(&'a self, needle: &'a str) -> impl Iterator<Item = String> + 'a {
        let lines = self.code.iter().enumerate().filter(move |(_, line)| line.contains(needle));
        lines.map(|(index, _)| format!("{}:{}", self.path, index + 1))
    }

    /// The names after `crate::`, in a list of braces too.
    fn imports(&self) -> Vec<String> {
        let text = self.code.join("\n");
        text.split("crate::").skip(1).flat_map(first_segments).collect()
    }
}

/// The first segments of what follows `crate::`: one name, or one of each path in a list of braces.
fn first_segments(rest: &str) -> Vec<String> {
    let name = |path: &str| -> String {
        path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(list) = rest.strip_prefix('{') else {
        return vec![name(rest)];
    };
    let mut depth = 0;
    let mut names = vec![name(list)];
    for (index, char) in list.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(&list[index + 1..])),
            _ => {}
        }
    }
    names
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it has a parent").to_owned()
}

/// All Rust files under a folder of the repository.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The production code of all crates.
fn sources() -> Vec<Source> {
    let root = root();
    let files = CRATES.iter().flat_map(|name| rust_files(&root.join(name).join("src")));
    let read = files.map(|file| {
        let path = file.strip_prefix(&root).expect("it is inside").display().to_string();
        (path, fs::read_to_string(&file).expect("it can be read"))
    });
    let read: Vec<(String, String)> = read.collect();
    let tests: Vec<String> =
        read.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let is_test = |path: &str| {
        let rest = tests.iter().filter_map(|module| path.strip_prefix(module.as_str()));
        rest.into_iter().any(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    let kept = read.iter().filter(|(path, _)| !is_test(path));
    kept.map(|(path, text)| Source { path: path.clone(), code: production(text) }).collect()
}

/// The modules in files of their own that a file declares for tests only, as paths without `.rs`.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let folder = path.strip_suffix("/mod.rs").unwrap_or(path.trim_end_matches(".rs"));
    let lines: Vec<&str> = text.lines().collect();
    let declared = lines.windows(2).filter(|pair| is_test_module(pair));
    let names = declared.filter_map(|pair| pair[1].strip_suffix(';')?.rsplit(' ').next());
    names.map(|name| format!("{folder}/{name}")).collect()
}

fn is_test_module(pair: &[&str]) -> bool {
    pair[0] == "#[cfg(test)]" && pair[1].split(' ').any(|word| word == "mod")
}

/// The lines before the unit tests, comments blanked.
fn production(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.windows(2).position(is_test_module).unwrap_or(lines.len());
    let code = lines[..end].iter().map(|line| match line.trim_start().starts_with("//") {
        true => String::new(),
        false => (*line).to_owned(),
    });
    code.collect()
}

fn assert_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

fn floor(room: &str) -> Option<usize> {
    if GROUND.contains(&room) {
        return Some(FLOORS.len());
    }
    FLOORS.iter().position(|floor| *floor == room)
}

#[test]
fn every_room_of_the_proxy_stands_on_a_floor() {
    let sources = sources();
    let strangers = sources
        .iter()
        .filter(|source| source.room().is_some_and(|room| room != "lib" && floor(room).is_none()));
    assert_none(strangers.map(|source| source.path.clone()).collect());
}

#[test]
fn imports_only_go_down() {
    let mut violations = Vec::new();
    for source in sources() {
        let Some((room, from)) = source.room().and_then(|room| Some((room, floor(room)?))) else {
            continue;
        };
        for import in source.imports() {
            let sideways = import == room || GROUND.contains(&room) && GROUND.contains(&&*import);
            if !sideways && floor(&import).is_some_and(|to| to <= from) {
                violations.push(format!("{}: {room} may not import {import}", source.path));
            }
        }
    }
    violations.dedup();
    assert_none(violations);
}

#[test]
fn the_ground_has_no_circle() {
    let sources = sources();
    let mut uses: Vec<(&str, String)> = Vec::new();
    for source in &sources {
        let Some(room) = source.room().filter(|room| GROUND.contains(room)) else { continue };
        let imports = source.imports().into_iter();
        let ground = imports.filter(|import| import != room && GROUND.contains(&&**import));
        uses.extend(ground.map(|import| (room, import)));
    }
    // Rooms that use nothing that is left go first; what stays is in a circle.
    let mut left = GROUND.to_vec();
    loop {
        let needs =
            |room: &&str| uses.iter().any(|(from, to)| from == room && left.contains(&to.as_str()));
        let next: Vec<&str> = left.iter().copied().filter(needs).collect();
        if next.len() == left.len() {
            break;
        }
        left = next;
    }
    assert!(left.is_empty(), "{left:?} use each other in a circle: {uses:?}");
}

#[test]
fn protobuf_ends_at_the_model() {
    let rooms = ["downstream", "http", "route", "upstream", "tls", "io", "telemetry", "drain"];
    let mut violations = Vec::new();
    for source in sources() {
        // A filter translates its own configuration: it is one file.
        let own = source.path.starts_with("proxy/src/http/filters/");
        if source.room().is_some_and(|room| rooms.contains(&room)) && !own {
            violations.extend(source.places("proto::envoy::config"));
            violations.extend(source.places("proto::envoy::extensions"));
        }
    }
    assert_none(violations);
}

#[test]
fn the_xds_client_knows_no_resource_of_envoy() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("xds-client/")) {
        let places = source.places("envoy::config");
        // Who the client is: `Node` of `core`.
        violations.extend(places.filter(|place| !allowed_core(source, place)));
        violations.extend(source.places("envoy::extensions"));
        violations.extend(source.places("pillion"));
    }
    assert_none(violations);
}

fn allowed_core(source: &Source, place: &str) -> bool {
    let line = place.rsplit(':').next().and_then(|line| line.parse::<usize>().ok());
    line.is_some_and(|line| source.code[line - 1].contains("envoy::config::core::v3"))
}

#[test]
fn files_hold_one_concept() {
    let sources = sources();
    let long = sources.iter().filter(|source| source.code.len() > FILE_LIMIT);
    let say = |source: &Source| format!("{}: {} lines", source.path, source.code.len());
    assert_none(long.map(say).collect());
}

/// Files whose one long function is a single struct literal, a line a field: splitting it would only hide that.
const ONE_LITERAL: &[&str] = &["proxy/src/config/hcm/translate.rs"];

#[test]
fn functions_hold_one_phase() {
    let mut violations = Vec::new();
    for source in sources() {
        for (line, length) in functions(&source.code) {
            if length > FUNCTION_LIMIT && !ONE_LITERAL.contains(&source.path.as_str()) {
                violations.push(format!("{}:{line}: {length} lines", source.path));
            }
        }
    }
    assert_none(violations);
}

/// The functions with a body: first line, counted from 1, and length. The code is formatted, so a function ends at the
/// first line that is a closing brace as far in as its beginning.
fn functions(code: &[String]) -> Vec<(usize, usize)> {
    let begins = code.iter().enumerate().filter(|(_, line)| {
        let words = line.split_whitespace();
        let qualifiers = ["const", "async", "unsafe"];
        let mut rest =
            words.skip_while(|word| word.starts_with("pub") || qualifiers.contains(word));
        rest.next() == Some("fn")
    });
    let measured = begins.filter_map(|(begin, line)| {
        let indent = &line[..line.len() - line.trim_start().len()];
        let (close, none) = (format!("{indent}}}"), format!("{indent};"));
        let mut after = code[begin..].iter().enumerate();
        let has_body = !line.ends_with(';') && !line.ends_with('}');
        let end = after.find(|(_, line)| **line == close || line.starts_with(&none));
        end.filter(|_| has_body).map(|(length, _)| (begin + 1, length + 1))
    });
    measured.collect()
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = [
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("db", "g!("),
        concat!(".unw", "rap()"),
    ];
    let mut violations = Vec::new();
    for source in sources() {
        violations.extend(marks.iter().flat_map(|mark| source.places(mark)));
    }
    assert_none(violations);
}

#[test]
fn no_test_is_switched_off_and_no_note_is_left() {
    let root = root();
    let marks = [concat!("#[ign", "ore"), concat!("TO", "DO"), concat!("FIX", "ME")];
    let mut violations = Vec::new();
    for file in CRATES.iter().flat_map(|name| rust_files(&root.join(name))) {
        let text = fs::read_to_string(&file).expect("it can be read");
        for (index, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                violations.push(format!("{}:{}: {line}", file.display(), index + 1));
            }
        }
    }
    assert_none(violations);
}

/// The checks above would pass if they saw nothing.
#[test]
fn violations_are_seen() {
    let text = "use crate::{cli::run, io::{a, b}};\n// crate::main\nfn f() {\n    1\n}\n\
                #[cfg(test)]\nmod tests {\n    use crate::server;\n";
    let source = Source { path: "proxy/src/http/a.rs".to_owned(), code: production(text) };
    assert_eq!(source.room(), Some("http"));
    assert_eq!(source.imports(), ["cli", "io"]);
    assert_eq!(functions(&source.code), [(3, 3)]);
    assert_eq!(source.places("fn f").collect::<Vec<_>>(), ["proxy/src/http/a.rs:3"]);
    assert!(floor("cli") < floor("http") && floor("http") < floor("io"));
    let path = |source: &Source| source.path.clone();
    let paths: Vec<String> = sources().iter().map(path).collect();
    assert!(CRATES.iter().all(|name| paths.iter().any(|path| path.starts_with(name))));
}
