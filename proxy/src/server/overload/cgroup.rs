//! The control group that the process is in (cgroups(7)): version 2, or 1 where the machine has that.

use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// The process's own control group, with those around it: each of them limits.
pub struct Cgroup {
    /// The folders of version 2, innermost first.
    unified: Vec<PathBuf>,
    /// The folder of the `memory` controller of version 1.
    memory: Option<PathBuf>,
    /// The folder of the `cpu` controllers of version 1.
    cpu: Option<PathBuf>,
}

impl Cgroup {
    /// The one of this process.
    pub fn own() -> Self {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Cgroup::of(&groups, Path::new(ROOT))
    }

    /// The one that `/proc/<pid>/cgroup` describes.
    fn of(groups: &str, root: &Path) -> Self {
        let lines = groups.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?, parts.next()?.trim_start_matches('/')))
        });
        let mut found = Cgroup { unified: Vec::new(), memory: None, cpu: None };
        for (controllers, path) in lines {
            let has = |name: &str| controllers.split(',').any(|controller| controller == name);
            if controllers.is_empty() {
                let inner = root.join(path);
                let around = inner.ancestors().take_while(|folder| folder.starts_with(root));
                // Inside of a container, what the kernel calls the path may lie outside of what is mounted.
                found.unified = around.filter(|folder| folder.is_dir()).map(Into::into).collect();
            } else if has("memory") {
                found.memory = Some(mounted(root, "memory", path));
            } else if has("cpuacct") || has("cpu") {
                found.cpu = Some(mounted(root, "cpu,cpuacct", path));
            }
        }
        found
    }

    /// How much memory may be used, in bytes; none where nothing limits it.
    pub fn memory_limit(&self) -> Option<u64> {
        let unified = self.unified.iter().map(|folder| folder.join("memory.max"));
        let first = self.memory.iter().map(|folder| folder.join("memory.limit_in_bytes"));
        // Version 1 writes a number near the largest one where nothing limits.
        let limits = unified.chain(first).filter_map(|file| number(&file).ok());
        limits.filter(|limit| *limit < i64::MAX as u64 / 2).min()
    }

    /// How much memory is in use, in bytes.
    ///
    /// # Errors
    /// The file that cannot be read.
    pub fn memory_usage(&self) -> Result<u64, String> {
        let unified = self.unified.iter().map(|folder| folder.join("memory.current"));
        let first = self.memory.iter().map(|folder| folder.join("memory.usage_in_bytes"));
        let mut files = unified.chain(first);
        let file = files.find(|file| file.exists()).ok_or("no control group counts memory")?;
        number(&file)
    }

    /// How many cores the CPU quota is worth; none where nothing limits.
    pub fn cpu_quota(&self) -> Option<f64> {
        let unified = self.unified.iter().filter_map(|folder| {
            let text = std::fs::read_to_string(folder.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
        });
        let first = self.cpu.iter().filter_map(|folder| {
            let quota = std::fs::read_to_string(folder.join("cpu.cfs_quota_us")).ok()?;
            let period = number(&folder.join("cpu.cfs_period_us")).ok()?;
            let quota: f64 = quota.trim().parse().ok()?;
            (quota > 0.0).then(|| quota / period as f64)
        });
        unified.chain(first).reduce(f64::min)
    }

    /// How much CPU was used so far, in seconds.
    ///
    /// # Errors
    /// It is counted nowhere.
    pub fn cpu_seconds(&self) -> Result<f64, String> {
        let unified = self.unified.iter().filter_map(|folder| {
            let text = std::fs::read_to_string(folder.join("cpu.stat")).ok()?;
            let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
            Some(used.trim().parse::<f64>().ok()? / 1e6)
        });
        let first = self.cpu.iter().filter_map(|folder| {
            number(&folder.join("cpuacct.usage")).ok().map(|nanos| nanos as f64 / 1e9)
        });
        unified.chain(first).next().ok_or_else(|| "no control group counts CPU time".into())
    }
}

/// Where a controller of version 1 is mounted: with the group's path, or inside of a container without.
fn mounted(root: &Path, controller: &str, path: &str) -> PathBuf {
    let folder = root.join(controller);
    Some(folder.join(path)).filter(|inner| inner.is_dir()).unwrap_or(folder)
}

fn number(file: &Path) -> Result<u64, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let text = text.trim();
    text.parse().map_err(|_| format!("{}: {text:?} is no number", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_around_limits() {
        let root = std::env::temp_dir().join(format!("pillion-cgroup-{}", std::process::id()));
        let inner = root.join("pod/container");
        std::fs::create_dir_all(&inner).unwrap();
        for (file, text) in [
            ("pod/memory.max", "1000\n"),
            ("pod/container/memory.max", "max\n"),
            ("pod/container/memory.current", "250\n"),
            ("pod/container/cpu.max", "150000 100000\n"),
            ("pod/cpu.max", "max 100000\n"),
            ("pod/container/cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
        ] {
            std::fs::write(root.join(file), text).unwrap();
        }
        let group = Cgroup::of("0::/pod/container\n", &root);
        assert_eq!(group.memory_limit(), Some(1000));
        assert_eq!(group.memory_usage(), Ok(250));
        assert_eq!(group.cpu_quota(), Some(1.5));
        assert_eq!(group.cpu_seconds(), Ok(2.5));
        let nowhere = Cgroup::of("", &root);
        assert_eq!((nowhere.memory_limit(), nowhere.cpu_quota()), (None, None));
        assert!(nowhere.memory_usage().is_err());
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn version_1_has_a_folder_for_each_controller() {
        let root = std::env::temp_dir().join(format!("pillion-cgroup1-{}", std::process::id()));
        std::fs::create_dir_all(root.join("memory")).unwrap();
        std::fs::write(root.join("memory/memory.limit_in_bytes"), "9223372036854771712").unwrap();
        let group = Cgroup::of("5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n", &root);
        assert_eq!(group.memory_limit(), None);
        std::fs::write(root.join("memory/memory.limit_in_bytes"), "4096").unwrap();
        assert_eq!(group.memory_limit(), Some(4096));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
