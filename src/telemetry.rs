//! Logs: to standard error, for people on a terminal and as JSON elsewhere. Traces: to an OpenTelemetry
//! collector, where one is set. And the place where what is counted and timed comes together.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, Telemetry};

/// For one export, and for the last one.
const EXPORT: Duration = Duration::from_secs(10);
const LAST_EXPORT: Duration = Duration::from_secs(5);

/// Bounds of the histograms of times, in seconds: from a write to a peer that hangs.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 300.0, 86_400.0];
/// Bounds of the histogram of a group's jobs.
const JOBS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// How often what has been timed is summed up.
const SUMMED_UP: Duration = Duration::from_secs(1);

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Sums up what has been timed, for as long as it is run: until then each single time is kept, and a busy node has many.
pub async fn sum_up() {
    let mut interval = tokio::time::interval(SUMMED_UP);
    loop {
        interval.tick().await;
        metrics().run_upkeep();
    }
}

/// What has been counted and timed in this process; the first call begins it.
pub fn metrics() -> &'static PrometheusHandle {
    METRICS.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_jobs".to_owned()), &JOBS))
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("something else counts in this process already");
        }
        handle
    })
}

/// The export of spans. What is still kept when the process ends goes with [`Exporting::finish`].
pub struct Exporting(Option<SdkTracerProvider>);

impl Exporting {
    /// Sends what has not been sent yet, for at most five seconds.
    pub fn finish(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown_with_timeout(LAST_EXPORT)
        {
            tracing::warn!(%error, "the last spans could not be exported");
        }
    }
}

/// The source of spans for the collector. Its client has threads of its own, so a slow collector holds
/// nothing up; what it does not take is dropped.
fn provider(settings: &Telemetry) -> anyhow::Result<Option<SdkTracerProvider>> {
    let Some(endpoint) = &settings.otlp_endpoint else { return Ok(None) };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_timeout(EXPORT)
        .build()
        .context("setting up the export of spans (telemetry.otlp_endpoint)")?;
    let about = Resource::builder().with_service_name("vellum").build();
    // A trace that began elsewhere is sampled when its request comes in; its spans follow that.
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
    Ok(Some(
        SdkTracerProvider::builder()
            .with_resource(about)
            .with_sampler(sampler)
            .with_batch_exporter(exporter)
            .build(),
    ))
}

/// How the lines of this process's log look: as the settings say, else by what they are written to.
#[must_use]
pub fn format(settings: &Log) -> LogFormat {
    let terminal = std::io::stderr().is_terminal();
    settings.format.unwrap_or(if terminal { LogFormat::Pretty } else { LogFormat::Json })
}

/// Logs a panic as any other line: the standard library's own words would break up a log of JSON.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let reason = panic.payload_as_str().unwrap_or("no reason given");
    let location = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(reason, location, backtrace, "panicked");
}

/// Starts logging and the export of spans as the settings say. Does nothing if logging has been started
/// before.
///
/// # Errors
/// When the collector's address cannot be used.
pub fn start(settings: &Log, telemetry: &Telemetry) -> anyhow::Result<Exporting> {
    let (format, terminal) = (format(settings), std::io::stderr().is_terminal());
    // Checked when the settings were read.
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let provider = provider(telemetry)?;
    let spans = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("vellum")));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let all = tracing_subscriber::registry().with(filter).with(spans);
    let started = match format {
        LogFormat::Pretty => all.with(lines.with_ansi(terminal).with_target(false)).try_init(),
        // The current span alone: the list of spans would have it once more.
        LogFormat::Json => all
            .with(lines.json().flatten_event(true).with_current_span(true).with_span_list(false))
            .try_init(),
    };
    std::panic::set_hook(Box::new(log_panic));
    if started.is_err() {
        tracing::debug!("logging had been started before");
    }
    Ok(Exporting(provider))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_one_line_of_the_log() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone());
        let own = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));
        tracing::subscriber::with_default(log.finish(), || {
            let panicked = std::panic::catch_unwind(|| panic!("two\nlines"));
            assert!(panicked.is_err());
        });
        std::panic::set_hook(own);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!((&line["message"], &line["reason"]), (&"panicked".into(), &"two\nlines".into()), "{text}");
        assert!(line["location"].as_str().unwrap().contains("telemetry.rs"), "{text}");
    }
}
