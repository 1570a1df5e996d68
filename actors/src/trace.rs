//! The way of a request through nodes: W3C Trace Context (`traceparent`, version 00), and its tie to spans.
//!
//! A client's request, the delivery that it causes and the request that the delivery makes of another node
//! carry one trace id. It stands in the log lines of each, so that one message can be followed without
//! anything else set up; where spans are exported (OpenTelemetry), it is the id of the exported trace.

use std::fmt;

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The header's name.
pub const HEADER: &str = "traceparent";

/// A place in a trace: what a `traceparent` header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    sampled: bool,
}

impl TraceParent {
    /// Reads a header's value. `None` for anything that is not of version 00 to the letter: who follows a
    /// trace that cannot be read begins a new one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut field = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let plain = part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            if plain { u128::from_str_radix(part, 16).ok() } else { None }
        };
        let (version, trace, span, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        let whole = parts.next().is_none() && version == 0 && trace != 0 && span != 0;
        Some(Self { trace, span: u64::try_from(span).ok()?, sampled: flags & 1 == 1 }).filter(|_| whole)
    }

    /// The same place, in a trace that is exported here or is not. What a stranger's header says
    /// about that decides nothing: it would fill the collector.
    #[must_use]
    pub fn with_sampled(self, sampled: bool) -> Self {
        Self { sampled, ..self }
    }

    /// The trace's id, as logs show it.
    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    fn begin() -> Self {
        Self { trace: rand::random::<u128>().max(1), span: rand::random::<u64>().max(1), sampled: false }
    }

    fn child(self) -> Self {
        Self { span: rand::random::<u64>().max(1), ..self }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// Ties a new span to what caused it, notes the trace's id in its field `trace_id`, and returns the span's own
/// place, to be handed on. Without a cause a trace begins here.
#[must_use]
pub fn tie(span: &Span, cause: Option<TraceParent>) -> TraceParent {
    if let Some(cause) = cause {
        let flags = if cause.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let (trace, parent) = (TraceId::from(cause.trace), SpanId::from(cause.span));
        let remote = SpanContext::new(trace, parent, flags, true, TraceState::NONE);
        // It fails only where no spans are exported, or this one is not.
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(remote));
    }
    let exported = span.context().span().span_context().clone();
    let place = if exported.is_valid()
        && cause.is_none_or(|cause| exported.trace_id() == TraceId::from(cause.trace))
    {
        TraceParent {
            trace: u128::from_be_bytes(exported.trace_id().to_bytes()),
            span: u64::from_be_bytes(exported.span_id().to_bytes()),
            sampled: exported.is_sampled(),
        }
    } else {
        cause.map_or_else(TraceParent::begin, TraceParent::child)
    };
    span.record("trace_id", place.trace_id());
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_reads_as_it_is_written() {
        let parsed = TraceParent::parse(EXAMPLE).unwrap();
        assert_eq!(parsed.to_string(), EXAMPLE);
        assert_eq!(parsed.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn what_is_no_place_in_a_trace_is_not_followed() {
        for bad in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn without_export_the_trace_goes_on_all_the_same() {
        let cause = TraceParent::parse(EXAMPLE).unwrap();
        let place = tie(&Span::none(), Some(cause));
        assert_eq!(place.trace_id(), cause.trace_id());
        assert_ne!(place.span, cause.span, "a place of its own");
        assert_ne!(tie(&Span::none(), None).trace_id(), tie(&Span::none(), None).trace_id());
    }
}
