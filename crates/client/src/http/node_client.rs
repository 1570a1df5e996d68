//! The connection to one node: its address, the session's token, and how a request is made. What is asked
//! for is in the files beside this one.

use std::fmt;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use vellum_protocol::KmVersion;

use super::answer::Answer;
use super::error::ClientError;
use super::token::SessionToken;

/// How long a request may take from connecting to the last byte of the answer, unless said otherwise. A
/// flush waits for deliveries, so it is longer than a node needs for anything else.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection is kept without a request.
const KEPT_FOR: Duration = Duration::from_secs(4);

/// The header that says which version of the keys this device knows.
const KNOWN_VERSION: &str = "x-known-km-version";

/// A client of one node, with or without a session. A clone uses the same connections and keeps the token
/// it had when it was cloned.
///
/// Every request can fail with [`ClientError::Unreachable`], [`ClientError::TimedOut`],
/// [`ClientError::Refused`] (such as 401 without a session, 429 for too many requests, 503 for a node that is
/// too busy) and [`ClientError::UnexpectedAnswer`]; where a method says "as for every request", it means these.
#[derive(Clone)]
pub struct NodeClient {
    origin: Url,
    http: Client,
    token: Option<SessionToken>,
    known_version: Option<KmVersion>,
}

impl NodeClient {
    /// A client of the node at this origin, such as `http://localhost:5001` or `https://node.example`.
    ///
    /// # Errors
    /// [`ClientError::BadOrigin`], or [`ClientError::Setup`].
    pub fn new(origin: &str) -> Result<Self, ClientError> {
        Self::with_timeout(origin, DEFAULT_TIMEOUT)
    }

    /// As [`Self::new`], with another limit to how long a request may take.
    ///
    /// # Errors
    /// [`ClientError::BadOrigin`], or [`ClientError::Setup`].
    pub fn with_timeout(origin: &str, timeout: Duration) -> Result<Self, ClientError> {
        let origin = parse_origin(origin)?;
        provide_tls();
        // A device talks to its own node: no proxy of the environment gets to see the token, and no
        // redirect takes it elsewhere.
        let mut builder = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .timeout(timeout)
            // A node hangs up after five seconds of silence; what is sent at that moment would break.
            .pool_idle_timeout(KEPT_FOR);
        if origin.scheme() == "http" {
            // The system's certificates are needed for https alone; some systems have none.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(ClientError::Setup)?;
        Ok(Self { origin, http, token: None, known_version: None })
    }

    /// The node's origin, without a slash at the end.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.origin.as_str().trim_end_matches('/')
    }

    /// The session's token, if there is one.
    #[must_use]
    pub fn token(&self) -> Option<&SessionToken> {
        self.token.as_ref()
    }

    /// Takes another token, or none: requests are then made without a session.
    pub fn set_token(&mut self, token: Option<SessionToken>) {
        self.token = token;
    }

    /// Says from now on which version of the user's keys this device knows (none after a reset). A node that was put
    /// back from an older backup then refuses to show an older one: [`ClientError::is_rolled_back`].
    pub fn set_known_version(&mut self, version: Option<KmVersion>) {
        self.known_version = version;
    }

    /// Makes any request and gives the status and the body, whatever they are: an empty body is
    /// [`Value::Null`], one that is not JSON a [`Value::String`]. `path` may have a query.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::TimedOut`], and [`ClientError::UnexpectedAnswer`] for a
    /// body too long to read. A refusal is no error here.
    pub async fn request_json(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), ClientError> {
        let answer = self.send(method, path, body).await?;
        let value = match serde_json::from_slice(&answer.body) {
            _ if answer.body.is_empty() => Value::Null,
            Ok(value) => value,
            Err(_) => Value::String(String::from_utf8_lossy(&answer.body).into_owned()),
        };
        Ok((answer.status.as_u16(), value))
    }

    /// Gets a JSON document.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, None::<&()>).await?.json()
    }

    /// Makes a request whose answer is a JSON document.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        self.ask(method, path, body).await?.json()
    }

    /// Makes a request; a refusal is an error.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Answer, ClientError> {
        self.send(method, path, body).await?.accepted()
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Answer, ClientError> {
        let mut request = self.http.request(method, self.url(path)).header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.authorization());
        }
        if let Some(version) = self.known_version {
            request = request.header(KNOWN_VERSION, version.to_string());
        }
        if let Some(body) = body {
            let text = serde_json::to_vec(body).expect("bodies are texts, numbers and lists of them");
            request = request.header(CONTENT_TYPE, "application/json").body(text);
        }
        let response = request.send().await.map_err(ClientError::from_transport)?;
        Answer::read(response).await
    }

    fn url(&self, path: &str) -> Url {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        // Set part by part, no path can lead to another host.
        let mut url = self.origin.clone();
        url.set_path(path);
        url.set_query(query);
        url
    }
}

impl fmt::Debug for NodeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeClient")
            .field("origin", &self.origin())
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

fn parse_origin(text: &str) -> Result<Url, ClientError> {
    let url = Url::parse(text).map_err(|_| ClientError::BadOrigin)?;
    let bare = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if bare { Ok(url) } else { Err(ClientError::BadOrigin) }
}

/// reqwest comes without cryptography for TLS here and refuses to make a client, even for plain http, until
/// the process has some. A provider that the program has installed before stays.
fn provide_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread was faster, and then there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
