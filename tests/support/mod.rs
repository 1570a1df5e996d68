//! What the tests are written with: nodes, people on them, and a peer that does as it is told.

mod authenticator;
mod command_line;
mod database;
mod fault_proxy;
mod node;
mod peer;
mod person;
mod post_office;
mod replicas;
#[cfg(debug_assertions)]
mod steered;
mod tools;

pub use authenticator::Authenticator;
pub use command_line::{command, told};
pub use database::Database;
pub use fault_proxy::{Fault, FaultProxy};
pub use node::TestNode;
pub use peer::{Documents, Mood, Peer, PeerUser, Request};
pub use person::{Person, fields};
pub use post_office::{Manners, NO_ANSWER, PostOffice};
pub use replicas::Replicas;
#[cfg(debug_assertions)]
pub use steered::Steered;
pub use tools::{installed, run_tool};

use std::fmt::Debug;
use std::time::{Duration, Instant};

use vellum_protocol::UnixMillis;

/// The time now, as a device would tell it.
pub fn now() -> UnixMillis {
    vellum_actors::Clock::system().now()
}

/// A client of HTTP that knows nothing of Vellum.
pub fn plain_http() -> reqwest::Client {
    // It may be there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

/// How long a test waits for what it waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Probes until the result is what is waited for, and returns it. After 20 s it fails the test with
/// what was expected and what was seen last.
pub async fn wait_for<T: Debug, F: Future<Output = T>>(
    what: &str,
    probe: impl FnMut() -> F,
    is_met: impl Fn(&T) -> bool,
) -> T {
    wait_for_up_to(PATIENCE, what, probe, is_met).await
}

/// Like [`wait_for`], with another time limit.
pub async fn wait_for_up_to<T: Debug, F: Future<Output = T>>(
    patience: Duration,
    what: &str,
    mut probe: impl FnMut() -> F,
    is_met: impl Fn(&T) -> bool,
) -> T {
    let end = Instant::now() + patience;
    loop {
        let seen = probe().await;
        if is_met(&seen) {
            return seen;
        }
        assert!(Instant::now() < end, "waited {patience:?} for this: {what}. Seen last: {seen:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Like [`wait_for`], for a condition that gives nothing until it is met: its failure cannot say
/// what was seen.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} for this: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
