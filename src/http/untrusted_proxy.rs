//! Reports peers that send forwarding headers and are no trusted proxy. Most often that is the
//! operator's own proxy, missing from the settings: then all clients share its address.

use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};

use actix_web::web;
use futures_util::FutureExt;
use vellum_protocol::UnixMillis;
use vellum_store::{StoreError, node_facts};

use super::App;

/// How often a process notes it in the database, in milliseconds.
const NOTED_EVERY: i64 = 24 * 3_600_000;

/// When this process last reported one, in milliseconds since 1970; 0 for never.
#[derive(Debug, Default)]
pub struct UntrustedProxies(AtomicI64);

/// Warns in the log, once per process, and notes the peer in the database at most once a day, where
/// `vellum doctor` finds it.
pub fn report(app: &web::Data<App>, peer: IpAddr) {
    let now = app.node.clock.now();
    let last = app.untrusted_proxies.0.load(Ordering::Relaxed);
    let is_due = last == 0 || now.since(UnixMillis(last)) >= NOTED_EVERY;
    let noted = &app.untrusted_proxies.0;
    if !is_due || noted.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return;
    }
    if last == 0 {
        tracing::warn!(
            peer_ip = %peer,
            "forwarding headers ignored: if this is your proxy, add it to http.trusted_proxies"
        );
    }
    let app = app.clone();
    actix_web::rt::spawn(async move {
        let noted: Result<(), StoreError> = app
            .node
            .store
            .write(move |tx| {
                async move { node_facts::note_untrusted_proxy(tx, &peer.to_string(), now).await }.boxed()
            })
            .await;
        if let Err(error) = noted {
            tracing::warn!(%error, "untrusted proxy not noted");
        }
    });
}
