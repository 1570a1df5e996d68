//! The environment of a run: nodes of this binary, each a process of its own, their database and
//! its accounts. All of it is removed with the value.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use vellum_protocol::{SigningSecret, base64};
use vellum_store::Store;
use vellum_store::scratch::ScratchDatabase;

use super::Options;
use super::database_use::Counters;
use super::load::{self, Load, Measured, Script};
use super::process::Watched;
use super::seed::{self, Account};
use crate::demo::node_process::NodeProcess;

/// The most accounts with sealed data.
const MOST_SEEDED: usize = 2_000;
/// The key that every node signs with: nodes on one database need the same.
const IDENTITY: [u8; 32] = [9; 32];
/// The key that every node encrypts with at rest.
const WRAPPING: [u8; 32] = [7; 32];

/// A folder that is removed with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.join(format!("vellum-bench-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "bench folder not removed");
        }
    }
}

/// A PostgreSQL database that is dropped with the value.
struct OwnDatabase(ScratchDatabase);

impl Drop for OwnDatabase {
    fn drop(&mut self) {
        let remove = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            anyhow::Ok(runtime.block_on(self.0.remove())?)
        };
        // On a thread of its own: this one is inside a runtime.
        match std::thread::scope(|scope| scope.spawn(remove).join()) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "bench database not removed"),
            Err(_) => tracing::warn!("bench database not removed: its thread has panicked"),
        }
    }
}

/// Nodes with accounts.
pub struct BenchEnv {
    /// The nodes, all on one database; at least one. They are killed with the value.
    pub nodes: Vec<NodeProcess>,
    /// Accounts with a session. The first of them have sealed data ([`BenchEnv::seeded`]).
    pub accounts: Vec<Account>,
    seeded: usize,
    // Fields are dropped in order: the nodes work in these two.
    database: Option<OwnDatabase>,
    _folder: Scratch,
}

impl BenchEnv {
    /// Creates the database, writes the accounts and starts the nodes.
    ///
    /// # Errors
    /// When a node does not start, or the database cannot be created or written.
    pub async fn prepare(binary: &Path, options: &Options) -> anyhow::Result<Self> {
        let folder = Scratch::new(&options.folder)?;
        let database = match &options.database {
            Some(server) => {
                let created = ScratchDatabase::create(server).await;
                Some(OwnDatabase(created.context("creating a database for the run")?))
            }
            None => None,
        };
        let node = |number: usize| {
            let mut node = NodeProcess::new(binary.to_owned(), folder.0.join(format!("node{number}")))
                // The driver has one address and sends more than a person does.
                .with("VELLUM_LIMITS__ENABLED", "false")
                .with("VELLUM_LOG__FILTER", "warn")
                .with("VELLUM_FEDERATION__FLUSH_WAIT_MS", "30000")
                .with("VELLUM_HTTP__DRAIN_MS", "0")
                .with("VELLUM_SERVER__IDENTITY_KEY", &base64::encode(&IDENTITY))
                .with("VELLUM_SERVER__WRAPPING_KEYS", &format!("bench {}", base64::encode(&WRAPPING)));
            if let Some(OwnDatabase(database)) = &database {
                node.set("VELLUM_DATABASE__URL", &database.url());
            }
            for (variable, value) in &options.settings {
                node.set(variable, value);
            }
            node
        };
        // Started once for the schema and the port, which is part of every handle.
        let mut first = node(0);
        first.start().await?;
        first.stop().await?;
        let origin = first.origin();
        let others = (1..options.nodes).map(|number| node(number).with("VELLUM_HTTP__ORIGIN", &origin));
        let nodes = std::iter::once(first).chain(others).collect();
        let sessions = options.users.min(options.active);
        let seeded = sessions.div_ceil(2).min(MOST_SEEDED);
        let mut env = Self { nodes, accounts: Vec::new(), seeded, database, _folder: folder };
        let store = env.store().await?;
        env.accounts = seed::accounts(&store, options.users, sessions, seeded).await?;
        store.close().await;
        env.start().await?;
        Ok(env)
    }

    /// Starts every node. Returns when the first of them was ready.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(&mut self) -> anyhow::Result<Instant> {
        let mut ready = None;
        for node in &mut self.nodes {
            node.start().await?;
            ready.get_or_insert_with(Instant::now);
        }
        ready.context("a node")
    }

    /// Stops every node.
    ///
    /// # Errors
    /// When one does not stop in time.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            node.stop().await?;
        }
        Ok(())
    }

    /// The address of the nodes' database.
    #[must_use]
    pub fn database_url(&self) -> String {
        match &self.database {
            Some(OwnDatabase(database)) => database.url(),
            None => format!("sqlite://{}", self.nodes[0].folder().join("vellum.db").display()),
        }
    }

    /// Opens the nodes' database beside them.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn store(&self) -> anyhow::Result<Store> {
        Store::open(&self.database_url()).await.context("opening the nodes' database")
    }

    /// The key that the nodes sign with.
    #[must_use]
    pub fn identity() -> SigningSecret {
        SigningSecret::from_seed(IDENTITY)
    }

    /// The domain of every handle.
    #[must_use]
    pub fn domain(&self) -> String {
        self.nodes[0].domain()
    }

    /// The address that the first node listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        address(&self.nodes[0])
    }

    /// Reads the nodes' counters, summed up.
    ///
    /// # Errors
    /// When a node does not answer.
    pub async fn counters(&self) -> anyhow::Result<Counters> {
        Counters::read(&self.addresses()).await
    }

    /// Runs each script on a connection of its own. The connections go to the nodes in turn.
    ///
    /// # Errors
    /// The first wrong answer, or a connection that failed.
    pub async fn drive(&self, scripts: Vec<Box<dyn Script>>, load: Load) -> anyhow::Result<Measured> {
        let before = self.counters().await?;
        let mut measured = load::drive(&self.addresses(), scripts, load).await?;
        measured.database = Some(self.counters().await?.since(&before, measured.answered));
        Ok(measured)
    }

    /// The addresses that the nodes listen on.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(address).collect()
    }

    /// Watches the nodes' processes from now on.
    #[must_use]
    pub fn watch(&self) -> Watched {
        Watched::begin(self.nodes.iter().map(|node| node.pid().unwrap_or(u32::MAX)).collect())
    }

    /// The accounts with three blobs, five collections and three slots.
    #[must_use]
    pub fn seeded(&self) -> &[Account] {
        &self.accounts[..self.seeded.min(self.accounts.len())]
    }

    /// The accounts without sealed data, whose keys never change.
    #[must_use]
    pub fn plain(&self) -> &[Account] {
        &self.accounts[self.seeded.min(self.accounts.len())..]
    }

    /// The handle of an account.
    #[must_use]
    pub fn handle(&self, account: &Account) -> String {
        format!("{}@{}", account.alias, self.domain())
    }

    /// Checks that every account has the version of its keys that the last answer named.
    ///
    /// # Errors
    /// The first account that has another.
    pub async fn compare_versions(&self, accounts: &[Account]) -> anyhow::Result<()> {
        let store = self.store().await?;
        let compared = seed::compare_versions(&store, accounts).await;
        store.close().await;
        compared
    }
}

fn address(node: &NodeProcess) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], node.port()))
}
