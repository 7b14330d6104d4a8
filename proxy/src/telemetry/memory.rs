//! How much memory the process uses, as the kernel counts it.

/// Bytes in memory now; zeros where the kernel does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What is not shared with other processes or backed by a file: heap and stacks (`RssAnon`).
    pub private: u64,
    /// Everything (`VmRSS`).
    pub resident: u64,
}

impl Memory {
    /// Asks the kernel.
    pub fn now() -> Memory {
        std::fs::read_to_string("/proc/self/status")
            .map(|text| Memory::parse(&text))
            .unwrap_or_default()
    }

    /// Reads `/proc/<pid>/status`, which counts in kibibytes.
    fn parse(status: &str) -> Memory {
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
            kib.checked_mul(1024)
        };
        Memory { private: field("RssAnon:").unwrap_or(0), resident: field("VmRSS:").unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let text = "Name:\tx\nVmRSS:\t    2048 kB\nRssAnon:\t    1024 kB\n";
        assert_eq!(Memory::parse(text), Memory { private: 1 << 20, resident: 2 << 20 });
        assert_eq!(Memory::parse("VmRSS: lots"), Memory::default());
        assert!(Memory::now().resident > 0);
    }
}
