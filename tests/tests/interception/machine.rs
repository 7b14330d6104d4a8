//! Machines for the tests: network namespaces with a link between them. Whatever runs in one sees only it.

use std::process::{Command, Output};
use std::time::Duration;

use pillion_tests::programs::{Process, did_not_run, in_path, pillion};

/// How long anything may take before it counts as hanging.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The user and group that a sidecar runs as.
const SIDECAR: &str = "1337";
/// The user and group that everything else runs as.
const NOBODY: &str = "65534";

/// A network namespace. It goes, with its links and rules, when this is dropped.
pub struct Machine {
    holder: Process,
}

/// Whether the tests can make machines here; says so if not.
pub fn can_run(programs: &[&str]) -> bool {
    for program in ["unshare", "nsenter", "setpriv", "ip"].iter().chain(programs) {
        if in_path(program).is_none() {
            did_not_run(&format!("`{program}` is not installed; .ci/install-tools does it"));
            return false;
        }
    }
    let tried = Command::new("unshare").args(["-n", "true"]).output();
    match tried {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            did_not_run(&format!("network namespaces cannot be made; run as root ({said})"));
            return false;
        }
        Err(error) => {
            did_not_run(&format!("unshare: {error}"));
            return false;
        }
    }
    let as_sidecar = as_user(SIDECAR, &[]).arg(pillion()).arg("--version").output();
    let reachable = as_sidecar.is_ok_and(|output| output.status.success());
    if !reachable {
        did_not_run(&format!("user {SIDECAR} cannot run {}", pillion().display()));
    }
    reachable
}

/// Programs that everybody may run; the PATH of whoever runs the tests may lead into a home.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn as_user(user: &str, options: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.args([PATH, "setpriv"]);
    command.args(["--reuid", user, "--regid", user, "--clear-groups"]).args(options);
    command
}

impl Machine {
    /// A machine with a loopback interface only.
    pub fn new(name: &str) -> Machine {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "-n", "sleep", "600"]);
        let mut holder = Process::spawn(name, &mut command).expect("it starts");
        let own = std::fs::read_link("/proc/self/ns/net").expect("/proc is there");
        let theirs = format!("/proc/{}/ns/net", holder.pid());
        let apart = || std::fs::read_link(&theirs).is_ok_and(|namespace| namespace != own);
        holder.wait_until("its namespace", PATIENCE, apart).unwrap_or_else(|e| panic!("{e}"));
        let machine = Machine { holder };
        machine.must("ip link set lo up");
        machine
    }

    /// Two machines with a link between them: `10.77.0.1` and `fd77::1`, `10.77.0.2` and `fd77::2`, each on `link0`.
    pub fn pair() -> (Machine, Machine) {
        let (one, two) = (Machine::new("one"), Machine::new("two"));
        one.must(&format!(
            "ip link add link0 type veth peer name link0 netns {}",
            two.holder.pid()
        ));
        for (machine, number) in [(&one, 1), (&two, 2)] {
            machine.must(&format!("ip addr add 10.77.0.{number}/24 dev link0"));
            machine.must(&format!("ip addr add fd77::{number}/64 dev link0 nodad"));
            machine.must("ip link set link0 up");
        }
        (one, two)
    }

    /// The namespace's file.
    pub fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.pid())
    }

    fn enter(&self, inner: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace())).arg(inner.get_program());
        command.args(inner.get_args());
        command
    }

    /// A command line of the administrator on this machine; its words are separated by spaces.
    pub fn run(&self, line: &str) -> Output {
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words);
        self.enter(&command).output().unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// As [`Self::run`]; it must succeed. Returns what it printed.
    pub fn must(&self, line: &str) -> String {
        let output = self.run(line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `pillion intercept ...` on this machine.
    pub fn intercept(&self, arguments: &str) -> Output {
        self.run(&format!("{} intercept {arguments}", pillion().display()))
    }

    /// As [`Self::intercept`]; it must succeed.
    pub fn must_intercept(&self, arguments: &str) -> String {
        self.must(&format!("{} intercept {arguments}", pillion().display()))
    }

    /// Runs a program as an ordinary user; returns how it ended and what it printed.
    pub fn as_nobody(&self, program: &str, arguments: &[&str]) -> Output {
        self.as_user(NOBODY, program, arguments)
    }

    /// Runs a program as the sidecar's user, whose connections are not intercepted.
    pub fn as_sidecar(&self, program: &str, arguments: &[&str]) -> Output {
        self.as_user(SIDECAR, program, arguments)
    }

    fn as_user(&self, user: &str, program: &str, arguments: &[&str]) -> Output {
        let mut command = as_user(user, &[]);
        command.arg(program).args(arguments);
        self.enter(&command).output().unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    /// Starts a server as an ordinary user, and waits until it listens.
    pub fn serve(&self, program: &str, arguments: &[&str], port: u16) -> Process {
        let mut command = as_user(NOBODY, &[]);
        command.arg(program).args(arguments);
        let mut process = Process::spawn(program, &mut self.enter(&command)).expect("it starts");
        let listens = || self.must("ss -Hltn").contains(&format!(":{port} "));
        process.wait_until("its port", PATIENCE, listens).unwrap_or_else(|e| panic!("{e}"));
        process
    }

    /// Starts a sidecar as user 1337 with the capability that TPROXY needs, its admin interface at 127.0.0.1:15000, and
    /// waits until it is live.
    pub fn sidecar(&self, bootstrap: &serde_json::Value) -> Process {
        let options = ["--inh-caps", "+net_admin", "--ambient-caps", "+net_admin"];
        let mut command = as_user(SIDECAR, &options);
        command.arg(pillion()).args(["--concurrency", "1", "-l", "debug", "--drain-time-s", "1"]);
        command.args(["--config-yaml", &bootstrap.to_string()]);
        let mut process = Process::spawn("sidecar", &mut self.enter(&command)).expect("it starts");
        let live = || {
            let ready = self.run("curl -s -m 5 http://127.0.0.1:15000/ready");
            String::from_utf8_lossy(&ready.stdout).trim() == "LIVE"
        };
        process.wait_until("LIVE", PATIENCE, live).unwrap_or_else(|error| panic!("{error}"));
        process
    }

    /// A counter or gauge of the sidecar.
    pub fn stat(&self, name: &str) -> u64 {
        let text = self.must("curl -s -m 5 http://127.0.0.1:15000/stats");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map_or(0, |value| value.parse().unwrap_or_else(|e| panic!("{name}: {value}: {e}")))
    }
}

/// What a program printed.
pub fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
