//! A node in a folder of its own.

use tempfile::TempDir;
use vellum::demo::node_process::NodeProcess;
use vellum_client::{NodeClient, SessionToken};

use super::Person;

/// A real node process. It is killed when the test ends.
pub struct TestNode {
    pub process: NodeProcess,
    // Removed with the value.
    _folder: TempDir,
}

impl TestNode {
    /// Starts a node for peers on this machine, without rate limits, that waits a short while for outcomes.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a node with more settings, by environment variable.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let mut node = Self::prepared(settings);
        node.process.start().await.unwrap();
        node
    }

    /// A node that has not been started.
    pub fn prepared(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = NodeProcess::new(env!("CARGO_BIN_EXE_vellum").into(), folder.path().join("data"))
            .with("VELLUM_DATABASE__URL", &vellum_test_database::address(&folder.path().join("data")))
            .with("VELLUM_LIMITS__ENABLED", "false")
            .with("VELLUM_FEDERATION__FLUSH_WAIT_MS", "3000");
        for (variable, value) in settings {
            process = process.with(variable, value);
        }
        Self { process, _folder: folder }
    }

    /// A client without a session.
    pub fn client(&self) -> NodeClient {
        NodeClient::new(&self.process.origin()).unwrap()
    }

    /// Makes an account by the command line and signs in.
    pub async fn user(&self, name: &str) -> Person {
        let email = format!("{name}@people.example");
        let create = ["user", "create", "--email", &email, "--first-name", name, "--last-name", "Test"];
        self.process.run(&create).await.unwrap();
        let mut client = self.client();
        client.set_token(Some(self.token(&email).await));
        Person::new(client)
    }

    /// Makes an account with an alias and keys.
    pub async fn person(&self, alias: &str) -> Person {
        let mut person = self.user(alias).await;
        person.set_up(alias).await;
        person
    }

    /// A session's token for an account, from the command line.
    pub async fn token(&self, email: &str) -> SessionToken {
        SessionToken::new(self.process.run(&["user", "session", "--email", email]).await.unwrap()).unwrap()
    }
}
