//! Logs: to standard error, for people on a terminal and as JSON elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging as the settings say. Does nothing if logging has been started before.
pub fn start(settings: &Log) {
    let terminal = std::io::stderr().is_terminal();
    let format = settings.format.unwrap_or(if terminal { LogFormat::Pretty } else { LogFormat::Json });
    // Checked when the settings were read.
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Pretty => lines.with_ansi(terminal).with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging had been started before");
    }
}
