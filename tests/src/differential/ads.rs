//! The control plane of a case whose configuration comes over ADS.

use std::collections::BTreeSet;
use std::time::Duration;

use control_plane_mock::{Change, ControlPlane, Scope, Version, parse_documents};
use proto::{Format, type_url};
use serde_json::{Value, json};

/// How long the program may take over an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A control plane and what it serves.
pub struct Ads {
    control_plane: ControlPlane,
    served: BTreeSet<(String, String)>,
    version: Version,
}

impl Ads {
    /// Starts one that serves nothing yet.
    pub async fn start() -> Result<Self, String> {
        let started = ControlPlane::start_default().await;
        let control_plane = started.map_err(|error| format!("control plane: {error}"))?;
        Ok(Self { control_plane, served: BTreeSet::new(), version: 0 })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.control_plane.addr().port()
    }

    /// Serves these resources, each with its `@type`, and no others from now on.
    pub fn serve(&mut self, resources: &Value) -> Result<(), String> {
        let parsed = parse_documents(Format::Json, &resources.to_string());
        let resources = parsed.map_err(|error| format!("resources: {error}"))?;
        let key = |name: &str, kind: &str| (kind.to_owned(), name.to_owned());
        let names = resources.iter().map(|resource| key(resource.name(), resource.type_url()));
        let before = std::mem::replace(&mut self.served, names.collect());
        let gone = before.difference(&self.served).cloned();
        let put = resources.into_iter().map(|resource| Change::Put(Scope::All, resource));
        let delete = gone.map(|(kind, name)| Change::Delete(Scope::All, kind, name));
        self.version = self.control_plane.apply(put.chain(delete).collect());
        Ok(())
    }

    /// Waits for the program's answer to the latest version of a type, and notes whether it was an ACK or a NACK.
    pub async fn answer(&self, kind: &str) -> Result<Value, String> {
        let url = match kind {
            "listener" => type_url::LISTENER,
            "route" => type_url::ROUTE_CONFIGURATION,
            "cluster" => type_url::CLUSTER,
            "endpoint" => type_url::CLUSTER_LOAD_ASSIGNMENT,
            "secret" => type_url::SECRET,
            other => {
                let known = "listener, route, cluster, endpoint and secret";
                return Err(format!("{other} is none of {known}"));
            }
        };
        let answer = self.control_plane.wait_ack(url, self.version, None, PATIENCE).await;
        Ok(match answer {
            Ok(answer) if answer.error.is_some() => json!({"answer": "NACK"}),
            Ok(_) => json!({"answer": "ACK"}),
            Err(_) => json!({"answer": "none in time"}),
        })
    }
}
