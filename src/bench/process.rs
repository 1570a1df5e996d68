//! What the operating system says of a process: its memory and the processor's time that it has used. Read from
//! `/proc`, so only where that exists; elsewhere the figures are left out.

use std::time::{Duration, Instant};

/// What the kernel counts a process's time in, a second: fixed in its interface to programs.
const TICKS_A_SECOND: f64 = 100.0;

/// Some processes that are watched together.
#[derive(Debug)]
pub struct Watched {
    pids: Vec<u32>,
    since: Instant,
    used: Option<f64>,
}

impl Watched {
    /// Watches from now on.
    #[must_use]
    pub fn begin(pids: Vec<u32>) -> Self {
        let used = sum(&pids, seconds_used);
        Self { pids, since: Instant::now(), used }
    }

    /// How many cores they have used since, on average.
    #[must_use]
    pub fn cores(&self) -> Option<f64> {
        let used = sum(&self.pids, seconds_used)? - self.used?;
        Some(used / self.since.elapsed().max(Duration::from_millis(1)).as_secs_f64())
    }

    /// Their resident memory now, in MB (a million bytes).
    #[must_use]
    pub fn resident(&self) -> Option<f64> {
        sum(&self.pids, |pid| status(pid, "VmRSS:"))
    }

    /// The most that each ever had, summed up, in MB (a million bytes).
    #[must_use]
    pub fn most_resident(&self) -> Option<f64> {
        sum(&self.pids, |pid| status(pid, "VmHWM:"))
    }
}

fn sum(pids: &[u32], measure: impl Fn(u32) -> Option<f64>) -> Option<f64> {
    pids.iter().map(|pid| measure(*pid)).sum()
}

/// A line of the process's status that is in kB, in MB.
fn status(pid: u32, name: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// Time in the program and in the kernel, in seconds.
fn seconds_used(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may have anything in it: the 12th and 13th field from there.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_uses_time() {
        let watched = Watched::begin(vec![std::process::id()]);
        if !std::path::Path::new("/proc/self/status").exists() {
            return;
        }
        assert!(watched.resident().unwrap() > 0.5);
        assert!(watched.most_resident().unwrap() >= watched.resident().unwrap() / 2.0);
        assert!(watched.cores().unwrap() >= 0.0);
        assert!(Watched::begin(vec![u32::MAX]).resident().is_none(), "there is no such process");
    }
}
