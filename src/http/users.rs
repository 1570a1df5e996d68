//! `/users`: everybody's accounts, for those who may see and make them.

use actix_web::HttpResponse;
use actix_web::web;
use futures_util::FutureExt;
use serde_json::{Value, json};
use vellum_actors::accounts::{self, NewAccount};
use vellum_protocol::Alias;
use vellum_store::StoreError;
use vellum_store::roles::{self, Role};
use vellum_store::sessions;
use vellum_store::users::{self, NewUser, User};

use super::body::Body;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::fields::Fields;
use super::openapi::users as docs;
use super::paging::{Paging, Slice};
use super::sessions::read_email;
use super::{App, shown};

/// The longest name.
const LONGEST_NAME: usize = 200;
/// The longest address of a picture.
pub(super) const LONGEST_PICTURE: usize = 2000;

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/users").get(docs::list_users(), list).post(docs::create(), create),
        Endpoint::at("/users/")
            .get(docs::list_users().called("listUsersWithSlash"), list)
            .post(docs::create().called("createUserWithSlash"), create),
        Endpoint::at("/users/alias/check").get(docs::check_alias(), check_alias),
        Endpoint::at("/users/roles").get(docs::all_roles(), all_roles),
        Endpoint::at("/users/permissions").get(docs::all_permissions(), all_permissions),
    ]
}

async fn list(app: web::Data<App>, caller: Caller, page: Paging) -> Result<HttpResponse, Problem> {
    caller.require("users:read")?;
    let now = app.node.clock.now();
    let (limit, number, offset) = (page.limit, page.page, page.offset());
    let read: Result<_, StoreError> = app
        .node
        .store
        .read_blocking(move |conn| {
            async move {
                let (found, total) = users::search(conn, &page.query, limit, offset).await?;
                let mut data = Vec::with_capacity(found.len());
                for user in &found {
                    let roles = roles::of_user(conn, &user.id).await?;
                    let sessions = sessions::of_user(conn, &user.id, now).await?;
                    data.push(listed_view(user, &roles, sessions.len()));
                }
                Ok((data, total))
            }
            .boxed()
        })
        .await;
    let (data, total) = read?;
    Ok(super::private(&json!({ "data": data, "total": total, "page": number, "limit": limit })))
}

async fn create(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    caller.require("users:create")?;
    let mut fields = Fields::of_body(&body)?;
    let email = read_email(&mut fields);
    // Existing clients send ids of roles, and may leave the names out then.
    let asked = fields.optional_texts("roles", 10);
    let named = |fields: &mut Fields, name: &str| match (asked.is_empty(), fields.has(name)) {
        (_, true) => Some(fields.short_text(name, LONGEST_NAME)),
        (true, false) => Some(fields.text(name)),
        (false, false) => None,
    };
    let (first_name, last_name) = (named(&mut fields, "firstName"), named(&mut fields, "lastName"));
    let picture = fields.has("picture").then(|| fields.short_text("picture", LONGEST_PICTURE));
    let role = fields.optional_text("role");
    fields.finish()?;
    let roles = match (role, asked) {
        (Some(role), _) => vec![role],
        (None, asked) if asked.is_empty() => vec!["user".to_owned()],
        (None, asked) => asked,
    };
    let user = NewUser { email, first_name, last_name, picture };
    let (user, roles) = accounts::create_by(&app.node, &caller, NewAccount { user, roles }).await?;
    Ok(super::private(&view(&user, &roles)))
}

#[derive(serde::Deserialize)]
struct AliasQuery {
    alias: Option<String>,
}

/// Whether the caller could have an alias: not for one that breaks the grammar or that somebody
/// else has shown with a key, and always for their own.
async fn check_alias(
    app: web::Data<App>,
    caller: Caller,
    query: web::Query<AliasQuery>,
) -> Result<HttpResponse, Problem> {
    let available = match Alias::parse(query.alias.as_deref().unwrap_or_default()) {
        Ok(alias) => users::is_alias_free(&mut *app.node.store.read().await?, caller.user(), &alias).await?,
        Err(_) => false,
    };
    Ok(super::private(&json!({ "available": available })))
}

async fn all_roles(app: web::Data<App>, caller: Caller, slice: Slice) -> Result<HttpResponse, Problem> {
    caller.require("roles:read")?;
    let mut conn = app.node.store.read().await?;
    let found = roles::all(&mut conn).await?;
    let view = |role: &Role| {
        json!({
            "id": role.id,
            "name": role.name,
            "description": role.description,
            // To existing clients it says that a role came with the node, as all have here; not
            // that new users have it, which is what `Role::is_default` says.
            "isDefault": true,
        })
    };
    Ok(slice.answer_bare(&found, view))
}

async fn all_permissions(app: web::Data<App>, caller: Caller, slice: Slice) -> Result<HttpResponse, Problem> {
    caller.require("permissions:read")?;
    let mut conn = app.node.store.read().await?;
    let found = roles::all_permissions(&mut conn).await?;
    Ok(slice.answer_bare(&found, |one| json!({ "id": one.id, "name": one.name })))
}

fn view(user: &User, roles: &[Role]) -> Value {
    let roles: Vec<Value> = roles.iter().map(|role| json!({ "id": role.id, "name": role.name })).collect();
    json!({
        "id": user.id,
        "email": user.email,
        "firstName": user.first_name,
        "lastName": user.last_name,
        "alias": user.identity.alias,
        "picture": user.picture,
        "onboardingCompletedAt": user.onboarding_completed_at.map(shown),
        "createdAt": shown(user.created_at),
        "roles": roles,
    })
}

fn listed_view(user: &User, roles: &[Role], sessions: usize) -> Value {
    let mut view = view(user, roles);
    view["sessionCount"] = json!(sessions);
    view
}
