//! Commands of the binary, and what they print.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A command on the data folder `data`.
pub fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vellum"));
    command.args(arguments).env("VELLUM_DATA_DIR", data).stdin(Stdio::null());
    command
}

/// Standard output and standard error.
pub fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}
