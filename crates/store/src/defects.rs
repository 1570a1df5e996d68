//! Known defects that a test build can be given, so that the harness shows that it would find them (docs/harness.md).
//!
//! Without the feature `planted-defects` every question here is answered with a constant no, and nothing reads the
//! environment. With it a build that is not for debugging does not compile.

#[cfg(all(feature = "planted-defects", not(debug_assertions)))]
compile_error!("the feature planted-defects is for tests: it must not be in a release");

/// A rule that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Keys change whatever version the client has rotated from.
    NoCompareAndSwap,
    /// Every transport nonce is new.
    NoNonceCheck,
    /// A revocation ends whatever there is, however new.
    NoEstablishedAt,
    /// A lease never runs out.
    NoLeaseExpiry,
    /// Changes are answered before they are durable.
    AckBeforeCommit,
}

#[cfg(feature = "planted-defects")]
impl Defect {
    /// What the environment variable `TEST_PLANTED_DEFECT` calls it.
    fn name(self) -> &'static str {
        match self {
            Self::NoCompareAndSwap => "no-compare-and-swap",
            Self::NoNonceCheck => "no-nonce-check",
            Self::NoEstablishedAt => "no-established-at",
            Self::NoLeaseExpiry => "no-lease-expiry",
            Self::AckBeforeCommit => "ack-before-commit",
        }
    }
}

/// Whether this process has the defect.
#[cfg(feature = "planted-defects")]
pub(crate) fn planted(defect: Defect) -> bool {
    use std::sync::LazyLock;
    static PLANTED: LazyLock<Option<String>> = LazyLock::new(|| {
        let named = std::env::var("TEST_PLANTED_DEFECT").ok();
        if let Some(name) = &named {
            tracing::error!(name, "this process has a PLANTED DEFECT");
        }
        named
    });
    PLANTED.as_deref() == Some(defect.name())
}

/// Whether this process has the defect: no.
#[cfg(not(feature = "planted-defects"))]
pub(crate) const fn planted(_: Defect) -> bool {
    false
}
