//! Builds a node's parts, starts them in order, and stops them in reverse.
//!
//! Build and run are two steps: in between the port is known, also when the settings ask for a free one.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use actix_web::dev::Server;
use actix_web::{HttpServer, web};
use anyhow::Context;
use vellum_actors::mail_queue::MailQueue;
use vellum_actors::node::NodeParts;
use vellum_actors::peer::PeerSettings;
use vellum_actors::sign_in::SignInSettings;
use vellum_actors::{Clock, Node, NodeSettings, accounts, housekeeping, measure, operators, replicas};
use vellum_store::Store;
use vellum_store::users::NewUser;

use crate::config::{Origin, Settings};
use crate::data_dir::{self, DataDir, code_key};
use crate::http::{self, App};
use crate::mail::EmailSender;
use crate::outbound::HttpTransport;
use crate::peer_addresses::PeerAddresses;
use crate::restore_guard::{self, RestoreGuard};
use crate::start_check::{Accepted, StartCheck};
use crate::telemetry;

/// Threads that users' and peers' actors run on.
const ARBITERS: usize = 2;
/// Threads that answer HTTP requests.
pub(crate) const HTTP_WORKERS: usize = 2;
/// How long requests under way may take when the node is stopping. Together with the rest of the stop
/// this stays under the 10 s that a service manager is promised.
const FINISH_REQUESTS: Duration = Duration::from_secs(4);
/// How long emails that are due may take to be sent when the node is stopping. The rest waits in the
/// database.
const FINISH_EMAILS: Duration = Duration::from_secs(2);
/// How often what is over its time is forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// The account made at the very first start.
pub const FIRST_ADMINISTRATOR: &str = "admin@localhost";

/// A node whose parts stand, with its port open.
pub struct Built {
    node: Arc<Node>,
    app: web::Data<App>,
    server: Server,
    mail_queue: MailQueue,
    arbiters: Vec<Arbiter>,
    address: SocketAddr,
    first_start: bool,
    drain: Duration,
    // Taken by the housekeeping, which renews it.
    run: Option<(RestoreGuard, DataDir)>,
    // Held as long as the node runs: no other node works on its database file or its folder.
    lock: File,
}

impl Built {
    /// Opens folder, database and port, and starts the actors. Requests wait until [`Built::run`].
    ///
    /// # Errors
    /// Whatever cannot be opened, in a sentence for the operator.
    pub async fn new(settings: &Settings, accepted: Accepted) -> anyhow::Result<Self> {
        telemetry::metrics();
        measure::start();
        http::metrics::start();
        let check = StartCheck::read(settings, accepted).await?;
        check.refuse(settings.domain().as_ref()).await?;
        let folder = DataDir::open(&settings.data_dir)?;
        let locked = Store::file(settings.database_url())?.unwrap_or_else(|| folder.file("node"));
        let lock = data_dir::lock(&locked)?;
        let listener = TcpListener::bind(settings.http.listen)
            .with_context(|| format!("listening on {} (the setting http.listen)", settings.http.listen))?;
        let address = listener.local_addr()?;
        let origin = settings.origin_at(address.port())?;
        if settings.domain().is_none() {
            check.refuse(Some(origin.domain())).await?;
        }
        let identity = folder.identity(settings.identity_key.as_ref())?;
        let wrapping = folder.wrapping_keys(settings.wrapping_keys.as_ref())?;
        let store = Store::open(settings.database_url()).await.context("opening the database")?;
        let clock = Clock::system();
        check.state(&store, origin.domain(), &identity, &wrapping).await?;
        let (guard, restored) =
            RestoreGuard::begin(&store, &folder, accepted.accept_database, clock.now()).await?;
        if restored {
            restore_guard::report_restored();
        }
        let first_start = accounts::create_first(&store, first_administrator(), clock.now()).await?.is_some();

        let arbiters: Vec<Arbiter> = (0..ARBITERS).map(|_| Arbiter::new()).collect();
        let handles: Vec<_> = arbiters.iter().map(Arbiter::handle).collect();
        let in_flight = settings.federation.in_flight_per_peer;
        let limits = &settings.limits;
        let lookups = limits.enabled.then_some(limits.lookups_per_peer_per_minute);
        let code_key = Arc::new(code_key(&identity));
        let mailer = EmailSender::new(&settings.mail, folder.outbox(), &origin)?;
        let peer_addresses = Arc::<PeerAddresses>::default();
        let transport =
            HttpTransport::new(settings.federation.allow_private_peers)?.noting(Arc::clone(&peer_addresses));
        let node = Node::new(NodeParts {
            store,
            clock,
            domain: origin.domain().clone(),
            identity,
            settings: NodeSettings {
                flush_wait: settings.federation.flush_wait,
                in_flight_per_peer: in_flight,
                federation_mode: settings.federation.mode,
                retry: settings.federation.retry,
                quotas: settings.quotas,
                sign_in: SignInSettings {
                    open_registration: settings.open_registration,
                    code_key,
                    bounds: settings.code_bounds,
                },
                invitations: settings.invitations,
            },
            arbiters: handles.clone(),
            peers: PeerSettings { arbiters: handles.clone(), lookups_per_minute: lookups },
            transport: Box::new(transport),
            mailer: Box::new(mailer),
            wrapping,
            name: guard.folder.clone(),
        });
        node.policy.reload(&mut *node.store.read().await?).await?;
        node.start_delivery(&handles[0]).await?;
        let mail_queue = MailQueue::start(&node).await?;
        let app = web::Data::new(App::new(Arc::clone(&node), origin, settings, peer_addresses));
        let server = serve(&app, listener)?;
        let run = Some((guard, folder));
        let drain = settings.http.drain;
        Ok(Self { node, app, server, mail_queue, arbiters, address, first_start, drain, run, lock })
    }

    /// Where the node listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The node's public origin.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.app.origin
    }

    /// Whether this start has made the first account.
    #[must_use]
    pub fn is_first_start(&self) -> bool {
        self.first_start
    }

    /// Answers requests until `stop` is done; then finishes what is under way and closes everything.
    ///
    /// # Errors
    /// When the HTTP server ends by itself.
    pub async fn run(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let handle = self.server.handle();
        let mut serving = actix_web::rt::spawn(self.server);
        let keeper = actix_web::rt::spawn(keep_house(Arc::clone(&self.node), self.app.clone(), self.run));
        let summing = actix_web::rt::spawn(telemetry::sum_up());
        let follower = actix_web::rt::spawn(operators::follow(Arc::clone(&self.node)));
        let listener = actix_web::rt::spawn(replicas::follow(Arc::clone(&self.node.replicas)));
        let ended = tokio::select! {
            ended = &mut serving => Some(ended),
            () = stop => None,
        };
        tracing::info!("stopping");
        self.app.stopping.send_replace(true);
        self.node.outcomes.close();
        if ended.is_none() {
            // What has been sent here already, and waits in a queue of the system or of the server, would be cut off.
            tokio::time::sleep(self.drain).await;
        }
        handle.stop(true).await;
        keeper.abort();
        summing.abort();
        follower.abort();
        listener.abort();
        tokio::join!(self.node.stop_delivery(), self.mail_queue.finish(FINISH_EMAILS));
        for arbiter in self.arbiters {
            arbiter.stop();
        }
        self.node.store.close().await;
        drop(self.lock);
        match ended {
            Some(ended) => ended.context("the HTTP server ended")?.context("the HTTP server failed"),
            None => Ok(()),
        }
    }
}

fn first_administrator() -> NewUser {
    NewUser {
        email: FIRST_ADMINISTRATOR.to_owned(),
        first_name: Some("Administrator".to_owned()),
        last_name: None,
        picture: None,
    }
}

fn serve(app: &web::Data<App>, listener: TcpListener) -> anyhow::Result<Server> {
    let app = app.clone();
    let server = HttpServer::new(move || http::application(app.clone()))
        .workers(HTTP_WORKERS)
        .shutdown_timeout(FINISH_REQUESTS.as_secs())
        .client_request_timeout(Duration::from_secs(10))
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

/// Forgets what is over its time, and lets idle actors go.
async fn keep_house(node: Arc<Node>, app: web::Data<App>, mut run: Option<(RestoreGuard, DataDir)>) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    loop {
        interval.tick().await;
        app.limiters.sweep();
        if let Err(error) = housekeeping::sweep(&node).await {
            tracing::error!(%error, "what is over its time could not be forgotten");
        }
        let Some((guard, folder)) = &mut run else { continue };
        match guard.renew(&node.store, folder, node.clock.now()).await {
            Ok(false) => {}
            Ok(true) => restore_guard::report_restored(),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the run could not be given a new name");
            }
        }
    }
}
