//! One case against one program: starts everything, takes the steps, and notes what was seen.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::programs::free_port;

use super::ads::Ads;
use super::bootstrap::{CONTROL_PLANE, bootstrap, fill, fill_text, resources};
use super::case::{Case, Config, UpstreamProtocol};
use super::compare::set;
use super::http1::Wire;
use super::program::{Folder, Program, Started, admin};
use super::stage::Stage;
use super::text::Normaliser;
use super::tls::Sessions;
use super::upstream;

/// How long a condition may take.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How often a condition is looked at.
pub const POLL: Duration = Duration::from_millis(10);
/// Without an expectation, this many equal looks mean that nothing more will come.
const SETTLED: usize = 20;
/// The parts of an observation that are looked at in the end.
const OUTCOME: [&str; 3] = ["upstreams", "log", "stats"];

/// A case that is running.
pub struct Run<'a> {
    pub case: &'a Case,
    folder: Folder,
    /// Placeholders and their values.
    pub names: BTreeMap<String, String>,
    pub stage: Arc<Stage>,
    /// The configuration so far, and the control plane that serves it.
    pub config: Value,
    pub ads: Option<Ads>,
    /// The upstreams.
    tasks: JoinSet<()>,
    pub connections: HashMap<String, Wire>,
    /// TLS sessions of the client.
    pub sessions: Sessions,
    pub background: Vec<(usize, JoinHandle<Value>)>,
}

/// Runs a case and returns everything that is compared. `expected` only says for how long to look.
pub async fn observe(
    program: &Program,
    case: &Case,
    expected: Option<&Value>,
) -> Result<Value, String> {
    let mut run = Run::new(case).await?;
    let normaliser = Normaliser::new(&run.names, &case.mask)?;
    let mut seen = Map::new();
    if !case.starts.is_empty() {
        seen.insert("starts".into(), run.starts(program).await?);
    }
    if !case.steps.is_empty() {
        let process = match run.start(program, &Config::read(&case.config)?).await? {
            Started::Live(process) => process,
            Started::Refused(log) => {
                return Err(format!("{} refuses the configuration:\n{log}", program.name));
            }
        };
        let mut steps = run.steps().await?;
        normaliser.apply(&mut steps);
        seen.insert("steps".into(), steps);
        if let Value::Object(outcome) = run.settle(&normaliser, expected).await? {
            seen.extend(outcome);
        }
        drop(process);
    }
    let mut seen = Value::Object(seen);
    ignore(case, &mut seen);
    Ok(seen)
}

/// Checks that the program refuses the case's configuration because of the field at this path.
pub async fn refused(program: &Program, case: &Case, field: &str) -> Result<(), String> {
    let run = Run::new(case).await?;
    let name = program.name;
    match run.start(program, &Config::read(&case.config)?).await? {
        Started::Live(_) => {
            Err(format!("{name} takes the configuration with {field}: drop `needs`"))
        }
        Started::Refused(log) if names_field(&log, field) => Ok(()),
        Started::Refused(log) => Err(format!("{name} does not refuse {field} by name:\n{log}")),
    }
}

/// Whether a message says something about the field whose path ends like this: `virtual_hosts[0].routes[0].match.cookies`.
fn names_field(message: &str, field: &str) -> bool {
    message.match_indices(field).any(|(at, _)| {
        let (before, rest) = (&message[..at], &message[at + field.len()..]);
        (before.is_empty() || before.ends_with(['.', ' '])) && rest.starts_with(": ")
    })
}

impl<'a> Run<'a> {
    async fn new(case: &'a Case) -> Result<Self, String> {
        let mut run = Self {
            case,
            folder: Folder::new()?,
            names: BTreeMap::new(),
            stage: Arc::new(Stage::new()),
            config: case.config.clone(),
            ads: None,
            tasks: JoinSet::new(),
            connections: HashMap::new(),
            sessions: Sessions::default(),
            background: Vec::new(),
        };
        for name in ["listener", "second", "admin", "unused"] {
            run.names.insert(name.into(), free_port().to_string());
        }
        run.names
            .insert("log".into(), run.folder.0.join("access.log").to_string_lossy().into_owned());
        for (name, text) in &case.files {
            let path = run.folder.0.join(name).to_string_lossy().into_owned();
            run.names.insert(format!("file.{name}"), path);
            run.write(name, text)?;
        }
        for (name, script) in &case.upstreams {
            let port = if script.protocol == UpstreamProtocol::Refused {
                free_port()
            } else {
                let listener = TcpListener::bind("127.0.0.1:0")
                    .await
                    .map_err(|e| format!("upstream {name}: {e}"))?;
                let port =
                    listener.local_addr().map_err(|e| format!("upstream {name}: {e}"))?.port();
                upstream::start(name, script, listener, &run.stage, &mut run.tasks);
                port
            };
            run.names.insert(format!("upstream.{name}"), port.to_string());
        }
        if Config::read(&run.config)?.ads.is_some() {
            let ads = Ads::start().await?;
            run.names.insert(format!("upstream.{CONTROL_PLANE}"), ads.port().to_string());
            run.ads = Some(ads);
            run.serve()?;
        }
        Ok(run)
    }

    /// Puts a text into a file of the case, in one move: that is what programs watch for.
    pub fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let (path, new) = (self.folder.0.join(name), self.folder.0.join(format!("{name}.new")));
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        written.map_err(|error| format!("file {name}: {error}"))
    }

    /// Gives the control plane the configuration so far.
    pub fn serve(&mut self) -> Result<(), String> {
        let mut resources = resources(self.case, &Config::read(&self.config)?);
        fill(&mut resources, &self.names);
        let ads = self.ads.as_mut().ok_or("this case has no control plane")?;
        ads.serve(&resources)
    }

    async fn start(&self, program: &Program, config: &Config) -> Result<Started, String> {
        let mut bootstrap = bootstrap(self.case, config);
        fill(&mut bootstrap, &self.names);
        program.start(&bootstrap, self.port("admin")?, &self.folder.0).await
    }

    async fn starts(&self, program: &Program) -> Result<Value, String> {
        let mut starts = Map::new();
        for (name, config) in &self.case.starts {
            let started = self.start(program, config).await?;
            starts.insert(name.clone(), json!(matches!(started, Started::Live(_))));
        }
        Ok(Value::Object(starts))
    }

    /// What is only complete after a while: looks until it is as expected, or until it no longer changes.
    async fn settle(
        &self,
        normaliser: &Normaliser,
        expected: Option<&Value>,
    ) -> Result<Value, String> {
        let begin = Instant::now();
        let mut last = Value::Null;
        let mut same = 0;
        loop {
            let mut seen = self.outcome(normaliser).await?;
            ignore(self.case, &mut seen);
            same = if seen == last { same + 1 } else { 0 };
            let done = match expected {
                Some(expected) => OUTCOME.iter().all(|name| expected.get(name) == seen.get(name)),
                None => same >= SETTLED,
            };
            if done || begin.elapsed() > PATIENCE {
                return Ok(seen);
            }
            last = seen;
            tokio::time::sleep(POLL).await;
        }
    }

    async fn outcome(&self, normaliser: &Normaliser) -> Result<Value, String> {
        let mut seen = json!({"upstreams": self.stage.received()});
        let log = fs::read_to_string(self.folder.0.join("access.log")).unwrap_or_default();
        // A line of a JSON log is compared field by field.
        let lines: Vec<Value> =
            log.lines().map(|line| serde_json::from_str(line).unwrap_or(json!(line))).collect();
        seen["log"] = json!(lines);
        if !self.case.stats.is_empty() {
            seen["stats"] = self.stats(&self.case.stats).await?;
        }
        normaliser.apply(&mut seen);
        Ok(seen)
    }

    /// Statistics by name, null where there is none. Names may contain placeholders.
    pub async fn stats(&self, names: &[String]) -> Result<Value, String> {
        let text = admin(self.port("admin")?, "GET /stats").await?.body;
        let all: HashMap<&str, &str> =
            text.lines().filter_map(|line| line.split_once(": ")).collect();
        let mut found = Map::new();
        for name in names {
            let value = all.get(fill_text(name, &self.names).as_str());
            let value =
                value.map(|text| text.parse::<u64>().map_or(json!(text), |number| json!(number)));
            found.insert(name.clone(), value.unwrap_or_default());
        }
        Ok(Value::Object(found))
    }

    /// The port of a name.
    pub fn port(&self, name: &str) -> Result<u16, String> {
        let port = self.names.get(name).and_then(|port| port.parse().ok());
        port.ok_or_else(|| format!("there is no port {name}"))
    }
}

/// Takes out what the case does not compare.
fn ignore(case: &Case, seen: &mut Value) {
    for place in &case.ignore {
        // A place that is not there needs no ignoring.
        let _ = set(seen, place, &Value::Null);
    }
    if case.connections == Some(false) {
        let upstreams = seen.get_mut("upstreams").and_then(Value::as_object_mut);
        let requests = upstreams
            .into_iter()
            .flat_map(|all| all.values_mut())
            .filter_map(Value::as_array_mut)
            .flatten();
        requests
            .filter_map(Value::as_object_mut)
            .for_each(|request| drop(request.remove("connection")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_by_the_end_of_its_path() {
        let message = "cluster \"a\": outer.retry_policy: is not supported";
        assert!(names_field(message, "outer.retry_policy"));
        assert!(names_field(message, "retry_policy"));
        assert!(!names_field(message, "policy"));
        assert!(!names_field(message, "outer"));
    }
}
