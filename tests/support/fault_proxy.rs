//! A hostile network between two nodes: it listens where the receiving node is said to be, and passes
//! connections on, or does not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// How often a connection looks whether it has to end.
const LOOK: Duration = Duration::from_millis(20);

/// What happens to connections.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing bad.
    None,
    /// They are taken, and nothing is ever answered.
    Hang,
    /// The answer ends in the middle of its body.
    ResetMidBody,
    /// The connection is reset once the request has come.
    Reset,
    /// The answer comes byte by byte.
    Slow,
    /// Every request is answered with these bytes, whatever it was.
    Says(&'static str),
}

struct State {
    port: u16,
    upstream: Mutex<u16>,
    fault: Mutex<Fault>,
    listening: Mutex<Option<JoinHandle<()>>>,
    /// Holds the port while nobody listens, so that no other test is given it.
    held: Mutex<Option<TcpSocket>>,
}

/// The proxy.
pub struct FaultProxy(Arc<State>);

impl FaultProxy {
    /// Listens on a free port; where it leads to is told later.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            port,
            upstream: Mutex::new(0),
            fault: Mutex::new(Fault::None),
            listening: Mutex::default(),
            held: Mutex::default(),
        });
        *state.listening.lock().unwrap() = Some(tokio::spawn(serve(Arc::clone(&state), listener)));
        Self(state)
    }

    /// Where the node behind it is, as others see it.
    pub fn origin(&self) -> String {
        format!("http://localhost:{}", self.0.port)
    }

    /// Leads to a node's own port from now on.
    pub fn lead_to(&self, origin: &str) {
        *self.0.upstream.lock().unwrap() = origin.rsplit_once(':').unwrap().1.parse().unwrap();
    }

    /// What happens to connections from now on. Those that are open end first: a client keeps them for its
    /// next request.
    pub async fn set(&self, fault: Fault) {
        *self.0.fault.lock().unwrap() = fault;
        tokio::time::sleep(5 * LOOK).await;
    }

    /// Nobody listens any more: connections are refused.
    pub async fn go_away(&self) {
        let listening = self.0.listening.lock().unwrap().take();
        if let Some(listening) = listening {
            listening.abort();
            // An abort is how it ends.
            let _ = listening.await;
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], self.0.port).into()).unwrap();
        *self.0.held.lock().unwrap() = Some(socket);
    }

    /// Somebody listens again.
    pub async fn come_back(&self) {
        let socket = self.0.held.lock().unwrap().take().unwrap();
        let listener = socket.listen(128).unwrap();
        *self.0.listening.lock().unwrap() = Some(tokio::spawn(serve(Arc::clone(&self.0), listener)));
    }
}

async fn serve(state: Arc<State>, listener: TcpListener) {
    // Connections end with the listener: what is refused is refused.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(Arc::clone(&state), stream));
    }
}

async fn connection(state: Arc<State>, mut stream: TcpStream) {
    let fault = state.fault.lock().unwrap().clone();
    let upstream = *state.upstream.lock().unwrap();
    // A connection lives as long as one fault does: nothing waits in a pool for better times.
    let changed = async {
        loop {
            tokio::time::sleep(LOOK).await;
            if std::mem::discriminant(&*state.fault.lock().unwrap()) != std::mem::discriminant(&fault) {
                return;
            }
        }
    };
    let work = async {
        match &fault {
            Fault::None => {
                let mut node = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut node).await;
            }
            Fault::Hang => {
                let mut sink = vec![0; 4096];
                while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
                std::future::pending::<()>().await;
            }
            Fault::ResetMidBody => {
                answer(&mut stream, "HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\n{\"succ").await;
            }
            Fault::Reset => {
                read_request(&mut stream).await;
                // Closed in such a way that the other side is told it was broken off.
                stream.set_zero_linger().unwrap();
            }
            Fault::Says(bytes) => answer(&mut stream, bytes).await,
            Fault::Slow => {
                read_request(&mut stream).await;
                let body = "HTTP/1.1 202 Accepted\r\ncontent-length: 16\r\n\r\n{\"success\":true}";
                for byte in body.as_bytes() {
                    if stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = changed => {}
    }
}

async fn answer(stream: &mut TcpStream, bytes: &str) {
    read_request(stream).await;
    // The other side may have gone.
    let _ = stream.write_all(bytes.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Reads until nothing comes for a moment: the requests here are short.
async fn read_request(stream: &mut TcpStream) {
    let mut sink = vec![0; 16 * 1024];
    let pause = Duration::from_millis(100);
    while tokio::time::timeout(pause, stream.read(&mut sink))
        .await
        .is_ok_and(|read| read.is_ok_and(|n| n > 0))
    {}
}
