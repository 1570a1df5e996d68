//! `/admin/peers`: the nodes that this one has met, for those who run it.

use actix_web::HttpResponse;
use actix_web::web;
use futures_util::FutureExt;
use serde_json::{Value, json};
use vellum_actors::{Error, operators};
use vellum_protocol::{Domain, SigningKey};
use vellum_store::StoreError;
use vellum_store::peers::{self, PeerPolicy};

use super::App;
use super::admin_queue::note;
use super::body::Body;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::fields::Fields;
use super::openapi::admin_peers as docs;
use super::paging::Paging;
use crate::shown;

const READ: &str = "system:read";
const WRITE: &str = "system:write";

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/admin/peers").get(docs::list(), list),
        Endpoint::at("/admin/peers/{domain}").get(docs::show(), show),
        Endpoint::at("/admin/peers/{domain}/repin").post(docs::repin(), repin),
        Endpoint::at("/admin/peers/{domain}/block").post(docs::block(), block),
        Endpoint::at("/admin/peers/{domain}/allow").post(docs::allow(), allow),
    ]
}

async fn list(app: web::Data<App>, caller: Caller, page: Paging) -> Result<HttpResponse, Problem> {
    caller.require(READ)?;
    let (limit, offset) = (page.limit, page.offset());
    let read: Result<_, StoreError> = app
        .node
        .store
        .read_blocking(move |conn| {
            async move { Ok((peers::list(conn, limit, offset).await?, peers::count(conn).await?)) }.boxed()
        })
        .await;
    let (found, total) = read?;
    let found: Vec<Value> = found.iter().map(shown::peer).collect();
    Ok(super::private(&json!({
        "data": found, "total": total, "page": page.page, "limit": page.limit,
    })))
}

async fn show(app: web::Data<App>, caller: Caller, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    caller.require(READ)?;
    let domain = domain_of(&name)?;
    let found = peers::find(&mut *app.node.store.read().await?, &domain.folded()).await?;
    Ok(super::private(&shown::peer(&found.ok_or(Error::UnknownPeer(domain))?)))
}

async fn repin(
    app: web::Data<App>,
    caller: Caller,
    name: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let domain = domain_of(&name)?;
    let mut fields = Fields::of_body(&body)?;
    let key = fields.base64("key");
    fields.finish()?;
    let key = SigningKey::parse(&key).map_err(|reason| Error::InvalidKey { field: "key", reason })?;
    operators::repin(&app.node.store, &app.node.clock, domain, key).await?;
    note(&caller, "trusts another key of a peer");
    Ok(super::private(&json!({ "success": true })))
}

async fn block(
    app: web::Data<App>,
    caller: Caller,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    decide(&app, &caller, &name, PeerPolicy::Blocked).await
}

async fn allow(
    app: web::Data<App>,
    caller: Caller,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    decide(&app, &caller, &name, PeerPolicy::Allowed).await
}

async fn decide(
    app: &App,
    caller: &Caller,
    name: &str,
    standing: PeerPolicy,
) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    operators::set_standing(&app.node.store, domain_of(name)?, standing).await?;
    note(caller, "decides about a peer");
    Ok(super::private(&json!({ "success": true, "standing": standing.as_str() })))
}

/// A text that is no domain is no peer either.
fn domain_of(name: &str) -> Result<Domain, Problem> {
    Domain::parse(name).map_err(|_| Problem::not_found("There is no such peer."))
}
