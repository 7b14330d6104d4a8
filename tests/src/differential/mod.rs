//! The differential runner: gives one case to Envoy and to Pillion and compares what both did.
//!
//! A case is data, a YAML file under `tests/cases` (see its README). Where Envoy is not installed, its recorded answers
//! stand in: `NAME.envoy.json` beside the case, written by this runner only.

mod ads;
pub mod bootstrap;
mod case;
mod client;
mod client_hello;
mod compare;
mod frames;
mod generate;
mod grpc;
mod http1;
mod http2;
mod program;
mod run;
mod stage;
mod steps;
mod text;
mod tls;
mod upstream;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use case::{Accepted, Case, ClientHello};
use compare::{Difference, differences, expected, step_of};
pub use generate::generate;
pub use program::Program;

/// How many cases run at the same time.
const AT_ONCE: usize = 4;

/// Which cases, and what they are compared with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only cases whose name contains this.
    pub filter: String,
    /// The Envoy that is asked; without one its recorded answers stand in.
    pub envoy: Option<PathBuf>,
    /// The Pillion that is compared with it; without one Envoy's answers are recorded.
    pub pillion: Option<PathBuf>,
}

/// How many cases of an area show what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pillion does what Envoy does.
    pub alike: usize,
    /// It differs where it should.
    pub stricter: usize,
    /// It lacks something.
    pub missing: usize,
}

/// The cases by area, which is the folder.
pub fn tally() -> Result<BTreeMap<String, Tally>, String> {
    let mut areas: BTreeMap<String, Tally> = BTreeMap::new();
    for case in Case::load_all(&root(), "")? {
        let area = case.name.split('/').next().unwrap_or_default();
        let tally = areas.entry(area.to_owned()).or_default();
        let is_gap = |accepted: &Accepted| accepted.reason.starts_with("A gap of ours");
        if case.needs.is_some() || case.accepted.iter().any(is_gap) {
            tally.missing += 1;
        } else if case.accepted.is_empty() {
            tally.alike += 1;
        } else {
            tally.stricter += 1;
        }
    }
    Ok(areas)
}

/// How one case ended.
struct Outcome {
    name: String,
    took: Duration,
    verdict: Verdict,
}

/// What a case showed.
enum Verdict {
    /// Pillion does what Envoy does, and differs only where that is accepted.
    Agrees,
    /// The case needs a feature that Pillion does not have, and Pillion refuses the field by its path.
    RefusedByName,
    /// Neither; this is what was seen instead.
    Failed(String),
}

/// A TLS ClientHello for this name with these application protocols.
pub fn hello(name: &str, protocols: &[&str]) -> Vec<u8> {
    let alpn = protocols.iter().map(|name| (*name).to_owned()).collect();
    client_hello::record(&ClientHello { sni: Some(name.to_owned()), alpn })
}

/// The folder of the cases.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// Runs the cases, prints a line for each and all failures at the end; the error counts them.
pub fn run(options: &Options) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    let cases = Case::load_all(&root(), &options.filter)?;
    let begin = Instant::now();
    let outcomes = runtime.block_on(run_all(cases, options));
    let mut failed = Vec::new();
    let mut refused = 0;
    for outcome in &outcomes {
        match &outcome.verdict {
            Verdict::Agrees => {}
            Verdict::RefusedByName => refused += 1,
            Verdict::Failed(why) => {
                println!("\n{}: {why}", outcome.name);
                failed.push(outcome.name.as_str());
            }
        }
    }
    let agree = outcomes.len() - failed.len() - refused;
    println!(
        "\n{} cases: {agree} agree, {refused} refused by name, {} failed; {:.1?}",
        outcomes.len(),
        failed.len(),
        begin.elapsed()
    );
    if failed.is_empty() { Ok(()) } else { Err(failed.join(", ")) }
}

async fn run_all(cases: Vec<Case>, options: &Options) -> Vec<Outcome> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for case in cases {
        let (permits, options) = (permits.clone(), options.clone());
        running.spawn(async move {
            let _permit = permits.acquire_owned().await.expect("the semaphore is never closed");
            let begin = Instant::now();
            let verdict = run_case(&case, &options).await.unwrap_or_else(Verdict::Failed);
            Outcome { name: case.name, took: begin.elapsed(), verdict }
        });
    }
    let mut outcomes = Vec::new();
    while let Some(ended) = running.join_next().await {
        let outcome = ended.expect("a case does not panic");
        let word = match outcome.verdict {
            Verdict::Agrees => "ok",
            Verdict::RefusedByName => "refused",
            Verdict::Failed(_) => "FAILED",
        };
        println!("{word:7} {} ({:.0?})", outcome.name, outcome.took);
        outcomes.push(outcome);
    }
    outcomes.sort_by(|a, b| a.name.cmp(&b.name));
    outcomes
}

async fn run_case(case: &Case, options: &Options) -> Result<Verdict, String> {
    let recording = root().join(format!("{}.envoy.json", case.name));
    let envoy = options.envoy.clone().map(|path| Program { name: "envoy", path });
    let Some(path) = options.pillion.clone() else {
        let envoy = envoy.ok_or("without Envoy there is nothing to record")?;
        write_recording(&recording, &run::observe(&envoy, case, None).await?)?;
        return Ok(Verdict::Agrees);
    };
    let recorded = read_recording(&recording)?;
    if let Some(envoy) = envoy {
        let now = run::observe(&envoy, case, Some(&recorded)).await?;
        if now != recorded {
            let report = report(case, &differences(&recorded, &now), ["recorded", "Envoy"]);
            return Err(format!("Envoy does not do what was recorded: {report}"));
        }
    }
    let pillion = Program { name: "pillion", path };
    if let Some(field) = &case.needs {
        return run::refused(&pillion, case, field).await.map(|()| Verdict::RefusedByName);
    }
    let wanted = expected(&recorded, &case.accepted)?;
    let seen = run::observe(&pillion, case, Some(&wanted)).await?;
    match differences(&wanted, &seen).as_slice() {
        [] => Ok(Verdict::Agrees),
        found => Err(report(case, found, ["Envoy", "Pillion"])),
    }
}

/// The differences of a case for a reader; `sides` names whose is the first and whose the second value.
fn report(case: &Case, found: &[Difference], sides: [&str; 2]) -> String {
    let mut report = case.about.trim().to_owned();
    for difference in found {
        let step =
            step_of(case, &difference.at).map(|step| format!("{step}: ")).unwrap_or_default();
        report.push_str(&format!("\n  {step}{}", difference.at));
        for (side, value) in sides.iter().zip([&difference.one, &difference.other]) {
            let value = value.as_ref().map_or("(nothing)".to_owned(), Value::to_string);
            report.push_str(&format!("\n      {side:8}: {value}"));
        }
        for accepted in case.accepted.iter().filter(|accepted| accepted.at == difference.at) {
            report.push_str(&format!("\n      a difference is accepted here: {}", accepted.reason));
        }
    }
    report
}

fn read_recording(path: &Path) -> Result<Value, String> {
    let in_file = |error: String| {
        format!("{}: {error}; --record writes it where Envoy is installed", path.display())
    };
    let text = fs::read(path).map_err(|e| in_file(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| in_file(e.to_string()))
}

fn write_recording(path: &Path, seen: &Value) -> Result<(), String> {
    let text = serde_json::to_string_pretty(seen).map_err(|e| e.to_string())?;
    fs::write(path, text + "\n").map_err(|e| format!("{}: {e}", path.display()))
}
