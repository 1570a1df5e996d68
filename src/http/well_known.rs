//! `/.well-known/parchment-server` and `/.well-known/user/{alias}`: what this node shows to others (wire
//! protocol, section 5).

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web;
use vellum_actors::node::REVOCATION_WINDOW_MILLIS;
use vellum_protocol::server_request::INBOX_PATH;
use vellum_protocol::{Alias, Manifest, UserDocument};
use vellum_store::friendships::RemoteUser;

use super::App;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::openapi::well_known as docs;

/// How long others may keep a document without asking again, in seconds.
const MAX_AGE: &str = "public, max-age=60";

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/.well-known/parchment-server").get(docs::server(), server),
        Endpoint::at("/.well-known/user/{alias}").get(docs::user(), user),
    ]
}

async fn server(app: web::Data<App>) -> HttpResponse {
    let window = u64::try_from(REVOCATION_WINDOW_MILLIS / 1000).ok();
    let manifest = Manifest::of_this_node(
        app.node.domain.clone(),
        app.node.identity.public(),
        window.unwrap_or_default(),
    );
    public(&manifest)
}

async fn user(app: web::Data<App>, alias: web::Path<String>) -> Result<HttpResponse, Problem> {
    let missing = || Problem::not_found("User not found");
    let alias = Alias::parse(&alias).map_err(|_| missing())?;
    let user = app.node.user_by_alias(&alias).await?.ok_or_else(missing)?;
    let shown = app.node.context.as_peer(&user).map_err(|_| missing())?;
    Ok(public(&document(&app, shown)))
}

/// The user document of somebody, on this node or on another.
pub fn document(app: &App, user: RemoteUser) -> UserDocument {
    let domain = user.handle.domain();
    let origin = if app.node.context.is_local(&user.handle) {
        app.origin.as_str().to_owned()
    } else {
        format!("{}://{domain}", if domain.is_loopback() { "http" } else { "https" })
    };
    UserDocument {
        inbox: format!("{origin}{INBOX_PATH}"),
        handle: user.handle,
        signing_key: user.signing_key,
        encryption_key: user.encryption_key,
        name: user.name,
        // An avatar here is kept as its path.
        picture: user.picture.map(|picture| match picture.starts_with('/') {
            true => format!("{origin}{picture}"),
            false => picture,
        }),
    }
}

fn public<T: serde::Serialize>(body: &T) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, MAX_AGE)).json(body)
}
