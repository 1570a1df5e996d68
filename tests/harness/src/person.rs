//! A person and their device: what it knows, what it asks of its node, and what it makes of the answers. A request
//! whose answer does not come leaves two possible states; the device reads again before it does anything more, and the
//! node must show one of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use vellum_client::http::{Method, NameChange, ProfileChange};
use vellum_client::{
    Binding, ClientError, MasterSeed, NodeClient, Problem, SealedData, SessionToken, SignedFields, Signer,
};
use vellum_protocol::{Handle, KmVersion, UnixMillis};

use crate::fate::{Fate, TOO_SLOW};
use crate::ledger::{EnvelopeName, Invariant, Ledger};
use crate::letters::sign_in;
use crate::plan::NODES;
use crate::world::World;

/// Names of blobs.
const BLOBS: [&str; 2] = ["notes", "places"];
/// For a node to answer again after what was done to it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Keys as the device has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    version: KmVersion,
    seed: [u8; 32],
}

impl Keys {
    fn seed(&self) -> MasterSeed {
        MasterSeed::from_bytes(self.seed)
    }
}

/// A second device of somebody, which stayed signed in and hears nothing of what the first one
/// does.
struct SecondDevice {
    client: NodeClient,
    /// The keys that it has read last.
    seen: Option<Keys>,
    /// Whether the next blob is its turn.
    is_next: bool,
}

/// All that the node is to keep for somebody, apart from relationships.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    keys: Option<Keys>,
    blobs: BTreeMap<&'static str, String>,
    name: Option<String>,
}

/// What a node shows of it.
#[derive(Debug)]
struct Shown {
    signing_key: Option<String>,
    version: KmVersion,
    name: Option<String>,
    /// Ciphertext and version by type.
    blobs: BTreeMap<String, (String, KmVersion)>,
}

/// Somebody with an account.
pub struct Person {
    /// Their number in the plan.
    pub index: usize,
    /// Their node.
    pub node: usize,
    /// Their name in the network.
    pub handle: Handle,
    /// Their device's connection.
    pub client: NodeClient,
    /// Whether something was asked in this round whose outcome is unknown.
    pub unsure: bool,
    /// Whether something of theirs was changed since the node's database was copied.
    pub changed: bool,
    /// Whether their node has lost what they had done; nothing is expected any more.
    pub lost: bool,
    id: String,
    email: String,
    letters: PathBuf,
    /// How much their device's clock is behind.
    behind: i64,
    state: State,
    possible: Vec<State>,
    ended: Vec<SessionToken>,
    second: Option<SecondDevice>,
}

impl Person {
    /// Makes an account with alias and keys.
    ///
    /// # Errors
    /// When the node does not let them: there are no faults yet.
    pub async fn set_up(world: &World, index: usize, history: u64) -> anyhow::Result<Self> {
        let node = index % NODES;
        let (address, folder) = {
            let of = world.nodes[node].read().await;
            (of.address(), of.process.folder().to_owned())
        };
        let alias = format!("p{index}_{history:x}");
        let email = format!("{alias}@people.example");
        let mut client = NodeClient::new(&address)?;
        let letters = folder.join("outbox");
        let id = sign_in(world, node, &letters, &mut client, &email).await?;
        let handle = client.set_alias(&alias).await?.handle;
        let seed = MasterSeed::generate(&mut rand::rng());
        let version =
            client.register_keys(&seed.signing_secret().public(), &seed.encryption_key(), None).await?;
        remove_collections(&client).await?;
        let keys = Some(Keys { version, seed: *seed.expose_bytes() });
        // Behind every node, by less than a node takes for stale.
        let behind = 70_000 + i64::try_from(index % 10)? * 9_000;
        let state = State { keys, ..State::default() };
        Ok(Self {
            index,
            node,
            handle,
            client,
            unsure: false,
            changed: true,
            lost: false,
            id,
            email,
            letters,
            behind,
            state,
            possible: Vec::new(),
            ended: Vec::new(),
            second: None,
        })
    }

    /// Whether they can do something now: they know where they stand.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.unsure && !self.lost && self.state.keys.is_some()
    }

    /// The time by their device.
    #[must_use]
    pub fn now(&self, world: &World) -> UnixMillis {
        world.now().plus_millis(-self.behind)
    }

    /// Whoever signs in their name; `None` without keys.
    #[must_use]
    pub fn signer(&self) -> Option<Signer> {
        let keys = self.state.keys.as_ref()?;
        Some(Signer::new(self.handle.clone(), keys.seed().signing_secret()))
    }

    /// Notes in the ledger what the device is about to give to its node.
    pub fn signs(&self, ledger: &Ledger, to: &Handle, signed: &SignedFields, is_revocation: bool) {
        let envelope = EnvelopeName {
            from: self.handle.to_string(),
            to: to.to_string(),
            nonce: signed.nonce.clone(),
            signature: signed.signature.to_base64(),
        };
        ledger.signs(envelope, is_revocation);
    }

    /// Changes the name.
    pub async fn rename(&mut self, world: &World, name: String) {
        let change = ProfileChange { first_name: NameChange::Set(name.clone()), ..ProfileChange::default() };
        let fate = Fate::of(self.client.change_profile(&change).await, &world.ledger);
        let next = State { name: Some(name), ..self.state.clone() };
        self.settle(world, "a change of the name", fate, next);
    }

    /// Writes a blob, sealed under the present keys. Where there are two devices they take turns.
    pub async fn write(&mut self, world: &World, blob: usize, content: String) {
        let Some(keys) = self.state.keys.clone() else { return };
        let blob = BLOBS[blob % BLOBS.len()];
        let Ok(sealed) = self.seal(&keys, blob, &content) else { return };
        let body = json!({ "encryptedBlob": sealed, "kmVersion": keys.version.get() });
        let path = format!("/me/blobs/{blob}");
        let turn = self.second.as_mut().is_some_and(|second| {
            second.is_next = !second.is_next;
            !second.is_next
        });
        let fate = match self.second.take_if(|_| turn) {
            Some(second) => self.write_by_second(world, second, &keys, &path, &body).await,
            None => self.ask(world, Method::PUT, &path, Some(&body)).await,
        };
        let mut next = self.state.clone();
        next.blobs.insert(blob, content);
        self.settle(world, "a blob", fate, next);
    }

    /// The second device writes. If it has missed a change of the keys it must be stopped; it reads
    /// them, then, and goes on.
    async fn write_by_second(
        &mut self,
        world: &World,
        mut second: SecondDevice,
        keys: &Keys,
        path: &str,
        body: &Value,
    ) -> Fate<Value> {
        let missed = second.seen.as_ref() != Some(keys);
        let mut fate = Self::ask_by(&second.client, world, Method::PUT, path, Some(body)).await;
        if missed {
            let stopped = match &fate {
                Fate::Refused(why) => why.is("stale_km_version"),
                Fate::Done(_) => false,
                Fate::Unknown => true,
            };
            world.ledger.check(Invariant::NoMixedKeys, stopped, || {
                format!(
                    "p{}: a device that had missed a change of the keys was answered {fate:?}",
                    self.index
                )
            });
            if matches!(fate, Fate::Refused(_)) {
                // Without an answer it is not used any more: what its session was shown is not
                // known.
                let Some(identity) = Fate::of(second.client.identity().await, &world.ledger).done() else {
                    return Fate::Unknown;
                };
                world.ledger.check(Invariant::NothingLost, identity.km_version == keys.version, || {
                    format!("p{}: the second device reads version {}", self.index, identity.km_version)
                });
                fate = Self::ask_by(&second.client, world, Method::PUT, path, Some(body)).await;
                second.seen = Some(keys.clone());
            }
        }
        self.second = Some(second);
        fate
    }

    /// Rotates on one device. Tells whether the keys are other ones now, or may be.
    pub async fn rotate(&mut self, world: &World) {
        let Some((body, next)) = self.rotation() else { return };
        let fate = self.commit(world, &body).await;
        self.settle(world, "a rotation", fate, next);
    }

    /// Rotates on two devices that both know the present version: one may win.
    pub async fn race(&mut self, world: &World) {
        let (Some((one, first)), Some((other, second))) = (self.rotation(), self.rotation()) else { return };
        let fates = tokio::join!(self.commit(world, &one), self.commit(world, &other));
        self.changed = true;
        let both = matches!(fates, (Fate::Done(_), Fate::Done(_)));
        world.ledger.check(Invariant::NoMixedKeys, !both, || {
            format!("p{}: two rotations from the same version were both acknowledged", self.index)
        });
        match fates {
            (Fate::Done(_), _) => self.state = first,
            (_, Fate::Done(_)) => self.state = second,
            (Fate::Refused(why), Fate::Refused(_)) => {
                let seen = format!("p{}: of two rotations both were refused: {why}", self.index);
                world.ledger.broken(Invariant::NoStrangeRefusal, seen);
            }
            (Fate::Unknown, Fate::Refused(_)) => self.may_be(vec![first]),
            (Fate::Refused(_), Fate::Unknown) => self.may_be(vec![second]),
            (Fate::Unknown, Fate::Unknown) => self.may_be(vec![self.state.clone(), first, second]),
        }
    }

    /// Erases all and registers keys of a new seed.
    pub async fn reset(&mut self, world: &World) -> Fate<()> {
        let erased = Fate::of(self.client.reset_identity().await.map(drop), &world.ledger);
        let empty = State { name: self.state.name.clone(), ..State::default() };
        match &erased {
            Fate::Done(()) => {
                self.changed = true;
                self.state = empty;
                self.register(world).await;
            }
            Fate::Unknown => self.may_be(vec![self.state.clone(), empty]),
            Fate::Refused(why) => self.refused(world, "a reset", why),
        }
        erased
    }

    /// Registers keys of a new seed, where there are none.
    async fn register(&mut self, world: &World) {
        let seed = MasterSeed::generate(&mut rand::rng());
        let answer =
            self.client.register_keys(&seed.signing_secret().public(), &seed.encryption_key(), None).await;
        let keys = |version| Some(Keys { version, seed: *seed.expose_bytes() });
        match Fate::of(answer, &world.ledger) {
            Fate::Done(version) => self.state.keys = keys(version),
            Fate::Refused(why) => self.refused(world, "the registration of keys", &why),
            Fate::Unknown => {
                let first = KmVersion::new(1).and_then(keys);
                let registered = State { keys: first, ..self.state.clone() };
                self.may_be(vec![self.state.clone(), registered]);
            }
        }
    }

    /// Signs out, and in again.
    pub async fn renew_session(&mut self, world: &World) {
        let Some(token) = self.client.token().cloned() else { return };
        self.changed = true;
        if self.second.is_none() && self.index.is_multiple_of(2) {
            // The device that was used until now stays signed in beside the new one.
            let (client, seen) = (self.client.clone(), self.state.keys.clone());
            self.second = Some(SecondDevice { client, seen, is_next: true });
            return self.sign_in(world).await;
        }
        match Fate::of(self.client.sign_out().await, &world.ledger) {
            Fate::Done(()) => self.ended.push(token),
            Fate::Refused(why) => self.refused(world, "signing out", &why),
            // The old session is not used any more; whether it lives is not known.
            Fate::Unknown => {}
        }
        self.sign_in(world).await;
    }

    async fn sign_in(&mut self, world: &World) {
        self.client.set_token(None);
        // Without a session nothing can be done; the end of the round tries again.
        let signed_in = sign_in(world, self.node, &self.letters, &mut self.client, &self.email).await;
        self.unsure |= signed_in.is_err();
    }

    /// Reads again what the node has, which must be what it may be.
    ///
    /// # Errors
    /// When the node does not answer for long.
    pub async fn look_again(&mut self, world: &World) -> anyhow::Result<()> {
        let end = tokio::time::Instant::now() + PATIENCE;
        let shown = loop {
            let looked = async {
                if self.client.token().is_none() {
                    sign_in(world, self.node, &self.letters, &mut self.client, &self.email).await?;
                }
                self.shown().await
            };
            match looked.await {
                Ok(shown) => break shown,
                Err(error) if tokio::time::Instant::now() > end => {
                    return Err(error.context("the node does not recover"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let possible = if self.possible.is_empty() {
            vec![self.state.clone()]
        } else {
            std::mem::take(&mut self.possible)
        };
        let judged: Vec<_> = possible.iter().map(|state| self.compare(&shown, state)).collect();
        for invariant in [Invariant::NothingLost, Invariant::NoMixedKeys] {
            world.ledger.count("check", invariant.to_string());
        }
        if let Some(fits) = judged.iter().position(Result::is_ok) {
            self.state = possible[fits].clone();
        } else if let Some(Err((invariant, seen))) = judged.into_iter().next() {
            world.ledger.broken(invariant, format!("p{}: {seen}", self.index));
        }
        self.unsure = false;
        if self.state.keys.is_none() {
            self.register(world).await;
        }
        Ok(())
    }

    /// Whether sessions that were ended are over.
    pub async fn check_sessions(&self, world: &World) {
        for token in &self.ended {
            let mut client = self.client.clone();
            client.set_token(Some(token.clone()));
            if let Ok(session) = client.current_session().await {
                world.ledger.check(Invariant::SessionsEnd, session.is_none(), || {
                    format!("p{}: a session works although signing out was acknowledged", self.index)
                });
            }
        }
    }

    /// Whether the node, which was put back, hides that it has older keys than the device knows.
    pub async fn check_rolled_back(&self, world: &World) {
        let Some(keys) = &self.state.keys else { return };
        let (Ok(shown), mut client) = (self.client.km_version().await, self.client.clone()) else { return };
        if shown >= keys.version {
            return;
        }
        client.set_known_version(Some(keys.version));
        let answer = client.identity().await;
        let refused = answer.as_ref().is_err_and(ClientError::is_rolled_back);
        world.ledger.check(Invariant::RestoreRecognised, refused, || {
            format!(
                "p{} knows version {} and is shown {shown} without a word: {answer:?}",
                self.index, keys.version
            )
        });
    }

    /// Makes a request, and gives the answer.
    pub async fn ask(&self, world: &World, method: Method, path: &str, body: Option<&Value>) -> Fate<Value> {
        Self::ask_by(&self.client, world, method, path, body).await
    }

    async fn ask_by(
        client: &NodeClient,
        world: &World,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Fate<Value> {
        match client.request_json(method, path, body).await {
            Ok((200..300, answer)) => Fate::Done(answer),
            Ok((status @ 400..500, answer)) if status != TOO_SLOW => {
                let code = answer["code"].as_str().map(str::to_owned);
                let message = answer["message"].as_str().map(str::to_owned);
                let members = answer.as_object().cloned().unwrap_or_default();
                Fate::Refused(Box::new(Problem {
                    status,
                    code,
                    message,
                    detail: None,
                    errors: Vec::new(),
                    retry_after: None,
                    members,
                }))
            }
            Ok(_) => Fate::Unknown,
            Err(error) => Fate::of(Err(error), &world.ledger),
        }
    }

    fn settle<T>(&mut self, world: &World, what: &str, fate: Fate<T>, next: State) {
        match fate {
            Fate::Done(_) => {
                self.changed = true;
                self.state = next;
            }
            Fate::Refused(why) => self.refused(world, what, &why),
            Fate::Unknown => self.may_be(vec![self.state.clone(), next]),
        }
    }

    fn may_be(&mut self, possible: Vec<State>) {
        self.possible = possible;
        self.unsure = true;
        self.changed = true;
    }

    fn refused(&self, world: &World, what: &str, why: &Problem) {
        world.ledger.broken(
            Invariant::NoStrangeRefusal,
            format!("p{}: {what} was refused: {why} {:?}", self.index, why.members),
        );
    }

    /// The body of a rotation from what the device knows, and what comes of it.
    fn rotation(&self) -> Option<(Value, State)> {
        let old = self.state.keys.as_ref()?;
        let seed = MasterSeed::generate(&mut rand::rng());
        let keys = Keys { version: old.version.next(), seed: *seed.expose_bytes() };
        let mut blobs = Vec::new();
        for (blob, content) in &self.state.blobs {
            blobs.push(json!({ "blobType": blob, "encryptedBlob": self.seal(&keys, blob, content).ok()? }));
        }
        let body = json!({
            "expectedCurrent": old.version.get(),
            "signingKey": seed.signing_secret().public().to_base64(),
            "encryptionKey": seed.encryption_key().to_base64(),
            "blobs": blobs,
            "requireComplete": true,
        });
        Some((body, State { keys: Some(keys), ..self.state.clone() }))
    }

    async fn commit(&self, world: &World, body: &Value) -> Fate<Value> {
        self.ask(world, Method::POST, "/users/me/km-version/commit", Some(body)).await
    }

    fn seal(&self, keys: &Keys, blob: &str, content: &str) -> anyhow::Result<String> {
        let binding = Binding::personal_blob(&self.id, blob);
        Ok(keys.seed().personal_key().seal(content.as_bytes(), &binding, &mut rand::rng())?.to_base64())
    }

    fn open(&self, keys: &Keys, blob: &str, sealed: &str) -> anyhow::Result<String> {
        let binding = Binding::personal_blob(&self.id, blob);
        let opened = keys.seed().personal_key().open(&SealedData::parse(sealed)?, &binding)?;
        Ok(String::from_utf8(opened.to_vec())?)
    }

    async fn shown(&self) -> anyhow::Result<Shown> {
        let identity = self.client.identity().await?;
        let session = self.client.current_session().await?.context("a session")?;
        let mut blobs = BTreeMap::new();
        for blob in BLOBS {
            let path = format!("/me/blobs/{blob}");
            match self.client.request_json(Method::GET, &path, None).await? {
                (204, _) => {}
                (200, found) => {
                    let version =
                        found["kmVersion"].as_i64().and_then(KmVersion::new).context("a version")?;
                    let sealed = found["encryptedBlob"].as_str().context("a ciphertext")?.to_owned();
                    blobs.insert(blob.to_owned(), (sealed, version));
                }
                (status, answer) => bail!("{path} answered {status}: {answer}"),
            }
        }
        Ok(Shown {
            signing_key: identity.signing_key.map(|key| key.to_base64()),
            version: identity.km_version,
            name: session.user.first_name,
            blobs,
        })
    }

    fn compare(&self, shown: &Shown, state: &State) -> Result<(), (Invariant, String)> {
        let lost = |what: String| Err((Invariant::NothingLost, what));
        let key = state.keys.as_ref().map(|keys| keys.seed().signing_secret().public().to_base64());
        if shown.signing_key != key {
            return lost(format!("the node has the key {:?}, the device {key:?}", shown.signing_key));
        }
        if let Some(keys) = &state.keys
            && shown.version != keys.version
        {
            return lost(format!("the node is at version {}, the device at {}", shown.version, keys.version));
        }
        if shown.name != state.name {
            return lost(format!("the name is {:?}, not {:?}", shown.name, state.name));
        }
        if !shown.blobs.keys().eq(state.blobs.keys()) {
            return lost(format!("there are blobs {:?}, not {:?}", shown.blobs.keys(), state.blobs.keys()));
        }
        for (blob, (sealed, version)) in &shown.blobs {
            let Some(keys) = state.keys.as_ref().filter(|keys| keys.version == *version) else {
                let seen = format!(
                    "the blob {blob} is sealed under version {version}, which is not the present one"
                );
                return Err((Invariant::NoMixedKeys, seen));
            };
            match self.open(keys, blob, sealed) {
                Err(error) => {
                    let seen =
                        format!("the blob {blob} does not open with the keys of its version: {error:#}");
                    return Err((Invariant::NoMixedKeys, seen));
                }
                Ok(content) if Some(&content) != state.blobs.get(blob.as_str()) => {
                    return lost(format!(
                        "the blob {blob} holds {content:?}, not {:?}",
                        state.blobs.get(blob.as_str())
                    ));
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

/// An account that signs in for the first time is given a collection; here blobs stand for all that is sealed.
async fn remove_collections(client: &NodeClient) -> anyhow::Result<()> {
    let (_, listed) = client.request_json(Method::GET, "/library/collections", None).await?;
    let collections = listed.as_array().or_else(|| listed["collections"].as_array());
    for collection in collections.into_iter().flatten() {
        let id = collection["id"].as_str().context("a collection's id")?;
        let (status, answer) =
            client.request_json(Method::DELETE, &format!("/library/collections/{id}"), None).await?;
        ensure!(status < 300, "a collection could not be removed: {status} {answer}");
    }
    Ok(())
}
