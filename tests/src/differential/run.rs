//! One case against one program: starts everything, takes the steps, and notes what was seen.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, mem};

use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::programs::{Process, free_port};

use super::bootstrap::{fill, fill_text, static_bootstrap};
use super::case::{Case, Config, Raw, Request, Step, UpstreamProtocol, Wait};
use super::client;
use super::http1::Wire;
use super::program::{Folder, Program, admin};
use super::stage::Stage;
use super::text::Normaliser;
use super::upstream;

/// How long a condition may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);
/// Without an expectation, this many equal looks mean that nothing more will come.
const SETTLED: usize = 20;

/// A case that is running.
struct Run<'a> {
    case: &'a Case,
    folder: Folder,
    /// Placeholders and their values.
    names: BTreeMap<String, String>,
    stage: Arc<Stage>,
    /// The upstreams.
    tasks: JoinSet<()>,
    connections: HashMap<String, Wire>,
    background: Vec<(usize, JoinHandle<Value>)>,
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
    if !case.refused.is_empty() {
        seen.insert("refused".into(), run.refusals(program).await?);
    }
    if !case.steps.is_empty() {
        let Some(process) = run.start(program, &case.config).await? else {
            return Err(format!("{} refuses the configuration", program.name));
        };
        let mut steps = run.steps().await?;
        normaliser.apply(&mut steps);
        seen.insert("steps".into(), steps);
        seen.extend(run.settle(&normaliser, expected).await?);
        drop(process);
    }
    Ok(Value::Object(seen))
}

impl<'a> Run<'a> {
    async fn new(case: &'a Case) -> Result<Self, String> {
        let mut run = Self {
            case,
            folder: Folder::new()?,
            names: BTreeMap::new(),
            stage: Arc::new(Stage::new()),
            tasks: JoinSet::new(),
            connections: HashMap::new(),
            background: Vec::new(),
        };
        for name in ["listener", "second", "admin", "unused"] {
            run.names.insert(name.into(), free_port().to_string());
        }
        run.names
            .insert("log".into(), run.folder.0.join("access.log").to_string_lossy().into_owned());
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
        Ok(run)
    }

    async fn start(&self, program: &Program, config: &Config) -> Result<Option<Process>, String> {
        let mut bootstrap = static_bootstrap(self.case, config);
        fill(&mut bootstrap, &self.names);
        program.start(&bootstrap, self.port("admin")?, &self.folder.0).await
    }

    async fn refusals(&self, program: &Program) -> Result<Value, String> {
        let mut refused = Map::new();
        for (name, config) in &self.case.refused {
            let process = self.start(program, config).await?;
            refused.insert(name.clone(), json!(process.is_none()));
        }
        Ok(Value::Object(refused))
    }

    async fn steps(&mut self) -> Result<Value, String> {
        let mut seen = Vec::new();
        for (at, step) in self.case.steps.iter().enumerate() {
            let noted =
                self.step(at, step).await.map_err(|error| format!("steps[{at}]: {error}"))?;
            seen.push(noted);
        }
        for (at, task) in mem::take(&mut self.background) {
            seen[at] = task.await.map_err(|e| e.to_string())?;
        }
        Ok(Value::Array(seen))
    }

    async fn step(&mut self, at: usize, step: &Step) -> Result<Value, String> {
        match step {
            Step::Get(path) => {
                let request = Request { path: path.clone(), ..Request::default() };
                return self.request(at, request).await;
            }
            Step::Request(request) => return self.request(at, request.clone()).await,
            Step::Raw(raw) => return self.raw(at, raw.clone()).await,
            Step::Admin(request) => {
                let answer = admin(self.port("admin")?, request).await?;
                return Ok(json!({"status": answer.status, "body": answer.body}));
            }
            Step::Close(name) => {
                self.connections
                    .remove(name)
                    .ok_or_else(|| format!("there is no connection {name}"))?;
            }
            Step::Release(name) => self.stage.release(name),
            Step::Wait(condition) => return self.wait(condition).await,
            Step::Push(_) => return Err("this case has no control plane".into()),
        }
        Ok(Value::Null)
    }

    async fn request(&mut self, at: usize, mut request: Request) -> Result<Value, String> {
        for text in [&mut request.path, &mut request.host] {
            *text = fill_text(text, &self.names);
        }
        for (_, value) in &mut request.headers.0 {
            *value = fill_text(value, &self.names);
        }
        let wire = self
            .connection(request.connection.as_deref(), &request.to, request.source.as_deref())
            .await?;
        if request.background {
            self.background
                .push((at, tokio::spawn(async move { client::exchange(wire, &request).await.0 })));
            return Ok(Value::Null);
        }
        let (noted, wire) = client::exchange(wire, &request).await;
        self.keep(request.connection, wire);
        Ok(noted)
    }

    async fn raw(&mut self, at: usize, mut raw: Raw) -> Result<Value, String> {
        raw.send = fill_text(&raw.send, &self.names);
        let mut wire =
            self.connection(raw.connection.as_deref(), &raw.to, raw.source.as_deref()).await?;
        if raw.background {
            self.background
                .push((at, tokio::spawn(async move { client::raw(&mut wire, &raw).await })));
            return Ok(Value::Null);
        }
        let noted = client::raw(&mut wire, &raw).await;
        self.keep(raw.connection, Some(wire));
        Ok(noted)
    }

    async fn wait(&self, condition: &Wait) -> Result<Value, String> {
        match condition {
            Wait::Received(upstream, count) => {
                let received = self.stage.wait_received(upstream, *count);
                match tokio::time::timeout(PATIENCE, received).await {
                    Ok(()) => Ok(Value::Null),
                    Err(_) => Ok(json!({"not_in_time": format!("{upstream} receives {count}")})),
                }
            }
            Wait::Stat(name, value) => {
                let begin = Instant::now();
                while self.stats(std::slice::from_ref(name)).await?[name] != *value {
                    if begin.elapsed() > PATIENCE {
                        return Ok(json!({"not_in_time": format!("{name} is {value}")}));
                    }
                    tokio::time::sleep(POLL).await;
                }
                Ok(Value::Null)
            }
            Wait::Answer(_) => Err("this case has no control plane".into()),
        }
    }

    /// What is only complete after a while: looks until it is as expected, or until it no longer changes.
    async fn settle(
        &self,
        normaliser: &Normaliser,
        expected: Option<&Value>,
    ) -> Result<Map<String, Value>, String> {
        let begin = Instant::now();
        let mut last = Map::new();
        let mut same = 0;
        loop {
            let seen = self.outcome(normaliser).await?;
            same = if seen == last { same + 1 } else { 0 };
            let done = match expected {
                Some(expected) => {
                    seen.iter().all(|(name, value)| expected.get(name) == Some(value))
                }
                None => same >= SETTLED,
            };
            if done || begin.elapsed() > PATIENCE {
                return Ok(seen);
            }
            last = seen;
            tokio::time::sleep(POLL).await;
        }
    }

    async fn outcome(&self, normaliser: &Normaliser) -> Result<Map<String, Value>, String> {
        let mut seen = Map::new();
        seen.insert("upstreams".into(), json!(self.stage.received()));
        let log = fs::read_to_string(self.folder.0.join("access.log")).unwrap_or_default();
        // A line of a JSON log is compared field by field.
        let lines: Vec<Value> =
            log.lines().map(|line| serde_json::from_str(line).unwrap_or(json!(line))).collect();
        seen.insert("log".into(), json!(lines));
        if !self.case.stats.is_empty() {
            seen.insert("stats".into(), self.stats(&self.case.stats).await?);
        }
        seen.values_mut().for_each(|value| normaliser.apply(value));
        Ok(seen)
    }

    /// Statistics by name, null where there is none. Names may contain placeholders.
    async fn stats(&self, names: &[String]) -> Result<Value, String> {
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

    async fn connection(
        &mut self,
        name: Option<&str>,
        to: &str,
        source: Option<&str>,
    ) -> Result<Wire, String> {
        match name.and_then(|name| self.connections.remove(name)) {
            Some(wire) => Ok(wire),
            None => client::connect(self.port(to)?, source).await,
        }
    }

    fn keep(&mut self, name: Option<String>, wire: Option<Wire>) {
        self.connections.extend(name.zip(wire));
    }

    fn port(&self, name: &str) -> Result<u16, String> {
        let port = self.names.get(name).and_then(|port| port.parse().ok());
        port.ok_or_else(|| format!("there is no port {name}"))
    }
}
