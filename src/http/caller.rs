//! Who is calling: the session behind a bearer token or a cookie.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::cookie::{Cookie, SameSite, time::Duration as CookieAge};
use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, Shared};
use secrecy::{ExposeSecret, SecretString};
use vellum_actors::trace::TraceParent;
use vellum_actors::{Asker, Error, Held, Origin, sign_in};
use vellum_store::sessions::{Known, Session};
use vellum_store::{StoreError, UserId};

use super::App;
use super::body;
use super::client_address::ClientAddress;
use super::endpoint::GetHasEffects;
use super::error::Problem;

/// The session cookie.
pub const COOKIE: &str = "auth_session";

/// Somebody with a session. As a parameter of a handler it makes 401 the answer to anybody else.
#[derive(Debug, Clone)]
pub struct Caller {
    known: Arc<Known>,
    may_have_effects: bool,
    /// The address of this request.
    ip: Option<String>,
    /// Its place in a trace.
    trace: Option<TraceParent>,
    /// The place of its body among those in flight.
    held: Held,
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

    /// The session, with what is known of it.
    #[must_use]
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Whether a request that only reads may leave something behind. HEAD may not, nor may a page
    /// of another site, which has its visitor's cookie.
    #[must_use]
    pub fn may_have_effects(&self) -> bool {
        self.may_have_effects
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
        let origin = Origin {
            session: Some(caller.session().id.clone()),
            ip: caller.ip.clone(),
            trace: caller.trace,
            held: caller.held.clone(),
        };
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
    let Some(mut known) = session_of(request, &app, &token).await? else { return Ok(None) };
    app.limiters.count_user(request, &known.session.user_id)?;
    // A foreign page has its visitor's cookie, and never a token.
    let is_own = bearer(request).is_some() || !is_from_foreign_page(request, &app);
    let may_have_effects = *request.method() != Method::HEAD && is_own;
    let prolonged = if may_have_effects { sign_in::prolong(&app.node, &known).await } else { Ok(None) };
    let prolonged = match prolonged {
        // Who only reads is served: a later request prolongs the session.
        Err(Error::Store(StoreError::NotWritable { .. })) => None,
        other => other?,
    };
    if let Some(prolonged) = prolonged {
        known = prolonged;
        if request.cookie(COOKIE).is_some_and(|cookie| cookie.value() == token.expose_secret()) {
            let cookie = session_cookie(&app, request, &token, &known.session);
            request.extensions_mut().insert(RenewedCookie(cookie));
        }
    }
    let ip = ClientAddress::of(request).shown();
    let trace = request.extensions().get::<TraceParent>().copied();
    let held = Held::new(body::places_of(request));
    Ok(Some(Caller { known, may_have_effects, ip, trace, held, token }))
}

/// The session cookie with a later end, for the answer to this request.
pub struct RenewedCookie(pub Cookie<'static>);

/// The cookie that a browser keeps a session's token in, where no script can read it, until the
/// session ends.
pub fn session_cookie(
    app: &App,
    request: &HttpRequest,
    token: &SecretString,
    session: &Session,
) -> Cookie<'static> {
    let seconds = session.expires_at.since(session.last_used_at) / 1000;
    secret_cookie(app, request, COOKIE, token, "/", CookieAge::seconds(seconds))
}

/// A cookie that no script can read, and that no other site's page sends along with a form, unless
/// cookies are allowed to clients on other sites.
pub fn secret_cookie(
    app: &App,
    request: &HttpRequest,
    name: impl Into<Cow<'static, str>>,
    value: &SecretString,
    path: &'static str,
    max_age: CookieAge,
) -> Cookie<'static> {
    let same_site = if goes_to_another_site(request, app) { SameSite::None } else { SameSite::Lax };
    Cookie::build(name, value.expose_secret().to_owned())
        .http_only(true)
        .same_site(same_site)
        .secure(app.origin.is_https())
        .path(path)
        .max_age(max_age)
        .finish()
}

/// Whether a cookie of this answer is for the page of a client on another site. Browsers send such
/// a cookie along with requests of any page; [`presented`] ignores it there. A request
/// that has no `Origin` is one only where the browser says so.
fn goes_to_another_site(request: &HttpRequest, app: &App) -> bool {
    app.cross_site_cookies
        && match request.headers().get(header::ORIGIN) {
            Some(origin) => app.client_origins.iter().any(|client| client.as_str() == origin),
            None => request.headers().get("sec-fetch-site").is_some_and(|site| site == "cross-site"),
        }
}

/// A session that is being looked up.
type Lookup = Shared<LocalBoxFuture<'static, Result<Option<Arc<Known>>, Problem>>>;

/// The session of a request's token. It is looked up once, whichever parameter of the handler asks
/// first: they are read at the same time.
fn session_of(request: &HttpRequest, app: &App, token: &SecretString) -> Lookup {
    let mut extensions = request.extensions_mut();
    if let Some(lookup) = extensions.get::<Lookup>() {
        return lookup.clone();
    }
    // Holds nothing of the request, which holds it.
    let (node, token) = (Arc::clone(&app.node), token.clone());
    let lookup = async move { sign_in::authenticate(&node, &token).await.map_err(Problem::from) };
    let lookup: Lookup = lookup.boxed_local().shared();
    extensions.insert(lookup.clone());
    lookup
}

/// The user whose session a request was found to have, as far as it was looked up.
pub fn known_user(request: &HttpRequest) -> Option<UserId> {
    let extensions = request.extensions();
    let known = extensions.get::<Lookup>()?.peek()?.as_ref().ok()?.as_ref()?;
    Some(known.session.user_id.clone())
}

/// The user whose session a request has, if it has one. Counts nothing and refuses nobody: that is
/// for [`Caller`].
pub async fn user_of(request: &HttpRequest, app: &App) -> Option<UserId> {
    let token = presented(request, app).ok()??;
    let known = session_of(request, app, &token).await.ok()??;
    Some(known.session.user_id.clone())
}

/// The token that a request carries. A bearer token is looked at first, and alone: a client that
/// sends it means it.
fn presented(request: &HttpRequest, app: &App) -> Result<Option<SecretString>, Problem> {
    if let bearer @ Some(_) = bearer(request) {
        return Ok(bearer);
    }
    let Some(cookie) = request.cookie(COOKIE) else {
        return Ok(None);
    };
    match *request.method() {
        Method::GET | Method::HEAD => {
            if is_from_foreign_page(request, app) {
                if request.app_data::<GetHasEffects>().is_some() {
                    return Err(foreign_page());
                }
                // Otherwise the browser has kept such a page from sending it (`SameSite=Lax`).
                if app.cross_site_cookies {
                    return Ok(None);
                }
            }
        }
        Method::OPTIONS => {}
        _ if is_from_known_origin(request, app) => {}
        _ => return Err(foreign_page()),
    }
    Ok(Some(SecretString::from(cookie.value())))
}

/// The bearer token in the `Authorization` header; empty where it cannot be read. Another scheme is
/// somebody else's business, such as a proxy's that asks for a password.
fn bearer(request: &HttpRequest) -> Option<SecretString> {
    request.headers().get_all(header::AUTHORIZATION).find_map(|value| {
        let bytes = value.as_bytes();
        let end = bytes.iter().position(u8::is_ascii_whitespace).unwrap_or(bytes.len());
        let (scheme, token) = bytes.split_at(end);
        let token = || SecretString::from(std::str::from_utf8(token).unwrap_or_default().trim());
        scheme.eq_ignore_ascii_case(b"bearer").then(token)
    })
}

/// A browser sends the cookie along with a request of any site's page; it also says which site that
/// is.
fn foreign_page() -> Problem {
    Problem::forbidden(
        "A change that is authenticated by cookie must come from this node's origin or a configured client's.",
    )
}

/// Whether a request says that it comes from a page of this node or of a configured client.
fn is_from_known_origin(request: &HttpRequest, app: &App) -> bool {
    let origin = request.headers().get(header::ORIGIN).and_then(|value| value.to_str().ok());
    let mut known = std::iter::once(&app.origin).chain(&app.client_origins);
    origin.is_some_and(|origin| known.any(|known| known.as_str() == origin))
}

/// Whether a page of another site has made this request: an `Origin` that is neither this node's
/// nor a configured client's, or none and a `Sec-Fetch-Site` that says so. A request that no
/// browser made is not.
pub fn is_from_foreign_page(request: &HttpRequest, app: &App) -> bool {
    if request.headers().contains_key(header::ORIGIN) {
        return !is_from_known_origin(request, app);
    }
    let site = request.headers().get("sec-fetch-site").map(header::HeaderValue::as_bytes);
    matches!(site, Some(b"cross-site" | b"same-site"))
}

/// Whether whoever signs in with this request gets a session cookie. A client with a bearer token
/// has no use for one; and a page of another site must not sign its visitor in to an account of its
/// choosing.
pub fn takes_cookie(request: &HttpRequest, app: &App) -> bool {
    bearer(request).is_none()
        && (!request.headers().contains_key(header::ORIGIN) || is_from_known_origin(request, app))
}
