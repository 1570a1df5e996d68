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

use std::time::Duration;

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

/// Waits until `condition` gives something, and fails the test if it does not within 20 s.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    for _ in 0..400 {
        if let Some(value) = condition().await {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never happened that {what}");
}
