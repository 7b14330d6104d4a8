//! Memory that only the start needed, given back.

use std::ffi::c_void;
use std::ops::Range;

use rustix::mm::{Advice, madvise};

/// Lets go of the program's own code and constants in memory, most of which only the start needed. What is needed further is
/// mapped again from the page cache as it is reached, at the cost of a few microseconds in all.
pub fn release_code() {
    for range in code() {
        let start = std::ptr::without_provenance_mut::<c_void>(range.start);
        // SAFETY: the pages are a private mapping of the program's file that cannot be written to, so that each holds what the
        // file holds, and is read from it again when it is touched.
        let released = unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) };
        if let Err(error) = released {
            tracing::debug!(%error, "the code of the start stays in memory");
        }
    }
}

/// Where the program's own code and constants are mapped.
fn code() -> Vec<Range<usize>> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let program = program.to_string_lossy();
    maps.lines().filter_map(|line| code_of(line, &program)).collect()
}

/// The addresses in a line of `/proc/<pid>/maps` (proc_pid_maps(5)), if it is about code or constants of `program`. What can
/// only be read but stands further on in the file was written to by the loader first, so that it must stay.
fn code_of(line: &str, program: &str) -> Option<Range<usize>> {
    let mut words = line.splitn(6, ' ');
    let (addresses, permissions) = (words.next()?, words.next()?);
    let (offset, _device, _inode) = (words.next()?, words.next()?, words.next()?);
    let path = words.next()?;
    let is_file_start = offset.bytes().all(|digit| digit == b'0');
    let is_as_in_file = permissions == "r-xp" || (permissions == "r--p" && is_file_start);
    if !is_as_in_file || path.trim_start() != program {
        return None;
    }
    let (start, end) = addresses.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_can_be_run_and_not_written() {
        let line = |permissions| {
            format!("55d0c0a00000-55d0c1816000 {permissions} 0057a000 fe:00 9978219    /a/pillion")
        };
        assert_eq!(code_of(&line("r-xp"), "/a/pillion"), Some(0x55d0_c0a0_0000..0x55d0_c181_6000));
        assert_eq!(code_of(&line("r-xp"), "/a/other"), None);
        assert_eq!(code_of(&line("r--p"), "/a/pillion"), None);
        let constants = line("r--p").replace("0057a000", "00000000");
        assert!(code_of(&constants, "/a/pillion").is_some());
        assert_eq!(code_of("7ffd54eca000-7ffd54eeb000 rw-p 00000000 00:00 0", "/a"), None);
    }

    #[test]
    fn code_that_was_let_go_runs_on() {
        assert!(!code().is_empty());
        release_code();
        assert!(!code().is_empty());
    }
}
