//! Serves sets of resources over ADS and compares each verdict with Envoy's:
//! `cargo run -p pillion-tests --bin corpus -- FOLDER...`. Beside a folder `sets/` with one JSON file a set
//! (`{"resources": [{"@type": ...}]}`) lies `sets.envoy-*.json`, with `ack` or `nack: reason` by set and type.
//!
//! The names and addresses in such sets are other people's: run it where there is no network but the loopback
//! (`unshare --user --map-root-user --net`, then `ip link set lo up`).

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use control_plane_mock::{ControlPlane, Resource, parse_documents};
use pillion_tests::scenario::Sidecar;
use pillion_tests::scenario::config::ads_bootstrap;
use proto::{Format, type_url};
use serde_json::Value;

/// How long a verdict may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The types in the order of pushes, with their names in the verdicts.
const TYPES: [(&str, &str); 5] = [
    ("CDS", type_url::CLUSTER),
    ("EDS", type_url::CLUSTER_LOAD_ASSIGNMENT),
    ("LDS", type_url::LISTENER),
    ("RDS", type_url::ROUTE_CONFIGURATION),
    ("SDS", type_url::SECRET),
];

/// Compares Pillion's verdicts on sets of resources with Envoy's.
#[derive(Parser)]
struct Args {
    /// Folders of sets.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// Only sets whose name contains this.
    #[arg(long, default_value = "")]
    filter: String,
}

/// `ack`, or why not, by the type's name.
type Verdicts = BTreeMap<String, String>;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    let (mut same, mut all) = (0, 0);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for folder in &args.folders {
        let expected = expected(folder)?;
        for (name, expected) in expected.iter().filter(|(name, _)| name.contains(&args.filter)) {
            let resources = resources(&folder.join(format!("{name}.json")))?;
            let found = serve(resources, expected).await?;
            all += 1;
            let differ: Vec<_> = expected
                .iter()
                .filter(|(kind, verdict)| is_ack(verdict) != is_ack(&found[*kind]))
                .collect();
            if differ.is_empty() {
                same += 1;
            }
            for (kind, verdict) in differ {
                println!("{name} {kind}\n  Envoy   : {verdict}\n  Pillion : {}", found[kind]);
                *reasons.entry(reason(&found[kind])).or_default() += 1;
            }
        }
    }
    println!("{same} of {all} sets get Envoy's verdict ({:.1} %)", percent(same, all));
    for (reason, count) in reasons {
        println!("{count:5} {reason}");
    }
    Ok(if same == all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn percent(part: usize, all: usize) -> f64 {
    100.0 * part as f64 / all.max(1) as f64
}

fn is_ack(verdict: &str) -> bool {
    verdict == "ack"
}

/// What a NACK complains of, without the resource and the numbers in its path.
fn reason(verdict: &str) -> String {
    let complaint = verdict.split_once("\": ").map_or(verdict, |(_, complaint)| complaint);
    complaint.lines().next().unwrap_or_default().chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Envoy's verdicts, which lie beside the folder.
fn expected(folder: &Path) -> Result<BTreeMap<String, Verdicts>, Box<dyn Error>> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.parent().unwrap_or(Path::new("."));
    let is_verdict = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&format!("{name}.envoy-")) && file.ends_with(".json")
    };
    let mut paths = fs::read_dir(beside)?.filter_map(|entry| Some(entry.ok()?.path()));
    let path =
        paths.find(is_verdict).ok_or_else(|| format!("no {name}.envoy-*.json in {beside:?}"))?;
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}

/// A set's resources, with a certificate in the place of the placeholders.
fn resources(path: &Path) -> Result<Vec<Resource>, Box<dyn Error>> {
    let set: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    let identity = rcgen::generate_simple_self_signed(vec!["test".into()])?;
    let escaped = |pem: String| Value::from(pem).to_string().trim_matches('"').to_owned();
    let (certificate, key) =
        (escaped(identity.cert.pem()), escaped(identity.signing_key.serialize_pem()));
    let documents = set["resources"].as_array().ok_or("a set has resources")?.iter();
    let mut resources = Vec::new();
    for document in documents {
        let text = document.to_string().replace("@CERT@", &certificate).replace("@KEY@", &key);
        resources.extend(parse_documents(Format::Json, &text)?);
    }
    Ok(resources)
}

/// Serves the resources to a Pillion of their own and tells what it says to the types that Envoy had something to say to.
async fn serve(resources: Vec<Resource>, types: &Verdicts) -> Result<Verdicts, Box<dyn Error>> {
    let control_plane = ControlPlane::start_default().await?;
    let version = control_plane.put(resources);
    let sidecar = Sidecar::spawn(
        &pillion_tests::programs::pillion(),
        &ads_bootstrap(control_plane.addr(), "GRPC"),
        &[],
    );
    let mut verdicts = Verdicts::new();
    for (name, type_url) in TYPES.iter().filter(|(name, _)| types.contains_key(*name)) {
        let answer = control_plane.wait_ack(type_url, version, None, PATIENCE).await;
        let verdict = match answer {
            Ok(answer) => answer.error.map_or("ack".to_owned(), |error| format!("nack: {error}")),
            Err(error) => format!("no answer: {error}"),
        };
        verdicts.insert((*name).to_owned(), verdict);
    }
    drop(sidecar);
    Ok(verdicts)
}
