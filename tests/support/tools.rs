//! Programs of others that some tests run, where they are installed, such as `promtool` and nginx.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};

/// The path of a program; `None` where it is not installed, said loudly.
///
/// # Panics
/// When it is not installed although `TEST_TOOLS=required`.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers are in folders that the PATH of a user may leave out.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    if found.is_none() {
        let required = std::env::var("TEST_TOOLS").as_deref() == Ok("required");
        assert!(!required, "{program} is not installed, and TEST_TOOLS=required");
        // Written past the test harness, which keeps the words of tests that pass to itself.
        let words = format!("\n*** SKIPPED: {program} is not installed ***\n\n");
        let _ = std::io::stderr().write_all(words.as_bytes());
    }
    found
}

/// Runs a program and gives what it printed; `None` where it is not installed, said loudly.
///
/// # Panics
/// When it is not installed although `TEST_TOOLS=required`, and when it cannot be run.
pub fn run_tool(program: &str, arguments: &[&str], package: &str) -> Option<Output> {
    let path = installed(program)?;
    let output = Command::new(path).args(arguments).output();
    Some(output.unwrap_or_else(|error| panic!("{program} cannot be run ({error}): install {package}")))
}
