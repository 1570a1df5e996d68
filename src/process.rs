//! What the operating system knows about this process, under the names that Prometheus' client
//! libraries use. What the system does not tell is left out: `/proc` is Linux's.

use std::fmt::Write;
use std::fs;
use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};

/// The lines of this process, in the text form of Prometheus.
pub fn metrics() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |name| first_number_after(&status, name).map(|kib| kib * 1024.0);
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let fds = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
    let mut text = String::new();
    for (name, kind, help, value) in [
        (
            "cpu_seconds_total",
            "counter",
            "CPU time, user and system.",
            Some(seconds(ClockId::ProcessCPUTime)),
        ),
        ("start_time_seconds", "gauge", "Start of the process, in seconds since 1970.", Some(started_at())),
        ("resident_memory_bytes", "gauge", "Memory that is resident.", kib("VmRSS:")),
        ("virtual_memory_bytes", "gauge", "Size of the address space.", kib("VmSize:")),
        ("threads", "gauge", "Threads.", first_number_after(&status, "Threads:")),
        ("open_fds", "gauge", "Open file descriptors.", fds.map(|count| count as f64)),
        ("max_fds", "gauge", "Most open file descriptors.", first_number_after(&limits, "Max open files")),
    ] {
        let Some(value) = value else { continue };
        let name = format!("process_{name}");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    text
}

/// When this was asked first, which the start of a node does.
pub fn started_at() -> f64 {
    static STARTED_AT: OnceLock<f64> = OnceLock::new();
    *STARTED_AT.get_or_init(|| seconds(ClockId::Realtime))
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The number that follows a name at the start of a line.
fn first_number_after(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
