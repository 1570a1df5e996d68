//! What actix-web alone could answer: a server with as many workers as the node has, in a process of its own like
//! the node, that answers every request with the same bytes. The same driver asks it, so the two rates differ by
//! what the node does and by nothing else.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::connection::{Answer, write_request};
use super::load::{Load, Measured, Pace, Script, drive};
use crate::node::HTTP_WORKERS;

/// Serves until the process is ended: the hidden half of `vellum bench`.
///
/// # Errors
/// When no port can be had.
#[expect(clippy::print_stdout, reason = "the one line that the other half waits for")]
pub fn serve(length: usize) -> anyhow::Result<()> {
    actix_web::rt::System::new().block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("listening on http://{}", listener.local_addr()?);
        let body = web::Bytes::from(vec![b' '; length]);
        let server = HttpServer::new(move || {
            let body = body.clone();
            App::new().default_service(web::to(move || {
                let body = body.clone();
                async move { HttpResponse::Ok().content_type(ContentType::json()).body(body) }
            }))
        });
        Ok(server.workers(HTTP_WORKERS).listen(listener)?.run().await?)
    })
}

/// The server as a process, which ends with the value.
struct BareServer {
    address: SocketAddr,
    // Killed when dropped.
    _child: Child,
}

impl BareServer {
    async fn start(binary: &Path, length: usize) -> anyhow::Result<Self> {
        let mut child = Command::new(binary)
            .args(["bench", "--bare-server", &length.to_string()])
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

/// Asks the same request again and again.
struct Same {
    request: Vec<u8>,
    length: usize,
}

impl Script for Same {
    fn write_next(&mut self, request: &mut Vec<u8>) -> bool {
        request.clone_from(&self.request);
        true
    }

    fn check(&mut self, answer: Answer<'_>) -> Result<(), String> {
        answer.expect(200, "")?;
        (answer.body.len() == self.length).then_some(()).ok_or_else(|| "another length".to_owned())
    }
}

/// How many answers of this length actix-web gives to so many connections of this driver, in a closed loop.
///
/// # Errors
/// When the server does not start, or answers anything else.
pub async fn measure(
    binary: &Path,
    length: usize,
    connections: usize,
    load: Load,
) -> anyhow::Result<Measured> {
    let server = BareServer::start(binary, length).await?;
    let mut request = Vec::new();
    // A token of the usual length: the bytes to be read are the same, too.
    write_request(&mut request, "GET /users/me/identity", &[("authorization", &"0".repeat(71))], b"");
    let same = || -> Box<dyn Script> { Box::new(Same { request: request.clone(), length }) };
    let scripts = (0..connections).map(|_| same()).collect();
    drive(server.address, scripts, Load { pace: Pace::Closed, ..load }).await
}
