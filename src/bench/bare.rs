//! What actix-web alone can answer: a server in a process of its own, with as many workers as a
//! node, that answers every request with the same bytes. It can read the caller or the user from
//! the database first, as a node does. The same driver asks it, so the rates differ by what a node
//! does besides.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, ContentType};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use vellum_actors::Clock;
use vellum_protocol::Alias;
use vellum_store::Store;

use super::Bench;
use super::load::{Load, Pace, Script, drive};
use crate::node::HTTP_WORKERS;

/// The environment variable with the address of the database to read from.
const DATABASE: &str = "VELLUM_BENCH_DATABASE";

/// Serves until the process is ended: the hidden half of `vellum bench`.
///
/// # Errors
/// When there is no free port, or the database does not open.
#[expect(clippy::print_stdout, reason = "the one line that the other half waits for")]
pub fn serve(length: usize) -> anyhow::Result<()> {
    actix_web::rt::System::new().block_on(async move {
        let store = match std::env::var(DATABASE) {
            Ok(url) => Some(Arc::new(Store::open(&url).await?)),
            Err(_) => None,
        };
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("listening on http://{}", listener.local_addr()?);
        let body = web::Bytes::from(vec![b' '; length]);
        let server = HttpServer::new(move || {
            let (body, store) = (body.clone(), store.clone());
            App::new().default_service(web::to(move |request: HttpRequest| {
                let (body, store) = (body.clone(), store.clone());
                async move {
                    if let Some(store) = store
                        && !read(&store, &request).await.unwrap_or(false)
                    {
                        return HttpResponse::NotFound().finish();
                    }
                    HttpResponse::Ok().content_type(ContentType::json()).body(body)
                }
            }))
        });
        Ok(server.workers(HTTP_WORKERS).listen(listener)?.run().await?)
    })
}

/// Reads what a node reads for this request: the user with this alias, or the session with its
/// user. Returns whether there is one.
async fn read(store: &Store, request: &HttpRequest) -> anyhow::Result<bool> {
    if let Some(alias) = request.path().strip_prefix("/.well-known/user/") {
        return Ok(store.user_by_alias(&Alias::parse(alias)?).await?.is_some());
    }
    let header = request.headers().get(AUTHORIZATION).context("no token")?.to_str()?;
    let token = header.strip_prefix("Bearer ").context("no token")?;
    let hash = Sha256::digest(token.as_bytes()).into();
    Ok(store.session(&hash, Clock::system().now()).await?.is_some())
}

/// The server as a process, which ends with the value.
struct BareServer {
    address: SocketAddr,
    // Killed when dropped.
    _child: Child,
}

impl BareServer {
    async fn start(bench: &Bench, length: usize, reads: bool) -> anyhow::Result<Self> {
        let mut child = Command::new(&bench.binary)
            .args(["bench", "--bare-server", &length.to_string()])
            .envs(reads.then(|| (DATABASE, bench.env.database_url())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the bare server")?;
        let stdout = child.stdout.take().context("the bare server's output")?;
        let line = BufReader::new(stdout).lines().next_line().await?.context("the bare server's address")?;
        let address = line.strip_prefix("listening on http://").context("the bare server's address")?;
        Ok(Self { address: address.parse()?, _child: child })
    }
}

/// Answers per second of a bare server to these scripts in a closed loop. Its answers have a body
/// of so many bytes, and none of the expected content. With `reads` it reads from the nodes'
/// database.
///
/// # Errors
/// When the server does not start, or answers anything but 200.
pub(super) async fn measure(
    bench: &Bench,
    length: usize,
    reads: bool,
    scripts: Vec<Box<dyn Script>>,
    load: Load,
) -> anyhow::Result<f64> {
    let server = BareServer::start(bench, length, reads).await?;
    let load = Load { pace: Pace::Closed, ..load };
    Ok(drive(&[server.address], scripts, load).await?.rate())
}
