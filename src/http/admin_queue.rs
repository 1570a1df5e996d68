//! `/admin/queue`: what is on its way to other nodes, for those who run this one.

use actix_web::HttpResponse;
use actix_web::web;
use futures_util::FutureExt;
use serde_json::{Value, json};
use vellum_actors::operators::{self, Paused};
use vellum_actors::{Asker, Error};
use vellum_protocol::Domain;
use vellum_store::StoreError;
use vellum_store::outbox::State;
use vellum_store::outbox::overview::{self, Selection};
use vellum_store::{OutboxId, node_state};

use super::App;
use super::body::Body;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::{FieldError, Problem};
use super::fields::Fields;
use super::openapi::admin_queue as docs;
use super::paging::Paging;
use crate::shown;

const READ: &str = "system:read";
const WRITE: &str = "system:write";

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/admin/queue").get(docs::list(), list),
        Endpoint::at("/admin/queue/retry").post(docs::retry_all(), retry_all),
        Endpoint::at("/admin/queue/pause").post(docs::pause(), pause),
        Endpoint::at("/admin/queue/resume").post(docs::resume(), resume),
        Endpoint::at("/admin/queue/{id}").get(docs::show(), show).delete(docs::drop_row(), drop_row),
        Endpoint::at("/admin/queue/{id}/retry").post(docs::retry(), retry),
    ]
}

#[derive(serde::Deserialize)]
struct Filter {
    peer: Option<String>,
    state: Option<String>,
}

async fn list(
    app: web::Data<App>,
    caller: Caller,
    page: Paging,
    filter: web::Query<Filter>,
) -> Result<HttpResponse, Problem> {
    caller.require(READ)?;
    let Filter { peer, state } = filter.into_inner();
    let state = match state.as_deref() {
        None => None,
        Some(word) => Some(State::parse(word).ok_or_else(|| {
            let message = "must be awaiting_signature, queued, delivering or rejected".into();
            Problem::validation(vec![FieldError { field: "state".into(), message }])
        })?),
    };
    let selection = Selection { id: None, peer_domain: peer.map(|peer| peer.to_ascii_lowercase()), state };
    let (limit, offset) = (page.limit, page.offset());
    let read: Result<_, StoreError> = app
        .node
        .store
        .read_blocking(move |conn| {
            async move {
                let rows = overview::rows(conn, &selection, limit, offset).await?;
                let total = overview::count(conn, &selection).await?;
                let depths = overview::depths(conn).await?;
                Ok((rows, total, depths, node_state::deliveries_paused(conn).await?))
            }
            .boxed()
        })
        .await;
    let (rows, total, depths, paused) = read?;
    let rows: Vec<Value> = rows.iter().map(shown::queue_row).collect();
    let depth = |depth: &overview::Depth| {
        let oldest = super::shown(depth.oldest);
        json!({ "state": depth.state.as_str(), "rows": depth.rows, "oldest": oldest })
    };
    let depths: Vec<Value> = depths.iter().map(depth).collect();
    Ok(super::private(&json!({
        "data": rows, "total": total, "depths": depths, "paused": paused, "page": page.page,
        "limit": page.limit,
    })))
}

async fn show(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    caller.require(READ)?;
    let selection = Selection { id: Some(OutboxId::from(id.into_inner())), ..Selection::default() };
    let found = overview::rows(&mut *app.node.store.read().await?, &selection, 1, 0).await?.pop();
    Ok(super::private(&shown::queue_row(&found.ok_or(Error::NotQueued)?)))
}

async fn retry(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let selection = Selection { id: Some(OutboxId::from(id.into_inner())), ..Selection::default() };
    let rows = operators::retry(&app.node.store, &app.node.clock, selection).await?;
    note(&caller, "tries a row of the queue");
    Ok(super::private(&json!({ "success": true, "rows": rows })))
}

async fn retry_all(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let peer_domain = read_peer(&body)?.map(|peer| peer.folded());
    let selection = Selection { peer_domain, ..Selection::default() };
    let rows = operators::retry(&app.node.store, &app.node.clock, selection).await?;
    note(&caller, "tries the queue");
    Ok(super::private(&json!({ "success": true, "rows": rows })))
}

async fn pause(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    set_paused(&app, &caller, &body, true).await
}

async fn resume(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    set_paused(&app, &caller, &body, false).await
}

async fn set_paused(app: &App, caller: &Caller, body: &[u8], paused: bool) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let what = read_peer(body)?.map_or(Paused::Everything, Paused::Peer);
    operators::pause(&app.node.store, what, paused).await?;
    note(caller, if paused { "pauses deliveries" } else { "lets deliveries go on" });
    Ok(super::private(&json!({ "success": true })))
}

async fn drop_row(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    operators::drop_row_here(&app.node, OutboxId::from(id.into_inner())).await?;
    note(&caller, "drops a row of the queue");
    Ok(super::private(&json!({ "success": true })))
}

fn read_peer(body: &[u8]) -> Result<Option<Domain>, Problem> {
    let mut fields = Fields::of_optional_body(body)?;
    let peer = fields.optional_text("peer").map(|text| Domain::parse(&text));
    if matches!(peer, Some(Err(_))) {
        fields.wrong("peer", "must be the domain of a node");
    }
    fields.finish()?;
    Ok(peer.and_then(Result::ok))
}

/// Who did what is in the log.
pub(super) fn note(caller: &Caller, what: &str) {
    tracing::info!(operator = %Asker::from(caller).user, "{what}");
}
