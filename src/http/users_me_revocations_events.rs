//! `/users/me/revocations/events`: the caller's pending revocations as they change, as server-sent events.
//!
//! The stream looks at the database and not at this process's own deliveries, so it tells the same whichever
//! of several nodes makes them. It begins with everything there is; a client that lost the connection just
//! asks again. It ends with the session, and when the node stops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, ContentEncoding};
use actix_web::web::{self, Bytes};
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use tokio::time::Instant;
use vellum_actors::sign_in;
use vellum_store::outbox::{self, PendingRevocation};
use vellum_store::{OutboxId, UserId};

use super::App;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::openapi::users_me_revocations_events as docs;
use super::users_me_revocations::pending_view;

/// How often the session and the rows are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often something is sent when nothing changes: a proxy between keeps the connection, and a client notices
/// that it is gone.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Streams that a user may have open.
const MOST_STREAMS: usize = 5;

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::at("/users/me/revocations/events").get_with_effects(docs::events(), events)]
}

/// How many streams each user has open.
#[derive(Debug, Clone, Default)]
pub struct OpenStreams(Arc<Mutex<HashMap<UserId, usize>>>);

/// A place among a user's streams; it is free again when this is dropped.
struct Place {
    streams: OpenStreams,
    user: UserId,
}

impl OpenStreams {
    fn enter(&self, user: &UserId) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(user.clone()).or_default();
        if *count >= MOST_STREAMS {
            return None;
        }
        *count += 1;
        Some(Place { streams: self.clone(), user: user.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.user);
            }
        }
    }
}

async fn events(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    let mut answer = HttpResponse::Ok();
    answer
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Compressed, an event would wait in a buffer for the next.
        .insert_header(ContentEncoding::Identity);
    let place = app.event_streams.enter(caller.user()).ok_or_else(|| {
        let detail = format!("You have {MOST_STREAMS} streams of events open already.");
        Problem::new(StatusCode::CONFLICT, "too_many_streams", detail)
    })?;
    Ok(answer.streaming(changes(Watch {
        app,
        caller,
        _place: place,
        known: None,
        silent_since: Instant::now(),
    })))
}

/// A stream under way.
struct Watch {
    app: web::Data<App>,
    caller: Caller,
    _place: Place,
    /// What the client knows; `None` before the first event.
    known: Option<HashMap<OutboxId, PendingRevocation>>,
    silent_since: Instant,
}

fn changes(watch: Watch) -> impl Stream<Item = Result<Bytes, actix_web::Error>> {
    stream::unfold(watch, |mut watch| async move {
        let text = watch.next().await?;
        Some((Ok(Bytes::from(text)), watch))
    })
}

impl Watch {
    /// The next events; `None` when the stream is over.
    async fn next(&mut self) -> Option<String> {
        let mut stopping = self.app.stopping.subscribe();
        loop {
            if self.known.is_some() {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    _ = stopping.wait_for(|stopping| *stopping) => return None,
                }
            }
            // A session that has ended tells no more than a request with it would.
            sign_in::authenticate(&self.app.node, &self.caller.token).await.ok()??;
            let mut conn = self.app.node.store.read().await.ok()?;
            let rows = outbox::pending_of_user(&mut conn, self.caller.user()).await.ok()?;
            drop(conn);
            let text = self.difference(rows);
            if !text.is_empty() {
                self.silent_since = Instant::now();
                return Some(text);
            }
            if self.silent_since.elapsed() >= HEARTBEAT {
                self.silent_since = Instant::now();
                return Some(": still here\n\n".to_owned());
            }
        }
    }

    /// What has changed since the client was told last.
    fn difference(&mut self, rows: Vec<PendingRevocation>) -> String {
        let now: HashMap<OutboxId, PendingRevocation> =
            rows.iter().map(|row| (row.id.clone(), row.clone())).collect();
        let Some(known) = self.known.take() else {
            self.known = Some(now);
            let rows: Vec<Value> = rows.iter().map(pending_view).collect();
            return event("pending", &json!({ "revocations": rows }));
        };
        let changed = rows.iter().filter(|row| known.get(&row.id) != Some(row));
        let mut text: String = changed.map(|row| event("changed", &pending_view(row))).collect();
        for (id, row) in &known {
            if !now.contains_key(id) {
                text += &event("gone", &json!({ "id": id, "peerHandle": row.peer_handle }));
            }
        }
        self.known = Some(now);
        text
    }
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}
