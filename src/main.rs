//! Parses the command line and hands over to the library.

use std::process::ExitCode;

use clap::Parser;
use vellum::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
