//! The demo's mesh: which processes there are, and what the control plane tells their sidecars.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;

use tempfile::TempDir;

use super::control_plane::Api;
use super::identity::{self, Shown};
use super::process::{Process, ReservedPort};
use super::resources::{self, CLIENT, SERVER};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A replica of the service and the server side's port in front of it.
struct Replica {
    process: Process,
    inbound: ReservedPort,
}

/// A Pillion and its admin interface.
struct Sidecar {
    process: Process,
    admin: ReservedPort,
}

/// All processes. They end when it is dropped.
pub struct Mesh {
    replicas: BTreeMap<String, Replica>,
    client: Sidecar,
    server: Sidecar,
    control_plane: Process,
    outbound: ReservedPort,
    /// Where the control plane serves xDS.
    pub xds: SocketAddr,
    /// The control plane's HTTP API.
    pub api: Api,
    logs: TempDir,
}

impl Mesh {
    /// Starts the control plane and both sidecars, which know nothing but its address.
    ///
    /// # Errors
    /// A process does not start.
    pub async fn start() -> Result<Self> {
        let logs = tempfile::Builder::new().prefix("pillion-demo-").tempdir()?;
        let mut control_plane =
            Process::spawn("control-plane", &["demo-control-plane"], logs.path())?;
        let addresses = control_plane.first_line().await?;
        let (xds, api) = addresses.split_once(' ').ok_or("the control plane has no API")?;
        let (xds, api) = (xds.parse()?, api.parse()?);
        let sidecar = |node: &str| -> Result<Sidecar> {
            let admin = ReservedPort::new()?;
            let bootstrap = resources::bootstrap(node, admin.address, xds);
            let arguments = ["--concurrency", "1", "--config-yaml", &bootstrap];
            Ok(Sidecar { process: Process::spawn(node, &arguments, logs.path())?, admin })
        };
        Ok(Mesh {
            replicas: BTreeMap::new(),
            client: sidecar(CLIENT)?,
            server: sidecar(SERVER)?,
            control_plane,
            outbound: ReservedPort::new()?,
            xds,
            api: Api::new(api),
            logs,
        })
    }

    /// Where the client side takes requests.
    pub fn address(&self) -> SocketAddr {
        self.outbound.address
    }

    /// The admin interfaces of the client side and the server side.
    pub fn admin(&self) -> [SocketAddr; 2] {
        [self.client.admin.address, self.server.admin.address]
    }

    /// Starts a replica and puts the server side in front of it.
    ///
    /// # Errors
    /// It does not start, or the server side refuses its configuration.
    pub async fn add_replica(&mut self, name: &str, work_ms: u64) -> Result<()> {
        let work = work_ms.to_string();
        let arguments = ["demo-service", "--name", name, "--work", &work];
        let mut process = Process::spawn(name, &arguments, self.logs.path())?;
        let address = process.first_line().await?.parse()?;
        let inbound = ReservedPort::new()?;
        let resources = [
            resources::local_cluster(name, address),
            resources::inbound_listener(name, inbound.address),
        ];
        self.replicas.insert(name.to_owned(), Replica { process, inbound });
        let version = self.api.put(SERVER, &resources).await?;
        Ok(self.api.wait_ack(SERVER, "lds", version).await?)
    }

    /// Kills a replica as a crash does.
    ///
    /// # Errors
    /// There is no such replica, or the system says no.
    pub async fn kill(&mut self, name: &str) -> Result<()> {
        Ok(self.replica(name)?.process.kill().await?)
    }

    /// Ends a replica in order, and takes what is in front of it away from the server side.
    ///
    /// # Errors
    /// There is no such replica, it does not end, or the server side refuses.
    pub async fn remove_replica(&mut self, name: &str) -> Result<()> {
        self.replica(name)?.process.terminate().await?;
        self.api.delete(SERVER, "cds", name).await?;
        let version = self.api.delete(SERVER, "lds", name).await?;
        self.api.wait_ack(SERVER, "lds", version).await?;
        self.replicas.remove(name);
        Ok(())
    }

    /// The client side's first configuration: a listener, its routes, a cluster and the cluster's endpoints.
    ///
    /// # Errors
    /// A sidecar refuses it, or does not ask for it in time.
    pub async fn configure_client(&mut self, cluster: &str, replicas: &[&str]) -> Result<()> {
        let resources = [
            resources::outbound_listener(self.address()),
            resources::routes(&[(cluster, 100)]),
            resources::eds_cluster(cluster),
            resources::endpoints(cluster, &self.inbound(replicas)?),
        ];
        let version = self.api.put(CLIENT, &resources).await?;
        for kind in ["cds", "eds", "lds", "rds"] {
            self.api.wait_ack(CLIENT, kind, version).await?;
        }
        Ok(())
    }

    /// Issues both sidecars new certificates.
    ///
    /// # Errors
    /// One of them refuses.
    pub async fn rotate_certificates(&mut self) -> Result<()> {
        let version = self.api.rotate().await?;
        for sidecar in [CLIENT, SERVER] {
            self.api.wait_ack(sidecar, "sds", version).await?;
        }
        Ok(())
    }

    /// The certificates that the client side and the server side show.
    ///
    /// # Errors
    /// A sidecar does not tell, or has none.
    pub async fn shown_certificates(&self) -> Result<[Shown; 2]> {
        let [client, server] = self.admin();
        Ok([identity::shown(client).await?, identity::shown(server).await?])
    }

    /// Where the server side listens for a replica.
    ///
    /// # Errors
    /// There is no such replica.
    pub fn inbound_of(&self, replica: &str) -> Result<SocketAddr> {
        Ok(self.inbound(&[replica])?[0])
    }

    /// Gives the client side one more cluster.
    ///
    /// # Errors
    /// It refuses.
    pub async fn add_cluster(&mut self, name: &str, replicas: &[&str]) -> Result<()> {
        let endpoints = resources::endpoints(name, &self.inbound(replicas)?);
        let version = self.api.put(CLIENT, &[resources::eds_cluster(name), endpoints]).await?;
        self.api.wait_ack(CLIENT, "cds", version).await?;
        Ok(self.api.wait_ack(CLIENT, "eds", version).await?)
    }

    /// Gives a cluster of the client side other endpoints.
    ///
    /// # Errors
    /// The client side refuses.
    pub async fn set_endpoints(&mut self, cluster: &str, replicas: &[&str]) -> Result<()> {
        let endpoints = resources::endpoints(cluster, &self.inbound(replicas)?);
        let version = self.api.put(CLIENT, &[endpoints]).await?;
        Ok(self.api.wait_ack(CLIENT, "eds", version).await?)
    }

    /// Gives a cluster of the client side a replica in each of several zones: zone, replica, and whether it is healthy.
    ///
    /// # Errors
    /// The client side refuses.
    pub async fn set_zones(&mut self, cluster: &str, zones: &[(&str, &str, bool)]) -> Result<()> {
        let names: Vec<_> = zones.iter().map(|(_, replica, _)| *replica).collect();
        let addresses = self.inbound(&names)?;
        let zones = zones.iter().zip(addresses);
        let zones: Vec<_> = zones.map(|((zone, _, healthy), at)| (*zone, at, *healthy)).collect();
        let version = self.api.put(CLIENT, &[resources::zones(cluster, &zones)]).await?;
        Ok(self.api.wait_ack(CLIENT, "eds", version).await?)
    }

    /// Gives the client side other weights.
    ///
    /// # Errors
    /// It refuses.
    pub async fn set_weights(&mut self, clusters: &[(&str, u32)]) -> Result<()> {
        let version = self.api.put(CLIENT, &[resources::routes(clusters)]).await?;
        Ok(self.api.wait_ack(CLIENT, "rds", version).await?)
    }

    /// Ends everything in order: the sidecars drain first.
    ///
    /// # Errors
    /// A process does not end, or a sidecar ends with an error.
    pub async fn stop(&mut self) -> Result<()> {
        for sidecar in [&mut self.client.process, &mut self.server.process] {
            let status = sidecar.terminate().await?;
            if !status.success() {
                return Err(format!("{} ended with {status}", sidecar.name()).into());
            }
        }
        for replica in self.replicas.values_mut() {
            replica.process.terminate().await?;
        }
        self.control_plane.terminate().await?;
        Ok(())
    }

    /// The ends of the sidecars' logs, for a failure.
    pub fn sidecar_logs(&self) -> String {
        let logs = [&self.client.process, &self.server.process]
            .map(|sidecar| format!("--- log of {} ends:\n{}", sidecar.name(), sidecar.log_end()));
        logs.join("\n")
    }

    fn replica(&mut self, name: &str) -> Result<&mut Replica> {
        Ok(self.replicas.get_mut(name).ok_or_else(|| format!("there is no replica {name}"))?)
    }

    /// Where the server side listens for these replicas.
    fn inbound(&self, replicas: &[&str]) -> Result<Vec<SocketAddr>> {
        let address = |name: &&str| self.replicas.get(*name).map(|replica| replica.inbound.address);
        let addresses: Option<_> = replicas.iter().map(address).collect();
        addresses.ok_or_else(|| format!("not all of {replicas:?} are replicas").into())
    }
}
