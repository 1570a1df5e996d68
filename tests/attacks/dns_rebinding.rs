//! The attacker owns a name and answers its look-ups as he likes: with a public address while it is checked, and with
//! one of the inner network when it is dialled; or with both at once. He would have the node connect to what only it
//! can reach. What stops him: the addresses that are dialled are the ones that were checked, looked up once for each
//! connection, and those of inner networks are left out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use vellum::outbound::{HttpTransport, Lookup};
use vellum_actors::peer::{Transport, TransportError};
use vellum_protocol::Domain;

/// The attacker's name server: the n-th look-up is answered with the n-th list, every later one with the last.
struct NameServer {
    answers: Vec<Vec<SocketAddr>>,
    asked: AtomicUsize,
}

impl NameServer {
    fn answering(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |list: &&[&str]| list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
        Arc::new(Self { answers: answers.iter().map(parse).collect(), asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Lookup for NameServer {
    fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, std::io::Result<Vec<SocketAddr>>> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        async move { Ok(self.answers[number].clone()) }.boxed()
    }
}

/// A public address at which nobody answers.
const PUBLIC: &str = "1.2.3.4";

/// What the inner network's service sees of a node that is led to it.
struct Inner {
    listener: TcpListener,
    evil: Domain,
}

impl Inner {
    async fn listening() -> Self {
        // It may be there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, evil: Domain::parse(&format!("evil.example:{port}")).unwrap() }
    }

    /// How a request to the attacker's name ends; a connection to the inner service is cut at once.
    async fn ask(&self, transport: &HttpTransport) -> (TransportError, bool) {
        let request = transport.get(&self.evil, "/.well-known/parchment-server");
        tokio::pin!(request);
        let mut reached = false;
        loop {
            tokio::select! {
                answer = &mut request => return (answer.unwrap_err(), reached),
                accepted = self.listener.accept() => {
                    drop(accepted.unwrap());
                    reached = true;
                }
            }
        }
    }
}

fn transport(allow_private: bool, names: &Arc<NameServer>) -> HttpTransport {
    HttpTransport::with_lookup(allow_private, Arc::clone(names) as Arc<dyn Lookup>).unwrap()
}

#[tokio::test]
async fn a_name_that_turns_to_the_inner_network_after_its_check_leads_nowhere() {
    let inner = Inner::listening().await;
    let honest = NameServer::answering(&[&["127.0.0.1"]]);
    assert!(
        inner.ask(&transport(true, &honest)).await.1,
        "who may dial inner addresses does reach the service"
    );

    let names = NameServer::answering(&[&[PUBLIC], &["127.0.0.1"]]);
    let transport = transport(false, &names);
    let (failed, reached) = inner.ask(&transport).await;
    assert!(!matches!(failed, TransportError::Forbidden(_)), "the public address was dialled: {failed:?}");
    assert_eq!(
        (reached, names.asked()),
        (false, 1),
        "what was checked is what was dialled, without another look-up"
    );
    let (refused, reached) = inner.ask(&transport).await;
    assert!(
        matches!(refused, TransportError::Forbidden(_)),
        "the next connection is checked anew: {refused:?}"
    );
    assert_eq!((reached, names.asked()), (false, 2));
}

#[tokio::test]
async fn an_inner_address_among_public_ones_is_left_out() {
    let inner = Inner::listening().await;
    for mixed in [["127.0.0.1", PUBLIC], [PUBLIC, "127.0.0.1"], [PUBLIC, "::ffff:127.0.0.1"]] {
        let names = NameServer::answering(&[&mixed]);
        let transport = transport(false, &names);
        let ask = tokio::time::timeout(Duration::from_secs(15), inner.ask(&transport));
        let (error, reached) = ask.await.expect("a connection has five seconds");
        assert!(!reached, "{mixed:?}: {error:?}");
        assert!(!matches!(error, TransportError::Forbidden(_)), "the public one was tried: {error:?}");
    }
    for inner_only in ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "fd00:ec2::254"] {
        let names = NameServer::answering(&[&[inner_only]]);
        let (error, reached) = inner.ask(&transport(false, &names)).await;
        assert!(matches!(error, TransportError::Forbidden(_)) && !reached, "{inner_only}: {error:?}");
    }
}
