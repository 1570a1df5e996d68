//! The story: alice and bob, each on a node of their own, become friends; alice resets her identity; her
//! revocation reaches bob although his node is down when she sends it; nothing else of bob's changes.
//!
//! Every step checks what it did and fails otherwise. Between two steps either node may be killed and
//! started again: the story must go on.

mod person;
mod step;

pub use step::Step;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use vellum_actors::Clock;
use vellum_client::http::{Direction, FlushItem, Identity, RevocationState};
use vellum_client::{MasterSeed, SessionToken, Signer, safety_number};
use vellum_protocol::Handle;

use super::node_process::NodeProcess;
use crate::node::FIRST_ADMINISTRATOR;
use person::Person;

/// How long the last revocation may take to arrive once bob's node is back.
const ARRIVAL: Duration = Duration::from_secs(20);

/// What a step sent and what came back, in words for people.
#[derive(Debug)]
pub struct Told {
    /// The requests.
    pub sent: String,
    /// The answers.
    pub received: String,
}

fn told(sent: impl Into<String>, received: impl Into<String>) -> anyhow::Result<Told> {
    Ok(Told { sent: sent.into(), received: received.into() })
}

/// Which node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Alice's.
    Alice,
    /// Bob's.
    Bob,
}

/// The story under way.
pub struct Story {
    clock: Clock,
    alice: Person,
    bob: Person,
    carol: Option<Handle>,
    safety_number: Option<String>,
    bob_before: Option<Identity>,
}

impl Story {
    /// Starts both nodes, with folders inside `folder`.
    ///
    /// # Errors
    /// When a node does not start.
    pub async fn begin(binary: PathBuf, folder: &Path, clock: Clock) -> anyhow::Result<Self> {
        let alice = Person::begin(NodeProcess::new(binary.clone(), folder.join("alice"))).await?;
        let bob = Person::begin(NodeProcess::new(binary, folder.join("bob"))).await?;
        Ok(Self { clock, alice, bob, carol: None, safety_number: None, bob_before: None })
    }

    /// The two domains, alice's first.
    #[must_use]
    pub fn domains(&self) -> [String; 2] {
        [self.alice.node.domain(), self.bob.node.domain()]
    }

    /// Kills a node that runs and starts it again, between two steps.
    ///
    /// # Errors
    /// When it does not start again.
    pub async fn kill_and_restart(&mut self, whose: Whose) -> anyhow::Result<()> {
        let node = match whose {
            Whose::Alice => &mut self.alice.node,
            Whose::Bob => &mut self.bob.node,
        };
        if node.is_running() {
            node.kill().await?;
            node.start().await?;
        }
        Ok(())
    }

    /// Ends both nodes.
    pub async fn end(mut self) {
        for node in [&mut self.alice.node, &mut self.bob.node] {
            if let Err(error) = node.stop().await {
                tracing::warn!(%error, "a node did not stop as asked");
            }
        }
    }

    /// Plays one step.
    ///
    /// # Errors
    /// What did not hold.
    pub async fn play(&mut self, step: Step) -> anyhow::Result<Told> {
        match step {
            Step::SignIn => self.sign_in().await,
            Step::ChooseAliases => self.choose_aliases().await,
            Step::RegisterKeys => self.register_keys().await,
            Step::BefriendCarol => self.befriend_carol().await,
            Step::Invite => self.invite().await,
            Step::Accept => self.accept().await,
            Step::CompareSafetyNumbers => self.compare_safety_numbers().await,
            Step::Reset => self.reset().await,
            Step::ShowPending => self.show_pending().await,
            Step::RegisterNewKeys => self.register_new_keys().await,
            Step::StopBobsNode => self.stop_bobs_node().await,
            Step::Flush => self.flush().await,
            Step::StartBobsNode => self.start_bobs_node().await,
            Step::WatchRetry => self.watch_retry().await,
            Step::CheckBob => self.check_bob().await,
        }
    }

    async fn sign_in(&mut self) -> anyhow::Result<Told> {
        for person in [&mut self.alice, &mut self.bob] {
            person.sign_in(FIRST_ADMINISTRATOR).await?;
            let current = person.client.current_session().await?.context("a session")?;
            ensure!(current.user.email == FIRST_ADMINISTRATOR, "the session is the administrator's");
        }
        told(
            "POST /auth/verify, the code from the letter, POST /auth/sessions; at both nodes",
            "201, and a session of 30 days each",
        )
    }

    async fn choose_aliases(&mut self) -> anyhow::Result<Told> {
        for (person, alias) in [(&mut self.alice, "alice"), (&mut self.bob, "bob")] {
            let name = person.client.set_alias(alias).await?;
            person.handle = Some(name.handle);
        }
        told("PATCH /users/me/alias", format!("{} and {}", self.alice.handle()?, self.bob.handle()?))
    }

    async fn register_keys(&mut self) -> anyhow::Result<Told> {
        for person in [&mut self.alice, &mut self.bob] {
            person.new_seed().await?;
        }
        let key = self.alice.signing_key()?.to_base64();
        told(
            "PUT /users/me/keys: what follows from 32 random bytes that no node sees",
            format!("200; alice's is {key}"),
        )
    }

    async fn befriend_carol(&mut self) -> anyhow::Result<Told> {
        let node = &self.bob.node;
        let email = "carol@localhost";
        node.run(&["user", "create", "--email", email, "--first-name", "Carol", "--last-name", "C"]).await?;
        let token = node.run(&["user", "session", "--email", email]).await?;
        let mut carol = Person::of(&node.origin())?;
        carol.set_token(Some(SessionToken::new(token)?));
        let handle = carol.set_alias("carol").await?.handle;
        let seed = MasterSeed::generate(&mut rand::rng());
        carol.register_keys(&seed.signing_secret().public(), &seed.encryption_key(), None).await?;
        let signed = self.bob.signer()?.invite(&handle, self.clock.now(), &mut rand::rng());
        self.bob.client.invite(&handle, &signed).await?;
        let invitation = only(carol.invitations(Direction::Incoming).await?)?;
        let signer = Signer::new(handle.clone(), seed.signing_secret());
        let signed = signer.accept(self.bob.handle()?, self.clock.now(), &mut rand::rng());
        carol.accept_invitation(&invitation.id, &signed).await?;
        self.carol = Some(handle);
        told(
            "vellum user create, vellum user session; POST /friends/invite, POST …/accept",
            "friends on one node",
        )
    }

    async fn invite(&mut self) -> anyhow::Result<Told> {
        let bob = self.bob.handle()?.clone();
        let signed = self.alice.signer()?.invite(&bob, self.clock.now(), &mut rand::rng());
        let invitation = self.alice.client.invite(&bob, &signed).await?;
        ensure!(invitation.to_handle == bob, "the invitation is for bob");
        told("POST /friends/invite, with what alice's device signed", "200; the envelope is with bob's node")
    }

    async fn accept(&mut self) -> anyhow::Result<Told> {
        let alice = self.alice.handle()?.clone();
        // If a node was killed while the invitation was on its way, it comes with the next attempt.
        let invitation = self.bob.await_invitation(&alice).await?;
        let signed = self.bob.signer()?.accept(&alice, self.clock.now(), &mut rand::rng());
        self.bob.client.accept_invitation(&invitation, &signed).await?;
        ensure!(self.bob.friend(&alice).await?.is_some(), "bob has alice as a friend");
        let bob = self.bob.handle()?.clone();
        self.alice.await_friend(&bob).await?;
        told("POST /friends/invitations/{id}/accept", "200; each is in the other's list")
    }

    async fn compare_safety_numbers(&mut self) -> anyhow::Result<Told> {
        let (alice, bob) = (self.alice.handle()?.clone(), self.bob.handle()?.clone());
        let bob_as_alice_knows = self.alice.friend(&bob).await?.context("bob in alice's list")?;
        let alice_as_bob_knows = self.bob.friend(&alice).await?.context("alice in bob's list")?;
        let hers = safety_number(&self.alice.signing_key()?, &bob_as_alice_knows.friend_signing_key);
        let his = safety_number(&self.bob.signing_key()?, &alice_as_bob_knows.friend_signing_key);
        ensure!(hers == his, "the numbers differ: {hers} and {his}");
        self.safety_number = Some(hers.clone());
        told("GET /friends, at both nodes", format!("both compute {hers}"))
    }

    async fn reset(&mut self) -> anyhow::Result<Told> {
        self.bob_before = Some(self.bob.client.identity().await?);
        let pending = self.alice.client.reset_identity().await?;
        ensure!(pending == 1, "one revocation is pending, not {pending}");
        let identity = self.alice.client.identity().await?;
        ensure!(identity.signing_key.is_none() && identity.km_version.get() == 1, "her keys are gone");
        ensure!(identity.alias.is_some(), "her alias stays");
        ensure!(self.alice.client.friends().await?.is_empty(), "her friends are gone");
        told(
            "POST /users/me/identity/reset {\"confirm\":\"erase-all-my-data\"}",
            format!("200; pendingRevocations: {pending}"),
        )
    }

    async fn show_pending(&mut self) -> anyhow::Result<Told> {
        let row = only(self.alice.client.pending_revocations().await?)?;
        ensure!(row.peer_handle == *self.bob.handle()?, "it is for bob");
        ensure!(row.state == RevocationState::AwaitingSignature, "it waits for her signature");
        told("GET /users/me/revocations/pending", format!("{}: awaiting_signature", row.peer_handle))
    }

    async fn register_new_keys(&mut self) -> anyhow::Result<Told> {
        let before = self.alice.signing_key()?;
        self.alice.new_seed().await?;
        let after = self.alice.signing_key()?;
        ensure!(before != after, "the new keys differ");
        let number = safety_number(&after, &self.bob.signing_key()?);
        ensure!(Some(&number) != self.safety_number.as_ref(), "and so does the safety number");
        told(
            "PUT /users/me/keys, from a new seed",
            format!("200; the safety number with bob would be {number}"),
        )
    }

    async fn stop_bobs_node(&mut self) -> anyhow::Result<Told> {
        self.bob.node.stop().await?;
        told("SIGTERM to bob's node", "it stopped, exit status 0")
    }

    async fn flush(&mut self) -> anyhow::Result<Told> {
        let bob = self.bob.handle()?.clone();
        let signed = self.alice.signer()?.revoke(&bob, self.clock.now(), &mut rand::rng());
        let result =
            only(self.alice.client.flush_revocations(&[FlushItem { peer_handle: bob, signed }]).await?)?;
        ensure!(!result.delivered, "nobody is there to deliver to");
        ensure!(result.state == Some(RevocationState::Queued), "the row is queued, not {:?}", result.state);
        let error = result.error.context("a reason")?;
        let next = result.next_attempt_at.context("the next attempt's time")?;
        told(
            "POST /users/me/revocations/flush, one item signed with the new key",
            format!("queued: {error}; next attempt at {}", next.as_str()),
        )
    }

    async fn start_bobs_node(&mut self) -> anyhow::Result<Told> {
        self.bob.node.start().await?;
        told(
            "bob's node is started on the same folder and port",
            format!("it listens as {}", self.bob.node.domain()),
        )
    }

    async fn watch_retry(&mut self) -> anyhow::Result<Told> {
        let began = self.clock.now();
        loop {
            let rows = self.alice.client.pending_revocations().await?;
            let waited = self.clock.now().since(began);
            let Some(row) = rows.first() else {
                return told(
                    "nothing: alice's node tries again by itself",
                    format!("delivered after {waited} ms; nothing is pending"),
                );
            };
            if waited > i64::try_from(ARRIVAL.as_millis())? {
                bail!("it has not arrived: {:?}, {:?}", row.state, row.last_error);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn check_bob(&mut self) -> anyhow::Result<Told> {
        let friends = self.bob.client.friends().await?;
        let handles: Vec<&Handle> = friends.iter().map(|friend| &friend.friend_handle).collect();
        let carol = self.carol.as_ref().context("carol")?;
        ensure!(handles == [carol], "bob's friends are {handles:?}, not only carol");
        let identity = self.bob.client.identity().await?;
        ensure!(Some(&identity) == self.bob_before.as_ref(), "bob's identity is as before");
        ensure!(self.bob.client.pending_revocations().await?.is_empty(), "bob has nothing pending");
        told(
            "GET /friends and GET /users/me/identity, at bob's node",
            "carol is his only friend; his keys, alias and version are as before",
        )
    }
}

fn only<T>(list: Vec<T>) -> anyhow::Result<T> {
    let count = list.len();
    let mut list = list.into_iter();
    match (list.next(), list.next()) {
        (Some(one), None) => Ok(one),
        _ => bail!("one was expected, not {count}"),
    }
}
