//! Several nodes on one PostgreSQL database, behind a balancer: one node to the world.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use vellum_client::NodeClient;
use vellum_test_database::PostgresServer;

use super::{Person, TestNode};

/// The nodes; they end with the value.
pub struct Replicas {
    pub nodes: Vec<TestNode>,
    /// Where the world reaches whichever of them is up.
    pub origin: String,
    upstreams: Arc<Mutex<Vec<u16>>>,
}

impl Replicas {
    /// Starts so many nodes on a new database of the server.
    pub async fn start(server: &PostgresServer, count: usize, settings: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        let database = server.new_database();
        let mut all = vec![
            ("VELLUM_DATABASE__URL", database.as_str()),
            ("VELLUM_HTTP__ORIGIN", &origin),
            ("VELLUM_SERVER__IDENTITY_KEY", "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk="),
            ("VELLUM_SERVER__WRAPPING_KEYS", "shared BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="),
        ];
        all.extend_from_slice(settings);
        let upstreams: Arc<Mutex<Vec<u16>>> = Arc::default();
        let mut nodes = Vec::new();
        for _ in 0..count {
            let mut node = TestNode::prepared(&all);
            node.process.start().await.unwrap();
            upstreams.lock().unwrap().push(node.process.port());
            nodes.push(node);
        }
        tokio::spawn(balance(listener, Arc::clone(&upstreams)));
        Self { nodes, origin, upstreams }
    }

    /// Somebody as they are seen through one of the nodes.
    pub fn through(&self, node: usize, person: &Person) -> Person {
        let mut client = NodeClient::new(&self.address(node)).unwrap();
        client.set_token(person.client.token().cloned());
        person.seen_through(client)
    }

    /// Has the balancer pass nothing to a node any more. Returns its port.
    pub fn take_out(&self, node: usize) -> u16 {
        std::mem::take(&mut self.upstreams.lock().unwrap()[node])
    }

    /// Has the balancer pass connections to a node again.
    pub fn put_back(&self, node: usize, port: u16) {
        self.upstreams.lock().unwrap()[node] = port;
    }

    /// Where one of the nodes is reached by itself.
    pub fn address(&self, node: usize) -> String {
        format!("http://127.0.0.1:{}", self.upstreams.lock().unwrap()[node])
    }
}

/// Passes each connection on to the next node that takes it.
async fn balance(listener: TcpListener, upstreams: Arc<Mutex<Vec<u16>>>) {
    let turn = AtomicUsize::new(0);
    while let Ok((mut client, _)) = listener.accept().await {
        let ports = upstreams.lock().unwrap().clone();
        let first = turn.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            for n in 0..ports.len() {
                let port = ports[(first + n) % ports.len()];
                if port == 0 {
                    continue;
                }
                if let Ok(mut upstream) = TcpStream::connect(("127.0.0.1", port)).await {
                    // Either side may break off; the other sees it.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
                    return;
                }
            }
        });
    }
}
