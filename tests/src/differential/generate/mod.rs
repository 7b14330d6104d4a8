//! Random cases: both programs must agree on them too. A difference is made as small as it goes and printed as a case.

mod chains;
mod endpoints;
mod rbac;
mod routes;
mod shrink;

use fastrand::Rng;
use serde_json::{Value, json};

use super::case::Case;
use super::compare::differences;
use super::{Options, Program, run};

/// A kind of random case.
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    make: fn(&mut Rng) -> Value,
}

/// Every kind.
pub const KINDS: [Kind; 4] = [
    Kind { name: "routes", make: routes::case },
    Kind { name: "rbac", make: rbac::case },
    Kind { name: "chains", make: chains::case },
    Kind { name: "endpoints", make: endpoints::case },
];

/// The two programs.
struct Pair {
    envoy: Program,
    pillion: Program,
}

/// Tries `rounds` random cases of each kind whose name contains the filter; returns how many requests both answered alike.
///
/// # Errors
/// The programs differ: the case, as small as it got, with the seed that made it.
pub fn generate(options: &Options, seed: u64, rounds: u64) -> Result<usize, String> {
    let envoy = options.envoy.clone().ok_or("there is no Envoy to compare with")?;
    let pillion = options.pillion.clone().ok_or("there is no Pillion to compare")?;
    let pair = Pair {
        envoy: Program { name: "envoy", path: envoy },
        pillion: Program { name: "pillion", path: pillion },
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    let mut alike = 0;
    for round in 0..rounds {
        for kind in KINDS.iter().filter(|kind| kind.name.contains(&options.filter)) {
            let seed = seed.wrapping_add(round);
            let case = (kind.make)(&mut Rng::with_seed(seed));
            let Some(found) = runtime.block_on(pair.difference(&case))? else {
                alike += case["steps"].as_array().map_or(0, Vec::len);
                continue;
            };
            let small = runtime.block_on(shrink::shrink(&pair, case, &found))?;
            let found = runtime.block_on(pair.difference(&small))?.unwrap_or(found);
            let text = yaml_serde::to_string(&small).map_err(|e| e.to_string())?;
            return Err(format!("{} with seed {seed} differ: {found}\n{text}", kind.name));
        }
    }
    Ok(alike)
}

impl Pair {
    /// The first difference between the two, if there is one.
    async fn difference(&self, case: &Value) -> Result<Option<String>, String> {
        let case = Case::from_value(case.clone())?;
        let (envoy, pillion) =
            (observed(&self.envoy, &case).await, observed(&self.pillion, &case).await);
        let first = differences(&envoy, &pillion).into_iter().next();
        let shown = |value: Option<Value>| value.map_or("(nothing)".into(), |v| v.to_string());
        Ok(first.map(|found| {
            format!("{}: Envoy {}, Pillion {}", found.at, shown(found.one), shown(found.other))
        }))
    }
}

/// What a program shows; that it refuses the configuration is something to compare too.
async fn observed(program: &Program, case: &Case) -> Value {
    match run::observe(program, case, None).await {
        Ok(seen) => seen,
        Err(error) if error.contains("refuses the configuration") => json!("refused"),
        Err(error) => json!({"failed": error}),
    }
}

/// A case with these steps, of which only the answers are compared.
fn with_steps(config: Value, steps: Vec<Value>) -> Value {
    json!({
        "about": "Found by the generator.",
        "config": config,
        "steps": steps,
        "ignore": ["/log", "/upstreams"],
    })
}
