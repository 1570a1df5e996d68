//! A node as a process of its own, with its own folder and port: started, stopped, killed, started again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a node may take until it listens, and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node that runs, or ran and can run again.
#[derive(Debug)]
pub struct NodeProcess {
    binary: PathBuf,
    folder: PathBuf,
    settings: Vec<(String, String)>,
    address: Option<SocketAddr>,
    child: Option<Child>,
}

impl NodeProcess {
    /// A node of this binary that keeps its data in `folder`, for peers on the same machine. It does not
    /// run yet.
    #[must_use]
    pub fn new(binary: PathBuf, folder: PathBuf) -> Self {
        let settings = vec![("VELLUM_FEDERATION__ALLOW_PRIVATE_PEERS".to_owned(), "true".to_owned())];
        Self { binary, folder, settings, address: None, child: None }
    }

    /// Gives a setting by its environment variable.
    #[must_use]
    pub fn with(mut self, variable: &str, value: &str) -> Self {
        self.settings.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// Changes an environment variable, from the next start on.
    pub fn set(&mut self, variable: &str, value: &str) {
        self.settings.push((variable.to_owned(), value.to_owned()));
    }

    /// The value that a setting was given.
    #[must_use]
    pub fn setting(&self, variable: &str) -> Option<&str> {
        let given = self.settings.iter().rfind(|(name, _)| name == variable);
        given.map(|(_, value)| value.as_str())
    }

    /// The node's domain: what its users' handles end with.
    #[must_use]
    pub fn domain(&self) -> String {
        format!("localhost:{}", self.port())
    }

    /// The port that it listens on; 0 before the first start.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.map_or(0, |address| address.port())
    }

    /// Where clients reach the node.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.domain())
    }

    /// The node's data folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the process has been started and not been stopped since.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Starts the node and waits until it listens: the first time on a free port, later on the same one.
    ///
    /// # Errors
    /// When it ends, or does not listen in time. Its log lies beside its folder, with the ending `.log`.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.start_with(&[]).await
    }

    /// The same with flags of `vellum serve`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(&mut self, flags: &[&str]) -> anyhow::Result<()> {
        let listen = self.address.map_or_else(|| "127.0.0.1:0".to_owned(), |address| address.to_string());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut child = self
            .command()
            .arg("serve")
            .args(flags)
            .env("VELLUM_HTTP__LISTEN", listen)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))?;
        let stdout = child.stdout.take().context("the node's standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.context("the node did not start in time")??;
        let Some(line) = line else {
            bail!("the node ended while it started; see {}", self.log_path().display())
        };
        let address = line.strip_prefix("listening on http://").context("the node's first line")?;
        self.address = Some(address.parse().context("the node's address")?);
        self.child = Some(child);
        Ok(())
    }

    /// The process's id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Asks the node to stop, and waits until it has.
    ///
    /// # Errors
    /// When it does not stop in time or not with success.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let pid = child.id().context("the node's process id")?;
        let asked = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
        ensure!(asked.success(), "the node could not be told to stop");
        let status = timeout(PATIENCE, child.wait()).await.context("the node did not stop in time")??;
        ensure!(status.success(), "the node stopped with {status}");
        Ok(())
    }

    /// Kills the node: it gets no chance to finish anything.
    ///
    /// # Errors
    /// When the operating system does not let us.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await.context("killing the node")?;
        }
        Ok(())
    }

    /// Runs another command of the binary on the node's data, and gives what it prints.
    ///
    /// # Errors
    /// When the command fails; with its reason.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command().args(arguments).output().await?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Waits for a letter with a one-time code that is newer than `known` letters, and reads the code.
    ///
    /// # Errors
    /// When none comes.
    pub async fn newest_code(&self, known: usize) -> anyhow::Result<String> {
        for _ in 0..1000 {
            let letters = self.letters();
            if letters.len() > known
                && let Some(newest) = letters.last()
            {
                let text = std::fs::read_to_string(newest)?;
                let is_code = |line: &&str| line.len() == 8 && line.bytes().all(|byte| byte.is_ascii_digit());
                return text.lines().find(is_code).map(str::to_owned).context("a code in the letter");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("no letter has come")
    }

    /// The letters in the node's outbox folder, the newest last.
    #[must_use]
    pub fn letters(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.join("outbox")).into_iter().flatten().flatten();
        let mut letters: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "eml"))
            .collect();
        letters.sort();
        letters
    }

    /// Where the node's log goes.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    /// The binary with this node's settings and nothing else of our environment's `VELLUM_…`.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("VELLUM_")) {
                command.env_remove(name);
            }
        }
        command
            .env("VELLUM_DATA_DIR", &self.folder)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}
