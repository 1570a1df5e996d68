//! One of the people of the story, as their device and their node see them.

use std::time::Duration;

use anyhow::{Context, bail};
use vellum_client::http::{Direction, Friend};
use vellum_client::{MasterSeed, NodeClient, Signer};
use vellum_protocol::{Handle, SigningKey};

use crate::demo::node_process::NodeProcess;

/// One of the people, with their node.
pub(super) struct Person {
    pub node: NodeProcess,
    pub client: NodeClient,
    pub handle: Option<Handle>,
    pub seed: Option<MasterSeed>,
}

impl Person {
    pub async fn begin(mut node: NodeProcess) -> anyhow::Result<Self> {
        node.start().await?;
        let client = Self::of(&node.origin())?;
        Ok(Self { node, client, handle: None, seed: None })
    }

    pub fn of(origin: &str) -> anyhow::Result<NodeClient> {
        Ok(NodeClient::new(origin)?)
    }

    pub async fn sign_in(&mut self, email: &str) -> anyhow::Result<()> {
        let known = self.node.letters().len();
        self.client.request_code(email).await?;
        let code = self.node.newest_code(known).await?;
        self.client.sign_in_with_code(email, &code).await?;
        Ok(())
    }

    pub async fn new_seed(&mut self) -> anyhow::Result<()> {
        let seed = MasterSeed::generate(&mut rand::rng());
        self.client.register_keys(&seed.signing_secret().public(), &seed.encryption_key(), None).await?;
        self.seed = Some(seed);
        Ok(())
    }

    pub fn handle(&self) -> anyhow::Result<&Handle> {
        self.handle.as_ref().context("a handle")
    }

    pub fn signing_key(&self) -> anyhow::Result<SigningKey> {
        Ok(self.seed.as_ref().context("a seed")?.signing_secret().public())
    }

    pub fn signer(&self) -> anyhow::Result<Signer> {
        let seed = self.seed.as_ref().context("a seed")?;
        Ok(Signer::new(self.handle()?.clone(), seed.signing_secret()))
    }

    pub async fn friend(&self, handle: &Handle) -> anyhow::Result<Option<Friend>> {
        let friends = self.client.friends().await?;
        Ok(friends.into_iter().find(|friend| friend.friend_handle == *handle))
    }

    pub async fn await_friend(&self, handle: &Handle) -> anyhow::Result<()> {
        for _ in 0..150 {
            if self.friend(handle).await?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("{handle} has not become a friend")
    }

    pub async fn await_invitation(&self, from: &Handle) -> anyhow::Result<String> {
        for _ in 0..150 {
            let invitations = self.client.invitations(Direction::Incoming).await?;
            if let Some(found) = invitations.into_iter().find(|invitation| invitation.from_handle == *from) {
                return Ok(found.id);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("no invitation has come from {from}")
    }
}
