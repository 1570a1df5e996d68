//! `vellum serve`: runs the node until it is told to stop.

use std::io::Write;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{Context, Logged};
use crate::config::LogFormat;
use crate::node::{Built, FIRST_ADMINISTRATOR};
use crate::start_check::Accepted;
use crate::telemetry;

/// Runs the node.
pub fn run(context: &Context, accepted: Accepted) -> anyhow::Result<()> {
    let settings = context.settings()?;
    install_tls();
    let exporting = telemetry::start(&settings.log, &settings.telemetry)?;
    let system = actix::System::with_tokio_rt(|| {
        #[expect(
            clippy::expect_used,
            reason = "without a runtime there is nothing that could report the error"
        )]
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("the operating system gives threads to a starting process")
    });
    let served = system.block_on(async {
        // Listened to from the start: a signal during the start stops the node as soon as it stands.
        let stop = stop_signal()?;
        ignore_hangups()?;
        let format = telemetry::format(&settings.log);
        let logged = |message| move |error| log_failure(format, message, error);
        let node = Built::new(&settings, accepted).await.map_err(logged("node not started"))?;
        announce(&node, format)?;
        node.run(stop).await.map_err(logged("node failed"))
    });
    exporting.finish();
    served
}

/// Logs why the node ends, where the log is for programs: a line of plain text would break it up.
fn log_failure(format: LogFormat, message: &'static str, error: anyhow::Error) -> anyhow::Error {
    if format == LogFormat::Pretty {
        return error;
    }
    tracing::error!(error = format!("{error:#}"), "{message}");
    error.context(Logged)
}

/// The one TLS library of this process.
pub fn install_tls() {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS library had been set before");
    }
}

fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// A terminal that goes away, or somebody who expects the settings to be read again, does not end the node.
fn ignore_hangups() -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP ignored; restart the node to apply settings");
        }
    });
    Ok(())
}

/// Scripts wait for the one line on standard output; people read the rest on standard error.
fn announce(node: &Built, format: LogFormat) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on http://{}", node.address())?;
    out.flush()?;
    drop(out);
    if node.is_first_start() {
        match format {
            LogFormat::Pretty => welcome(node)?,
            LogFormat::Json => tracing::info!(
                origin = node.origin().as_str(),
                administrator = FIRST_ADMINISTRATOR,
                "first start; to open a session: vellum user session --email {FIRST_ADMINISTRATOR}"
            ),
        }
    }
    Ok(())
}

fn welcome(node: &Built) -> anyhow::Result<()> {
    let origin = node.origin().as_str();
    let mut err = std::io::stderr().lock();
    writeln!(
        err,
        "\nThis is the node's first start. It is {origin}, and its administrator is {FIRST_ADMINISTRATOR}.\n\
         To sign in, ask for a code and read it from the letter in the outbox of the data folder:\n\
         \n    curl {origin}/auth/verify -H 'content-type: application/json' -d '{{\"email\":\"{FIRST_ADMINISTRATOR}\"}}'\n\
         \nor print a session's token: vellum user session --email {FIRST_ADMINISTRATOR}\n"
    )?;
    Ok(())
}
