//! Five real nodes, each a process with its own folder, database, port and clock, and what can be done to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::{Mutex, RwLock};
use vellum::demo::node_process::NodeProcess;
use vellum_client::http::Method;
use vellum_client::{NodeClient, SessionToken};
use vellum_protocol::UnixMillis;
use vellum_test_database::{Engine, PostgresServer};

use crate::ledger::Ledger;
use crate::network::Network;
use crate::plan::NODES;

/// How long a node may be without its database.
const BUSY: Duration = Duration::from_secs(30);

/// The defect that nodes are to have, for [`crate::campaign::Options`].
pub type Defect = Option<String>;

/// One node.
pub struct Node {
    /// Its process.
    pub process: NodeProcess,
    admin: NodeClient,
    clock_file: PathBuf,
}

/// The nodes and the network between them. Everything ends with the value.
pub struct World {
    /// By number.
    pub nodes: Vec<RwLock<Node>>,
    /// Between the nodes.
    pub network: Arc<Network>,
    /// What is seen.
    pub ledger: Arc<Ledger>,
    /// Sign-ins go one at a time and node, since each takes a letter out of a folder.
    pub letters: Vec<Mutex<()>>,
    /// On PostgreSQL: a server for this world alone, so that its crash is no other world's.
    server: Option<Arc<PostgresServer>>,
    /// How far time has been moved on for everybody, in milliseconds.
    skipped: AtomicI64,
    clocks: Vec<AtomicI64>,
    folder: Option<TempDir>,
}

impl World {
    /// Starts nodes of this program (see `main.rs`).
    ///
    /// # Errors
    /// When a node does not start.
    pub async fn start(
        program: &Path,
        engine: Engine,
        ledger: Arc<Ledger>,
        defect: &Defect,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("vellum-harness-").tempdir()?;
        let network = Network::start(Arc::clone(&ledger)).await?;
        let script = node_script(folder.path(), program)?;
        let server = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(start_server().await?),
        };
        let starting = (0..NODES).map(|n| {
            let (script, network, defect) = (script.clone(), Arc::clone(&network), defect.clone());
            let (home, server) = (folder.path().join(format!("node{n}")), server.clone());
            tokio::spawn(async move {
                let database = database(&home, server).await?;
                Node::start(n, home, &database, script, &network, defect).await
            })
        });
        let mut nodes = Vec::new();
        for started in starting.collect::<Vec<_>>() {
            nodes.push(RwLock::new(started.await??));
        }
        Ok(Self {
            nodes,
            network,
            ledger,
            letters: (0..NODES).map(|_| Mutex::new(())).collect(),
            server,
            skipped: AtomicI64::new(0),
            clocks: (0..NODES).map(|_| AtomicI64::new(0)).collect(),
            folder: Some(folder),
        })
    }

    /// The engine that the nodes' databases are on.
    #[must_use]
    pub fn engine(&self) -> Engine {
        if self.server.is_some() { Engine::Postgres } else { Engine::Sqlite }
    }

    /// The true time in this world.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "devices have a clock; this is it")]
    pub fn now(&self) -> UnixMillis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            .plus_millis(self.skipped.load(Ordering::SeqCst))
    }

    /// Time passes for everybody, all at once.
    ///
    /// # Errors
    /// When a clock cannot be set.
    pub async fn skip(&self, millis: i64) -> anyhow::Result<()> {
        self.skipped.fetch_add(millis, Ordering::SeqCst);
        for node in 0..NODES {
            self.set_clock(node, self.clocks[node].load(Ordering::SeqCst)).await?;
        }
        Ok(())
    }

    /// Has a node's clock be wrong by so much.
    ///
    /// # Errors
    /// When it cannot be set.
    pub async fn set_clock(&self, node: usize, off: i64) -> anyhow::Result<()> {
        self.clocks[node].store(off, Ordering::SeqCst);
        let shift = off + self.skipped.load(Ordering::SeqCst);
        self.nodes[node].read().await.write_clock(shift)
    }

    /// How much a node's clock is wrong.
    #[must_use]
    pub fn clock(&self, node: usize) -> i64 {
        self.clocks[node].load(Ordering::SeqCst)
    }

    /// Kills a node, and starts it after a while.
    ///
    /// # Errors
    /// When it does not start again.
    pub async fn kill(&self, node: usize, away: Duration) -> anyhow::Result<()> {
        let mut killed = self.nodes[node].write().await;
        killed.process.kill().await?;
        tokio::time::sleep(away).await;
        self.start_again(node, &mut killed).await
    }

    async fn start_again(&self, n: usize, node: &mut Node) -> anyhow::Result<()> {
        node.process.start().await.with_context(|| format!("node {n} does not start again"))?;
        self.network.lead_to(n, node.process.port(), node.process.pid());
        Ok(())
    }

    /// Has a node stand still for a while.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub async fn pause(&self, node: usize, time: Duration) -> anyhow::Result<()> {
        let node = self.nodes[node].read().await;
        node.signal("-STOP").await?;
        tokio::time::sleep(time).await;
        node.signal("-CONT").await
    }

    /// Has a node write nothing to any file for a while.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub async fn fill_disk(&self, node: usize, time: Duration) -> anyhow::Result<()> {
        let node = self.nodes[node].read().await;
        node.limit_files("1:unlimited").await?;
        tokio::time::sleep(time).await;
        node.limit_files("unlimited:unlimited").await
    }

    /// Keeps a copy of a node's database: what [`Self::put_back`] takes. The node is stopped for it.
    ///
    /// # Errors
    /// When it cannot be copied, or the node does not start again.
    pub async fn keep_copy(&self, n: usize) -> anyhow::Result<String> {
        let mut node = self.nodes[n].write().await;
        node.process.stop().await?;
        let copy = match self.server.clone() {
            None => copy_files(node.process.folder(), &node.process.folder().with_extension("copy"))?,
            Some(server) => {
                let url = node.process.setting("VELLUM_DATABASE__URL").context("its database")?.to_owned();
                tokio::task::spawn_blocking(move || server.copy_of(&url)).await?
            }
        };
        self.start_again(n, &mut node).await?;
        Ok(copy)
    }

    /// Puts a copy in the place of a node's database, as after a loss.
    ///
    /// # Errors
    /// When the node does not start with it.
    pub async fn put_back(&self, n: usize, copy: &str) -> anyhow::Result<()> {
        let mut node = self.nodes[n].write().await;
        node.process.kill().await?;
        if self.server.is_some() {
            node.process.set("VELLUM_DATABASE__URL", copy);
        } else {
            copy_files(Path::new(copy), node.process.folder())?;
        }
        self.start_again(n, &mut node).await
    }

    /// Crashes the database server of all nodes, where they have one, and starts it again.
    ///
    /// # Errors
    /// When it does not start again.
    pub async fn crash_server(&self) -> anyhow::Result<()> {
        let Some(server) = self.server.clone() else { return Ok(()) };
        let crash = move || {
            server.crash();
            server.restart();
        };
        Ok(tokio::task::spawn_blocking(crash).await?)
    }

    /// Keeps the folder with logs and databases for people to look at, and says where it is.
    pub fn keep_folder(&mut self) -> Option<PathBuf> {
        self.folder.take().map(TempDir::keep)
    }
}

impl Node {
    async fn start(
        n: usize,
        folder: PathBuf,
        database: &str,
        script: PathBuf,
        network: &Network,
        defect: Defect,
    ) -> anyhow::Result<Self> {
        let clock_file = folder.with_file_name(format!("clock{n}"));
        let mut process = NodeProcess::new(script, folder)
            .with("VELLUM_DATABASE__URL", database)
            .with("VELLUM_HTTP__ORIGIN", &network.origin(n))
            .with("VELLUM_HTTP__DRAIN_MS", "0")
            .with("VELLUM_LIMITS__ENABLED", "false")
            .with("VELLUM_AUTH__REGISTRATION", "open")
            .with("VELLUM_AUTH__EMAILS_AT_ONCE", "10000")
            .with("VELLUM_FEDERATION__FLUSH_WAIT_MS", "100")
            .with("VELLUM_FEDERATION__RETRY_FIRST_MS", "20")
            .with("VELLUM_FEDERATION__RETRY_LONGEST_MS", "150")
            .with("TEST_CLOCK_FILE", clock_file.to_str().context("a folder in UTF-8")?);
        if let Some(defect) = defect {
            process = process.with("TEST_PLANTED_DEFECT", &defect);
        }
        fs::write(&clock_file, "0")?;
        process.start().await?;
        network.lead_to(n, process.port(), process.pid());
        let token = process.run(&["user", "session", "--email", "admin@localhost"]).await?;
        let mut admin = NodeClient::new(&address(&process))?;
        admin.set_token(Some(SessionToken::new(token)?));
        Ok(Self { process, admin, clock_file })
    }

    /// Where people reach the node.
    #[must_use]
    pub fn address(&self) -> String {
        address(&self.process)
    }

    /// What the node's queue holds: the answer of `/admin/queue`.
    ///
    /// # Errors
    /// When the node does not answer as it should.
    pub async fn queue(&self) -> anyhow::Result<Value> {
        self.administer(Method::GET, "/admin/queue?limit=100", None).await
    }

    /// Lets deliveries go on, and so has the node look at its whole queue within a second or two.
    ///
    /// # Errors
    /// When the node does not answer as it should.
    pub async fn resume(&self) -> anyhow::Result<()> {
        self.administer(Method::POST, "/admin/queue/resume", Some(json!({}))).await.map(drop)
    }

    async fn administer(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let give_up = Instant::now() + BUSY;
        loop {
            let (status, answer) = self.admin.request_json(method.clone(), path, body.as_ref()).await?;
            if status == 503 && Instant::now() < give_up {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            ensure!(status == 200, "{path} answered {status}: {answer}");
            return Ok(answer);
        }
    }

    /// By rename, so that nobody reads half of it.
    fn write_clock(&self, shift: i64) -> anyhow::Result<()> {
        let draft = self.clock_file.with_extension("draft");
        fs::write(&draft, shift.to_string())?;
        Ok(fs::rename(&draft, &self.clock_file)?)
    }

    async fn signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.process.pid().context("the node does not run")?;
        let sent = Command::new("kill").args([name, &pid.to_string()]).status().await?;
        ensure!(sent.success(), "the signal {name} could not be sent");
        Ok(())
    }

    async fn limit_files(&self, limit: &str) -> anyhow::Result<()> {
        let pid = self.process.pid().context("the node does not run")?;
        let (pid, limit) = (format!("--pid={pid}"), format!("--fsize={limit}"));
        let set = Command::new("prlimit").args([pid, limit]).status().await?;
        ensure!(set.success(), "prlimit failed");
        Ok(())
    }
}

fn address(process: &NodeProcess) -> String {
    format!("http://127.0.0.1:{}", process.port())
}

/// A node whose file may not grow is to get an error, as on a full disk, not the signal that ends it.
fn node_script(folder: &Path, program: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let script = folder.join("node.sh");
    let program = program.to_str().context("a path in UTF-8")?;
    ensure!(!program.contains('\''), "the harness cannot run from a path with a quote in it");
    fs::write(&script, format!("#!/bin/sh\ntrap '' XFSZ\nexec '{program}' node \"$@\"\n"))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700))?;
    Ok(script)
}

fn remove_database(folder: &Path) -> anyhow::Result<()> {
    for file in ["vellum.db", "vellum.db-wal", "vellum.db-shm"] {
        match fs::remove_file(folder.join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Copies the database's files of a node that does not run.
fn copy_files(from: &Path, to: &Path) -> anyhow::Result<String> {
    fs::create_dir_all(to)?;
    // A log of another copy would be taken for a part of this one.
    remove_database(to)?;
    for file in ["vellum.db", "vellum.db-wal"] {
        if from.join(file).exists() {
            fs::copy(from.join(file), to.join(file))?;
        }
    }
    Ok(to.to_str().context("a folder in UTF-8")?.to_owned())
}

async fn start_server() -> anyhow::Result<Arc<PostgresServer>> {
    let started = tokio::task::spawn_blocking(PostgresServer::start).await?;
    Ok(Arc::new(started.context("PostgreSQL is not installed")?))
}

/// The address of a new database: a file in the node's folder, or one of the server's.
async fn database(folder: &Path, server: Option<Arc<PostgresServer>>) -> anyhow::Result<String> {
    match server {
        None => Ok(format!("sqlite://{}", folder.join("vellum.db").display())),
        Some(server) => Ok(tokio::task::spawn_blocking(move || server.new_database()).await?),
    }
}
