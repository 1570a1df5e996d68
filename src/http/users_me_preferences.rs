//! `/users/me/preferences`: the language and the units that the caller reads in.

use actix_web::HttpResponse;
use actix_web::web;
use serde_json::{Value, json};
use vellum_actors::user::SetPreferences;
use vellum_store::preferences::{self, Preferences};

use super::App;
use super::body::Body;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::fields::Fields;
use super::openapi::users_me_preferences as docs;

/// Systems of units that clients know.
const UNIT_SYSTEMS: [&str; 2] = ["metric", "imperial"];

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::at("/users/me/preferences").get(docs::read(), read).put(docs::change(), change)]
}

async fn read(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    let mut conn = app.node.store.read().await?;
    let found = preferences::of_user(&mut conn, caller.user()).await?;
    Ok(super::private(&view(&found)))
}

async fn change(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    let language = fields.optional_text("language");
    if language.as_deref().is_some_and(|tag| !is_language_tag(tag)) {
        fields.wrong("language", "must be a BCP 47 language tag such as en-US");
    }
    let unit_system = fields.optional_text("unitSystem");
    if unit_system.as_deref().is_some_and(|system| !UNIT_SYSTEMS.contains(&system)) {
        fields.wrong("unitSystem", "must be metric or imperial");
    }
    fields.finish()?;
    Ok(super::private(&view(&app.node.ask(&caller, SetPreferences { language, unit_system }).await?)))
}

/// Whether a text has the form of a language tag (BCP 47): a language of 2 to 8 letters, and further
/// parts of 1 to 8 letters and digits.
fn is_language_tag(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let language = parts.next().unwrap_or_default();
    tag.len() <= 35
        && (2..=8).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_alphabetic())
        && parts.all(|part| {
            (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}

fn view(preferences: &Preferences) -> Value {
    json!({ "language": preferences.language, "unitSystem": preferences.unit_system })
}
