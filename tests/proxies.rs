//! The proxies of `config/proxy` in front of a real node: each with the file that operators are told
//! to use, in which only addresses and certificates are other ones.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use actix_web::web::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, IF_MATCH};
use reqwest::{Body, Certificate, Client, Method, RequestBuilder, Response, Version};
use serde_json::{Value, json};
use tempfile::TempDir;
use vellum::node::FIRST_ADMINISTRATOR;

use crate::support::{TestNode, installed, plain_http, wait_for};

/// The node's public name, in the files as in its certificate.
const NAME: &str = "node.example";
/// Where clients come from: not from the proxy's own address.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The longest upload, unless the settings say otherwise.
const LONGEST: usize = 16 * 1024 * 1024;

/// A proxy at work. It ends with the value.
struct Proxy {
    child: Child,
    port: u16,
    /// Where requests without TLS go, if that is tried.
    plain_port: u16,
    certificate: Certificate,
    _folder: TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // `SIGTERM`: nginx ends its workers, which a killed one leaves behind.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The text with other words in place of some, each of which has to be there.
fn replaced(text: &str, words: &[(&str, String)]) -> String {
    words.iter().fold(text.to_owned(), |text, (word, other)| {
        assert!(text.contains(word), "the file has no {word:?} any more");
        text.replace(word, other)
    })
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = vellum_protocol::base64::encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

/// Starts a proxy; `prepare` writes its files, and gives the command.
async fn start(node: &TestNode, prepare: impl FnOnce(&Files) -> Command) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let files = Files {
        folder: folder.path().to_owned(),
        port: free_port(),
        plain_port: free_port(),
        node: format!("127.0.0.1:{}", node.process.port()),
    };
    files.write("chain.pem", &pem("CERTIFICATE", made.cert.der()));
    files.write("key.pem", &pem("PRIVATE KEY", &made.signing_key.serialize_der()));
    let mut command = prepare(&files);
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).env("HOME", folder.path());
    let proxy = Proxy {
        child: command.spawn().unwrap(),
        port: files.port,
        plain_port: files.plain_port,
        certificate: Certificate::from_der(made.cert.der()).unwrap(),
        _folder: folder,
    };
    let client = proxy.client(|builder| builder);
    let probe = || async { proxy.request(&client, Method::GET, "/health/live").send().await };
    wait_for("the proxy answers", probe, Result::is_ok).await.unwrap();
    proxy
}

/// What a proxy's files are made of.
struct Files {
    folder: PathBuf,
    port: u16,
    plain_port: u16,
    node: String,
}

impl Files {
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

async fn nginx(program: &Path, node: &TestNode) -> Proxy {
    start(node, |files| {
        let site = replaced(
            include_str!("../config/proxy/nginx.conf"),
            &[
                ("listen 80;", format!("listen 127.0.0.1:{};", files.plain_port)),
                ("listen [::]:80;", String::new()),
                ("listen 443 ssl http2;", format!("listen 127.0.0.1:{} ssl http2;", files.port)),
                ("listen [::]:443 ssl http2;", String::new()),
                ("/etc/letsencrypt/live/node.example/fullchain.pem", files.path("chain.pem")),
                ("/etc/letsencrypt/live/node.example/privkey.pem", files.path("key.pem")),
                ("127.0.0.1:5000", files.node.clone()),
            ],
        );
        files.write("vellum.conf", &site);
        let of_kind = |kind: &str| format!("{kind}_temp_path {};", files.path(kind));
        let own = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(of_kind).concat();
        // As Debian's own, around the site.
        let main = format!(
            "daemon off; user root; pid {}; events {{}} http {{ access_log off; {own} include {}; }}",
            files.path("pid"),
            files.path("vellum.conf")
        );
        let mut command = Command::new(program);
        command.arg("-c").arg(files.write("nginx.conf", &main)).arg("-e").arg("stderr");
        command
    })
    .await
}

async fn caddy(program: &Path, node: &TestNode) -> Proxy {
    start(node, |files| {
        let (chain, key) = (files.path("chain.pem"), files.path("key.pem"));
        let text = replaced(
            include_str!("../config/proxy/Caddyfile"),
            &[
                ("\n{\n", "\n{\nadmin off\nauto_https disable_redirects\nskip_install_trust\n".to_owned()),
                (
                    "\nnode.example {\n",
                    format!("\nhttps://{NAME}:{} {{\nbind 127.0.0.1\ntls {chain} {key}\n", files.port),
                ),
                ("127.0.0.1:5000", files.node.clone()),
            ],
        );
        let mut command = Command::new(program);
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(files.write("Caddyfile", &text));
        command
    })
    .await
}

impl Proxy {
    /// A client on another machine, as far as the proxy can tell.
    fn client(&self, more: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> Client {
        // For the cryptography that it sets up.
        drop(plain_http());
        let builder = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only([self.certificate.clone()])
            .resolve(NAME, (Ipv4Addr::LOCALHOST, self.port).into())
            .local_address(IpAddr::V4(CLIENT));
        more(builder).build().unwrap()
    }

    fn request(&self, client: &Client, method: Method, path: &str) -> RequestBuilder {
        client.request(method, format!("https://{NAME}:{}{path}", self.port))
    }
}

/// A node that takes the proxy, and nobody else, for one.
async fn node() -> TestNode {
    TestNode::start_with(&[
        ("VELLUM_HTTP__ORIGIN", "https://node.example"),
        ("VELLUM_HTTP__TRUSTED_PROXIES", "127.0.0.1/32"),
        ("VELLUM_HTTP__METRICS_NETWORKS", "127.0.0.0/8"),
    ])
    .await
}

async fn code_of(answer: Response) -> (u16, String, Value) {
    let kind = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    let status = answer.status().as_u16();
    (status, kind, answer.json::<Value>().await.unwrap()["code"].clone())
}

/// A request with a body that is too long.
type TooLong = fn(&dyn Fn(Method, &'static str) -> RequestBuilder) -> RequestBuilder;

/// A blob of which only the head comes: nginx refuses it by itself.
fn head_of_a_long_blob(ask: &dyn Fn(Method, &'static str) -> RequestBuilder) -> RequestBuilder {
    let nothing = stream::pending::<Result<Bytes, std::io::Error>>();
    let request = ask(Method::PUT, "/me/blobs/t").header(CONTENT_TYPE, "application/json");
    request.header(CONTENT_LENGTH, LONGEST + 1).body(Body::wrap_stream(nothing))
}

/// Preferences that the node refuses. All of them come: Caddy keeps the answer back while the client
/// neither sends nor ends its body.
fn long_preferences(ask: &dyn Fn(Method, &'static str) -> RequestBuilder) -> RequestBuilder {
    let text = format!(r#"{{"a":"{}"}}"#, "A".repeat(80 * 1024));
    ask(Method::PUT, "/users/me/preferences").header(CONTENT_TYPE, "application/json").body(text)
}

/// Everything that a node needs of a proxy.
async fn does_what_a_node_needs(node: &TestNode, proxy: &Proxy, too_long: TooLong) {
    let ann = node.person("ann").await;
    let bearer = format!("Bearer {}", ann.client.token().unwrap().expose());
    let (second, first) = (proxy.client(|builder| builder), proxy.client(|builder| builder.http1_only()));
    for (client, version) in [(&second, Version::HTTP_2), (&first, Version::HTTP_11)] {
        let ask = |method, path| proxy.request(client, method, path).header(AUTHORIZATION, &bearer);
        let answer = ask(Method::GET, "/users/me/identity").send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));

        let put = || ask(Method::PUT, "/me/blobs/t").header(CONTENT_TYPE, "application/json");

        // Conditions and compressed answers.
        let stored = put().body(r#"{"encryptedBlob":"x"}"#).send().await.unwrap();
        let tag = stored.headers()["etag"].clone();
        let read = ask(Method::GET, "/me/blobs/t").send().await.unwrap();
        assert_eq!(read.headers()["etag"], tag, "as the node gives it, neither weak nor without");
        let stale = put().header(IF_MATCH, "\"0\"").body(r#"{"encryptedBlob":"x"}"#).send().await.unwrap();
        assert_eq!(stale.status(), 412, "{version:?}");
        let fits = put().header(IF_MATCH, tag).body(r#"{"encryptedBlob":"x"}"#).send().await.unwrap();
        assert_eq!(fits.status(), 200, "{version:?}");
        let packed = ask(Method::GET, "/auth/sessions").header(ACCEPT_ENCODING, "gzip").send().await.unwrap();
        assert_eq!(packed.headers()["content-encoding"], "gzip", "{version:?}");

        let answer = code_of(too_long(&ask).send().await.unwrap()).await;
        let expected = (413, "application/problem+json".to_owned(), json!("body_too_large"));
        assert_eq!(answer, expected, "{version:?}: what is too long is refused as the node does it");

        // Nobody outside reads what the node counts; the node itself would let this client.
        let metrics = ask(Method::GET, "/metrics").send().await.unwrap();
        assert_eq!(metrics.status(), 404, "{version:?}");
    }
    let ask = |method, path| proxy.request(&second, method, path).header(AUTHORIZATION, &bearer);
    the_longest_body_passes(&ask).await;
    events_come_at_once_and_end(&ask).await;
    the_client_is_seen_where_it_is(node, proxy, &second).await;
}

async fn the_longest_body_passes(ask: &impl Fn(Method, &'static str) -> RequestBuilder) {
    let around = r#"{"encryptedBlob":""}"#.len();
    let longest = format!(r#"{{"encryptedBlob":"{}"}}"#, "A".repeat(LONGEST - around));
    assert_eq!(longest.len(), LONGEST);
    let put = ask(Method::PUT, "/me/blobs/t").header(CONTENT_TYPE, "application/json");
    assert_eq!(put.body(longest).send().await.unwrap().status(), 200);
    let read = ask(Method::GET, "/me/blobs/t").send().await.unwrap();
    assert!(read.bytes().await.unwrap().len() >= LONGEST - around);
}

/// Five streams are all that a user may have: there is place for five more when the first have gone.
async fn events_come_at_once_and_end(ask: &impl Fn(Method, &'static str) -> RequestBuilder) {
    for _ in 0..2 {
        let mut streams = Vec::new();
        for _ in 0..5 {
            let answer = wait_for(
                "the streams of before have ended",
                || async { ask(Method::GET, "/users/me/revocations/events").send().await.unwrap() },
                |answer| answer.status() == 200,
            )
            .await;
            streams.push(answer);
        }
        for answer in streams {
            let mut bytes = answer.bytes_stream();
            // The stream goes on; the event is there before its end.
            let event = bytes.next().await.unwrap().unwrap();
            assert!(event.starts_with(b"event: pending\n"), "{event:?}");
        }
    }
    let quiet = ask(Method::GET, "/users/me/revocations/events");
    let answer = wait_for(
        "there is place for one more",
        || async { quiet.try_clone().unwrap().send().await.unwrap() },
        |answer| answer.status() == 200,
    )
    .await;
    let mut bytes = answer.bytes_stream();
    let mut text = String::new();
    while !text.contains("\n: still here\n") {
        text += std::str::from_utf8(&bytes.next().await.unwrap().unwrap()).unwrap();
    }
}

/// Signs in with a forged address.
async fn the_client_is_seen_where_it_is(node: &TestNode, proxy: &Proxy, client: &Client) {
    let ask = |path| {
        proxy
            .request(client, Method::POST, path)
            .header("x-forwarded-for", "203.0.113.9")
            .header("x-real-ip", "203.0.113.9")
            .header("forwarded", "for=203.0.113.9")
    };
    let known = node.process.letters().len();
    let asked = ask("/auth/verify").json(&json!({ "email": FIRST_ADMINISTRATOR })).send().await.unwrap();
    assert!(asked.status().is_success(), "{asked:?}");
    let code = node.process.newest_code(known).await.unwrap();
    let sign_in = json!({ "method": "otp", "email": FIRST_ADMINISTRATOR, "token": code });
    let signed_in: Value = ask("/auth/sessions").json(&sign_in).send().await.unwrap().json().await.unwrap();
    let token = signed_in["token"].as_str().unwrap();
    let listed = proxy.request(client, Method::GET, "/auth/sessions").bearer_auth(token);
    let sessions: Value = listed.send().await.unwrap().json().await.unwrap();
    let own = sessions.as_array().unwrap().iter().find(|session| session["current"] == true).unwrap();
    assert_eq!(own["ipv4"], CLIENT.to_string(), "not the proxy's address, nor the forged one");
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_does_what_a_node_needs() {
    let Some(program) = installed("nginx") else { return };
    let node = node().await;
    let proxy = nginx(&program, &node).await;
    let plain = format!("http://127.0.0.1:{}/a?b=c", proxy.plain_port);
    let request = proxy.client(|builder| builder).get(plain).header("host", NAME);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 308);
    assert_eq!(answer.headers()["location"], "https://node.example/a?b=c");
    does_what_a_node_needs(&node, &proxy, head_of_a_long_blob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_does_what_a_node_needs() {
    let Some(program) = installed("caddy") else { return };
    let node = node().await;
    let proxy = caddy(&program, &node).await;
    does_what_a_node_needs(&node, &proxy, long_preferences).await;
}
