//! How this node speaks to others: HTTP by `reqwest`, bounded in every direction.
//!
//! Handles, manifests and headers of strangers lead requests to hosts of their choosing, so: names are
//! resolved by our own resolver, which leaves out addresses that no stranger may send us to; the address
//! checked is the address dialled. No redirect is followed, no proxy is taken from the environment, an
//! answer is read up to 64 KiB, packed or unpacked, and everything has a time limit.

mod guard;

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_web::http::header::HttpDate;
use flate2::read::MultiGzDecoder;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use reqwest::{Client, RequestBuilder, Response, redirect};
use vellum_actors::Clock;
use vellum_actors::peer::{Answer, Transport, TransportError};
use vellum_protocol::{Domain, UnixMillis};

pub use guard::Lookup;

use crate::peer_addresses::PeerAddresses;
use guard::{Guard, Resolver, SystemLookup};

/// Longest answer that is read.
const LONGEST_ANSWER: usize = 64 * 1024;
/// For a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For a document (wire protocol, section 5).
const DOCUMENT: Duration = Duration::from_secs(10);
/// For the inbox (wire protocol, section 5).
const INBOX: Duration = Duration::from_secs(15);

/// Between two parts of an answer.
const IDLE: Duration = Duration::from_secs(5);
/// Connections to one peer that are kept for later, and for how long: a mesh of thousands must not use the
/// process's files up. Many servers hang up after five seconds of silence, and what is sent at that moment may or may not have
/// arrived, so it is less.
const KEPT: usize = 4;
const KEPT_FOR: Duration = Duration::from_secs(4);
/// Longest name of a content encoding that an error repeats.
const LONGEST_ENCODING: usize = 40;

/// Speaks to other nodes over HTTP. How many requests are in flight is bounded by its callers.
#[derive(Debug)]
pub struct HttpTransport {
    client: Client,
    guard: Guard,
    /// Where peers have answered that this node delivers to.
    reached: Arc<PeerAddresses>,
}

impl HttpTransport {
    /// A transport; with `allow_private` it also connects to loopback and private addresses, and speaks
    /// plain http to loopback.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(allow_private: bool) -> Result<Self, reqwest::Error> {
        Self::with_lookup(allow_private, Arc::new(SystemLookup))
    }

    /// A transport that looks names up in another way than the operating system's.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn with_lookup(allow_private: bool, lookup: Arc<dyn Lookup>) -> Result<Self, reqwest::Error> {
        let guard = Guard { allow_private };
        let client = Client::builder()
            .user_agent(concat!("Vellum/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(KEPT)
            .pool_idle_timeout(KEPT_FOR)
            .dns_resolver(Resolver { guard, lookup })
            .build()?;
        Ok(Self { client, guard, reached: Arc::default() })
    }

    /// The same, noting the addresses of peers that it delivers to.
    pub(crate) fn noting(self, reached: Arc<PeerAddresses>) -> Self {
        Self { reached, ..self }
    }

    fn url(&self, domain: &Domain, path: &str) -> Result<reqwest::Url, TransportError> {
        let forbidden = |reason: String| TransportError::Forbidden(reason);
        domain.port().map_err(|error| forbidden(error.to_string()))?;
        let plain = self.guard.allow_private && domain.is_loopback();
        let scheme = if plain { "http" } else { "https" };
        let url = reqwest::Url::parse(&format!("{scheme}://{domain}{path}"))
            .map_err(|error| forbidden(error.to_string()))?;
        // A literal address never reaches the resolver; it is checked here.
        self.guard.check_literal(&url).map_err(forbidden)?;
        Ok(url)
    }

    /// Makes a request within its limit. Tells also which address has answered.
    async fn ask(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<(Answer, Option<SocketAddr>), TransportError> {
        let request = request.header("accept-encoding", "identity");
        let exchange = async {
            let response = request.send().await.map_err(|error| cause(&error))?;
            let address = response.remote_addr();
            Ok((read(response).await?, address))
        };
        // One limit over everything: a peer that sends byte by byte does not get longer.
        tokio::time::timeout(limit, exchange).await.unwrap_or(Err(TransportError::TimedOut(limit)))
    }
}

impl Transport for HttpTransport {
    fn permits(&self, domain: &Domain) -> Result<(), TransportError> {
        self.url(domain, "/").map(drop)
    }

    fn get<'a>(&'a self, domain: &'a Domain, path: &'a str) -> BoxFuture<'a, Result<Answer, TransportError>> {
        async move {
            let url = self.url(domain, path)?;
            let request = self.client.get(url).header("accept", "application/json");
            self.ask(request, DOCUMENT).await.map(|(answer, _)| answer)
        }
        .boxed()
    }

    fn post<'a>(
        &'a self,
        domain: &'a Domain,
        path: &'a str,
        headers: Vec<(&'static str, String)>,
        body: String,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        async move {
            let url = self.url(domain, path)?;
            let mut request = self.client.post(url).header("content-type", "application/json").body(body);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let (answer, address) = self.ask(request, INBOX).await?;
            if let Some(address) = address {
                self.reached.note(address.ip(), domain);
            }
            Ok(answer)
        }
        .boxed()
    }
}

async fn read(response: Response) -> Result<Answer, TransportError> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    // A peer without a clock means ours.
    let sent = header("date").and_then(date).unwrap_or_else(|| Clock::system().now());
    let packed = is_packed(&response)?;
    let mut answer = Answer {
        status: response.status().as_u16(),
        body: Vec::new(),
        retry_after: header("retry-after").and_then(|text| retry_after(text.trim(), sent)),
        max_age: header("cache-control").and_then(max_age),
        date: header("date").and_then(date),
    };
    let mut chunks = response.bytes_stream();
    loop {
        let next = tokio::time::timeout(IDLE, chunks.next()).await;
        let Some(chunk) = next.map_err(|_| TransportError::TimedOut(IDLE))? else { break };
        let chunk = chunk.map_err(|error| cause(&error))?;
        if answer.body.len() + chunk.len() > LONGEST_ANSWER {
            return Err(TransportError::TooLong(LONGEST_ANSWER));
        }
        answer.body.extend_from_slice(&chunk);
    }
    if packed {
        answer.body = unpack(&answer.body)?;
    }
    Ok(answer)
}

/// Whether the answer is packed by gzip, although nobody has asked for that.
fn is_packed(response: &Response) -> Result<bool, TransportError> {
    let named = response.headers().get_all("content-encoding").iter();
    let names: Vec<_> =
        named.map(|name| String::from_utf8_lossy(name.as_bytes()).trim().to_lowercase()).collect();
    match names.join(", ").as_str() {
        "" | "identity" => Ok(false),
        "gzip" | "x-gzip" => Ok(true),
        other => {
            let name: String = other.chars().filter(|c| !c.is_control()).take(LONGEST_ENCODING).collect();
            Err(TransportError::Packed(format!("its content encoding is {name}")))
        }
    }
}

/// Unpacks an answer, as far as an answer is read.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, TransportError> {
    let mut body = Vec::new();
    let most = u64::try_from(LONGEST_ANSWER).unwrap_or(u64::MAX);
    let read = MultiGzDecoder::new(packed).take(most + 1).read_to_end(&mut body);
    read.map_err(|error| TransportError::Packed(error.to_string()))?;
    if body.len() > LONGEST_ANSWER { Err(TransportError::TooLong(LONGEST_ANSWER)) } else { Ok(body) }
}

fn max_age(text: &str) -> Option<Duration> {
    let seconds = text.split(',').find_map(|part| part.trim().strip_prefix("max-age="));
    seconds.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs)
}

/// The pause that a peer asks for: seconds, or a time, which is meant by the clock that showed `sent`.
fn retry_after(text: &str, sent: UnixMillis) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(Duration::from_millis(u64::try_from(date(text)?.since(sent)).unwrap_or(0)))
}

fn date(text: &str) -> Option<UnixMillis> {
    let time = SystemTime::from(text.parse::<HttpDate>().ok()?);
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(UnixMillis)
}

/// Puts an error of the client into one of our words. Its own text repeats the address; the innermost
/// cause is what a person needs.
fn cause(error: &reqwest::Error) -> TransportError {
    let mut innermost: &dyn std::error::Error = error;
    let (mut words, mut of_tls) = (Vec::new(), false);
    while let Some(source) = innermost.source() {
        innermost = source;
        of_tls |= is_of_tls(source);
        words.push(source.to_string());
    }
    let reason = words.pop().unwrap_or_else(|| "the connection failed".into());
    if error.is_timeout() {
        // The client has no other limit of its own.
        return TransportError::ConnectTimedOut(CONNECT);
    }
    if reason.starts_with(guard::REFUSED) {
        return TransportError::Forbidden(reason);
    }
    if of_tls {
        return TransportError::Tls(reason);
    }
    if error.is_connect() { TransportError::Unreachable(reason) } else { TransportError::Broken(reason) }
}

/// Whether an error is TLS's own. It comes wrapped into errors of input and output, which do not give it as
/// their source.
fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || wrapped.is_some_and(|inner| is_of_tls(inner))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::ServerConfig;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::server::Acceptor;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

    use super::*;

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_until_a_time_of_the_peers_clock() {
        let sent = date("Tue, 24 Nov 2026 10:00:00 GMT").unwrap();
        assert_eq!(retry_after("120", sent), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Tue, 24 Nov 2026 10:01:30 GMT", sent), Some(Duration::from_secs(90)));
        assert_eq!(retry_after("Tue, 24 Nov 2026 09:00:00 GMT", sent), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", sent), None);
    }

    /// Not one of the names that plain http is used for, and still this machine.
    const OTHER_LOOPBACK: &str = "127.0.0.2";

    async fn ask_there(listener: &TcpListener) -> TransportError {
        let port = listener.local_addr().unwrap().port();
        let domain = Domain::parse(&format!("{OTHER_LOOPBACK}:{port}")).unwrap();
        let transport = HttpTransport::new(true).unwrap();
        transport.get(&domain, "/.well-known/parchment-server").await.unwrap_err()
    }

    fn provider() {
        // It may be there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }

    #[tokio::test]
    async fn a_certificate_that_nobody_vouches_for_is_trouble_of_tls() {
        provider();
        let made = rcgen::generate_simple_self_signed([OTHER_LOOPBACK.to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let listener = TcpListener::bind((OTHER_LOOPBACK, 0)).await.unwrap();
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            // The client breaks the handshake off.
            let _ = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            error = ask_there(&listener) => assert!(matches!(error, TransportError::Tls(_)), "{error:?}"),
            () = serve => {}
        }
    }

    #[tokio::test]
    async fn http_2_is_offered_first_and_http_1_1_as_well() {
        provider();
        let listener = TcpListener::bind((OTHER_LOOPBACK, 0)).await.unwrap();
        let offered = async {
            let (stream, _) = listener.accept().await.unwrap();
            let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await.unwrap();
            hello.client_hello().alpn().unwrap().map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        tokio::select! {
            error = ask_there(&listener) => panic!("{error}"),
            offered = offered => assert_eq!(offered, [b"h2".to_vec(), b"http/1.1".to_vec()]),
        }
    }

    #[tokio::test]
    async fn an_answer_without_tls_is_trouble_of_tls_and_is_not_read() {
        provider();
        let listener = TcpListener::bind((OTHER_LOOPBACK, 0)).await.unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            error = ask_there(&listener) => assert!(matches!(error, TransportError::Tls(_)), "{error:?}"),
            () = serve => {}
        }
    }

    #[tokio::test]
    async fn where_nobody_listens_nothing_is_reachable() {
        provider();
        let listener = TcpListener::bind((OTHER_LOOPBACK, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let domain = Domain::parse(&format!("{OTHER_LOOPBACK}:{port}")).unwrap();
        let error = HttpTransport::new(true).unwrap().get(&domain, "/").await.unwrap_err();
        assert!(matches!(error, TransportError::Unreachable(_)), "{error:?}");
    }
}
