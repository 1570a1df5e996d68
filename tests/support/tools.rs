//! Programs of others that some tests run, such as `promtool`.

use std::io::Write;
use std::process::{Command, Output};

/// Runs a program and gives what it printed; `None` where it is not installed, said loudly.
///
/// # Panics
/// When it is not installed although `TEST_TOOLS=required`.
pub fn run_tool(program: &str, arguments: &[&str], package: &str) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            let required = std::env::var("TEST_TOOLS").as_deref() == Ok("required");
            assert!(
                !required,
                "{program} cannot be run ({error}), and TEST_TOOLS=required: install {package}"
            );
            // Written past the test harness, which keeps the words of tests that pass to itself.
            let words = format!("\n*** SKIPPED: {program} is not installed (package {package}) ***\n\n");
            let _ = write!(std::io::stderr(), "{words}");
            None
        }
    }
}
