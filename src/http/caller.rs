//! Who is calling: the session behind a bearer token or a cookie.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use secrecy::SecretString;
use vellum_actors::trace::TraceParent;
use vellum_actors::{Asker, Origin, sign_in};
use vellum_store::UserId;
use vellum_store::sessions::{Known, Session};

use super::App;
use super::error::Problem;
use super::limits;

/// The session cookie.
pub const COOKIE: &str = "auth_session";

/// Somebody with a session. As a parameter of a handler it makes 401 the answer to anybody else.
#[derive(Debug, Clone)]
pub struct Caller {
    known: Arc<Known>,
    /// The address of this request.
    ip: Option<String>,
    /// Its place in a trace.
    trace: Option<TraceParent>,
    /// The token itself: `GET /auth/sessions/current` gives it back.
    pub token: SecretString,
}

/// Somebody with a session, or nobody.
#[derive(Debug, Clone)]
pub struct MaybeCaller(pub Option<Caller>);

impl Caller {
    /// The session.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.known.session
    }

    /// Whose session it is.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.session().user_id
    }

    /// Refuses a caller whose roles do not allow this.
    ///
    /// # Errors
    /// 403.
    pub fn require(&self, permission: &str) -> Result<(), Problem> {
        if self.known.permissions.iter().any(|held| held == permission) {
            Ok(())
        } else {
            Err(Problem::forbidden(format!("This needs the permission {permission}.")))
        }
    }
}

impl From<&Caller> for Asker {
    fn from(caller: &Caller) -> Self {
        let origin =
            Origin { session: Some(caller.session().id.clone()), ip: caller.ip.clone(), trace: caller.trace };
        Self { user: caller.user().clone(), origin }
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { find(&request).await?.ok_or_else(Problem::unauthorized) })
    }
}

impl FromRequest for MaybeCaller {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(Self(find(&request).await?)) })
    }
}

async fn find(request: &HttpRequest) -> Result<Option<Caller>, Problem> {
    let app = request.app_data::<web::Data<App>>().ok_or_else(Problem::unauthorized)?.clone();
    let Some(token) = presented(request, &app)? else {
        return Ok(None);
    };
    let Some(known) = sign_in::authenticate(&app.node, &token).await? else { return Ok(None) };
    app.limiters.count_user(request, &known.session.user_id)?;
    let ip = limits::client_address(request, &app.trusted_proxies).map(|address| address.to_string());
    let trace = request.extensions().get::<TraceParent>().copied();
    Ok(Some(Caller { known, ip, trace, token }))
}

/// The token that a request carries. One in the `Authorization` header is looked at first, and alone: a
/// client that sends it means it.
fn presented(request: &HttpRequest, app: &App) -> Result<Option<SecretString>, Problem> {
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let bearer = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
        return Ok(bearer.map(|token| SecretString::from(token.trim())));
    }
    let Some(cookie) = request.cookie(COOKIE) else {
        return Ok(None);
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        refuse_foreign_origin(request, app)?;
    }
    Ok(Some(SecretString::from(cookie.value())))
}

/// A browser sends the cookie along with a form of any site; it also says which site that is.
fn refuse_foreign_origin(request: &HttpRequest, app: &App) -> Result<(), Problem> {
    if is_from_known_origin(request, app) {
        return Ok(());
    }
    Err(Problem::forbidden(
        "A change that is authenticated by cookie must come from this node's origin or a configured client's.",
    ))
}

/// Whether a request says that it comes from a page of this node or of a configured client.
fn is_from_known_origin(request: &HttpRequest, app: &App) -> bool {
    let origin = request.headers().get(header::ORIGIN).and_then(|value| value.to_str().ok());
    let mut known = std::iter::once(&app.origin).chain(&app.client_origins);
    origin.is_some_and(|origin| known.any(|known| known.as_str() == origin))
}

/// Whether a page of another site has made this request: an `Origin` that is neither this node's nor a configured
/// client's, or none and a `Sec-Fetch-Site` that says so. A request that no browser made is not.
pub fn is_from_foreign_page(request: &HttpRequest, app: &App) -> bool {
    if request.headers().contains_key(header::ORIGIN) {
        return !is_from_known_origin(request, app);
    }
    let site = request.headers().get("sec-fetch-site").map(header::HeaderValue::as_bytes);
    matches!(site, Some(b"cross-site" | b"same-site"))
}

/// Whether whoever signs in with this request gets a session cookie. A client with a token of its own has no
/// use for one; and a page of another site must not sign its visitor in to an account of its choosing.
pub fn takes_cookie(request: &HttpRequest, app: &App) -> bool {
    let headers = request.headers();
    !headers.contains_key(header::AUTHORIZATION)
        && (!headers.contains_key(header::ORIGIN) || is_from_known_origin(request, app))
}
