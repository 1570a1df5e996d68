//! Where a run takes place: a node of this binary as a process of its own, in a folder that is thrown away, with
//! accounts that are written straight into its database. What is done to it is the scenarios' business.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use vellum_protocol::SigningSecret;
use vellum_store::Store;

use super::process::Watched;
use super::seed::{self, Account};
use crate::data_dir::DataDir;
use crate::demo::node_process::NodeProcess;

/// Accounts with a session, at most: enough that no cache holds them all by chance, few enough to be kept here.
const MOST_SESSIONS: usize = 20_000;
/// Accounts that have something sealed, at most.
const MOST_FURNISHED: usize = 2_000;

/// A folder that goes with the value.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes a folder inside `parent`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.join(format!("vellum-bench-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "the folder of a measurement could not be removed");
        }
    }
}

/// A node with accounts.
pub struct Ground {
    /// The node. It is killed with the value.
    pub node: NodeProcess,
    /// Accounts with a session. Those in front have something sealed as well ([`Ground::furnished`]).
    pub accounts: Vec<Account>,
    furnished: usize,
    // After the node, which works in it.
    _folder: Scratch,
}

impl Ground {
    /// Makes a node with so many accounts and starts it.
    ///
    /// # Errors
    /// When the node does not start, or the accounts cannot be written.
    pub async fn prepare(
        binary: &Path,
        parent: &Path,
        users: usize,
        settings: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let folder = Scratch::new(parent)?;
        let mut node = NodeProcess::new(binary.to_owned(), folder.0.join("node"))
            // A load driver has one address, and asks more than a person does.
            .with("VELLUM_LIMITS__ENABLED", "false")
            .with("VELLUM_LOG__FILTER", "warn")
            .with("VELLUM_FEDERATION__FLUSH_WAIT_MS", "30000")
            .with("VELLUM_HTTP__DRAIN_MS", "0");
        for (variable, value) in settings {
            node = node.with(variable, value);
        }
        // Once for the schema and the port: the port is part of every handle.
        node.start().await?;
        node.stop().await?;
        let furnished = users.div_ceil(2).min(MOST_FURNISHED);
        let mut ground = Self { node, accounts: Vec::new(), furnished, _folder: folder };
        let store = ground.store().await?;
        let sessions = users.min(MOST_SESSIONS);
        ground.accounts = seed::accounts(&store, users, sessions, furnished).await?;
        store.close().await;
        ground.node.start().await?;
        Ok(ground)
    }

    /// The node's database, from beside it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn store(&self) -> anyhow::Result<Store> {
        let path = self.node.folder().join("vellum.db");
        Store::open(&format!("sqlite://{}", path.display())).await.context("opening the node's database")
    }

    /// The key that the node signs with.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn identity(&self) -> anyhow::Result<SigningSecret> {
        DataDir::open(self.node.folder())?.identity(None)
    }

    /// Where the node listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.node.port()))
    }

    /// Watches the node's process from now on.
    #[must_use]
    pub fn watch(&self) -> Watched {
        Watched::begin(self.node.pid().unwrap_or(u32::MAX))
    }

    /// The accounts that have three blobs, five collections and three slots.
    #[must_use]
    pub fn furnished(&self) -> &[Account] {
        &self.accounts[..self.furnished.min(self.accounts.len())]
    }

    /// The accounts whose keys were never changed and under which nothing is sealed.
    #[must_use]
    pub fn plain(&self) -> &[Account] {
        &self.accounts[self.furnished.min(self.accounts.len())..]
    }

    /// The handle of an account.
    #[must_use]
    pub fn handle(&self, account: &Account) -> String {
        format!("{}@{}", account.alias, self.node.domain())
    }

    /// Compares the database with what was answered: every account has the version of keys that the last answer
    /// about it named.
    ///
    /// # Errors
    /// The first that has another.
    pub async fn compare_versions(&self, accounts: &[Account]) -> anyhow::Result<()> {
        let store = self.store().await?;
        let compared = seed::compare_versions(&store, accounts).await;
        store.close().await;
        compared
    }
}
