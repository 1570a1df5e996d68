//! What an act of a plan is, step by step, as people do it: with their devices, through their nodes. What they learn of
//! the outcome goes into the chronicle.

use std::time::Duration;

use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};
use vellum_client::collection_share::SharedCiphertext;
use vellum_client::http::{Direction, FlushItem, Method, RevocationState};
use vellum_client::signer::{ShareRole, SharedResource};
use vellum_protocol::Handle;

use crate::chronicle::{Chronicle, Deed, Event};
use crate::fate::Fate;
use crate::person::Person;
use crate::plan::Act;
use crate::world::World;

/// For an invitation to arrive, and for both to see a friendship, while nothing is wrong. If it takes longer people go on.
const SOON: Duration = Duration::from_millis(400);
const LOOK: Duration = Duration::from_millis(15);

/// Everybody, and what they have done.
pub struct Scene<'a> {
    /// Where they live.
    pub world: &'a World,
    /// By number; `None` for those who take no part.
    pub people: &'a [Option<Mutex<Person>>],
    /// What they did.
    pub chronicle: &'a Chronicle,
}

impl Scene<'_> {
    /// Somebody, if they take part.
    pub async fn person(&self, index: usize) -> Option<MutexGuard<'_, Person>> {
        match self.people.get(index)? {
            Some(person) => Some(person.lock().await),
            None => None,
        }
    }

    /// Does it. `n` makes what is written one of a kind.
    pub async fn act(&self, act: Act, n: usize) {
        self.world.ledger.count("act", act.word());
        match act {
            Act::Befriend { who, whom } => self.befriend(who, whom).await,
            Act::Unfriend { who, whom, signed } => self.unfriend(who, whom, signed).await,
            Act::Quarrel { who, whom } => {
                self.unfriend(who, whom, true).await;
                self.befriend(who, whom).await;
            }
            Act::Share { who, whom } => self.share(who, whom, n).await,
            Act::Reset { who, flush } => {
                let Some(mut person) = self.ready(who).await else { return };
                let begin = self.world.ledger.moment();
                let erased = person.reset(self.world).await;
                self.tell(who, None, Deed::Resets, begin, &erased);
                self.tell(who, None, Deed::ChangesKeys, begin, &erased);
                if flush && person.is_ready() {
                    self.flush(&mut person).await;
                }
            }
            Act::Flush { who } => {
                if let Some(mut person) = self.ready(who).await {
                    self.flush(&mut person).await;
                }
            }
            Act::Discard { who } => self.discard(who).await,
            Act::Rotate { who } => self.change_keys(who, false).await,
            Act::RaceRotate { who } => self.change_keys(who, true).await,
            Act::Write { who, blob } => {
                if let Some(mut person) = self.ready(who).await {
                    person.write(self.world, blob, format!("content {n}")).await;
                }
            }
            Act::Rename { who } => {
                if let Some(mut person) = self.ready(who).await {
                    person.rename(self.world, format!("Name {n}")).await;
                }
            }
            Act::SignIn { who } => {
                if let Some(mut person) = self.ready(who).await {
                    person.renew_session(self.world).await;
                }
            }
        }
    }

    /// Somebody who can act.
    async fn ready(&self, index: usize) -> Option<MutexGuard<'_, Person>> {
        self.person(index).await.filter(|person| person.is_ready())
    }

    async fn handle(&self, index: usize) -> Option<Handle> {
        Some(self.person(index).await?.handle.clone())
    }

    fn tell<T>(&self, who: usize, whom: Option<usize>, deed: Deed, begin: u64, fate: &Fate<T>) {
        let sure = match fate {
            Fate::Done(_) => true,
            Fate::Unknown => false,
            Fate::Refused(_) => return,
        };
        self.chronicle.add(Event { who, whom, deed, begin, end: self.world.ledger.moment(), sure });
    }

    async fn befriend(&self, who: usize, whom: usize) {
        let (Some(mine), Some(theirs)) = (self.handle(who).await, self.handle(whom).await) else { return };
        if !self.invite(who, whom, &theirs).await {
            return;
        }
        let Some(id) = self.invitation(whom, &mine).await else { return };
        if !self.accept(whom, who, &mine, &id).await {
            return;
        }
        let begin = self.world.ledger.moment();
        if self.both_see(who, whom, &mine, &theirs).await {
            self.tell(who, Some(whom), Deed::SeesFriendship, begin, &Fate::Done(()));
        }
    }

    async fn invite(&self, who: usize, whom: usize, theirs: &Handle) -> bool {
        let Some(mut person) = self.ready(who).await else { return false };
        let Some(signer) = person.signer() else { return false };
        let signed = signer.invite(theirs, person.now(self.world), &mut rand::rng());
        person.signs(&self.world.ledger, theirs, &signed, false);
        let begin = self.world.ledger.moment();
        let fate = Fate::of(person.client.invite(theirs, &signed).await, &self.world.ledger);
        person.changed = true;
        self.tell(who, Some(whom), Deed::Invites, begin, &fate);
        // One that is out already serves as well.
        !matches!(fate, Fate::Refused(why) if !why.is("already_invited"))
    }

    /// The id of an invitation, once it has arrived.
    async fn invitation(&self, whom: usize, from: &Handle) -> Option<String> {
        let end = tokio::time::Instant::now() + SOON;
        while tokio::time::Instant::now() < end {
            let client = self.ready(whom).await?.client.clone();
            let arrived = client.invitations(Direction::Incoming).await.unwrap_or_default();
            if let Some(invitation) = arrived.into_iter().find(|invitation| invitation.from_handle == *from) {
                return Some(invitation.id);
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    async fn accept(&self, who: usize, whom: usize, theirs: &Handle, id: &str) -> bool {
        let Some(mut person) = self.ready(who).await else { return false };
        let Some(signer) = person.signer() else { return false };
        let signed = signer.accept(theirs, person.now(self.world), &mut rand::rng());
        person.signs(&self.world.ledger, theirs, &signed, false);
        let begin = self.world.ledger.moment();
        let fate = Fate::of(person.client.accept_invitation(id, &signed).await, &self.world.ledger);
        person.changed = true;
        self.tell(who, Some(whom), Deed::Accepts, begin, &fate);
        matches!(fate, Fate::Done(()))
    }

    async fn both_see(&self, who: usize, whom: usize, mine: &Handle, theirs: &Handle) -> bool {
        let end = tokio::time::Instant::now() + SOON;
        while tokio::time::Instant::now() < end {
            if self.lists(who, theirs).await && self.lists(whom, mine).await {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    async fn lists(&self, who: usize, friend: &Handle) -> bool {
        let Some(client) = self.person(who).await.map(|person| person.client.clone()) else { return false };
        client.friends().await.is_ok_and(|friends| friends.iter().any(|known| known.friend_handle == *friend))
    }

    async fn unfriend(&self, who: usize, whom: usize, signed: bool) {
        let Some(theirs) = self.handle(whom).await else { return };
        let Some(mut person) = self.ready(who).await else { return };
        let signed = signed.then(|| person.signer()).flatten();
        let signed = signed.map(|signer| signer.revoke(&theirs, person.now(self.world), &mut rand::rng()));
        if let Some(signed) = &signed {
            person.signs(&self.world.ledger, &theirs, signed, true);
        }
        let begin = self.world.ledger.moment();
        let fate = Fate::of(person.client.remove_friend(&theirs, signed.as_ref()).await, &self.world.ledger);
        person.changed = true;
        self.tell(who, Some(whom), Deed::Ends, begin, &fate);
    }

    /// Signs what waits for a signature. A device signs no revocation for a friend of now: it would end the new friendship
    /// on the other side alone.
    async fn flush(&self, person: &mut Person) {
        let (Ok(pending), Ok(friends)) =
            (person.client.pending_revocations().await, person.client.friends().await)
        else {
            return;
        };
        let Some(signer) = person.signer() else { return };
        let mut items = Vec::new();
        for row in pending {
            let waits = matches!(row.state, RevocationState::AwaitingSignature | RevocationState::Rejected);
            if !waits || friends.iter().any(|friend| friend.friend_handle == row.peer_handle) {
                continue;
            }
            let signed = signer.revoke(&row.peer_handle, person.now(self.world), &mut rand::rng());
            person.signs(&self.world.ledger, &row.peer_handle, &signed, true);
            items.push(FlushItem { peer_handle: row.peer_handle, signed });
        }
        if items.is_empty() {
            return;
        }
        let begin = self.world.ledger.moment();
        let fate = Fate::of(person.client.flush_revocations(&items).await, &self.world.ledger);
        person.changed = true;
        for item in &items {
            self.tell(person.index, index_of(&item.peer_handle), Deed::SignsPending, begin, &fate);
        }
        if let Some(results) = fate.done() {
            for result in results {
                let outcome = result.code.unwrap_or_else(|| "taken".to_owned());
                self.world.ledger.count("signed revocation", outcome);
            }
        }
    }

    async fn discard(&self, who: usize) {
        let Some(mut person) = self.ready(who).await else { return };
        let pending = person.client.pending_revocations().await.unwrap_or_default();
        let Some(row) = pending.first() else { return };
        let begin = self.world.ledger.moment();
        let fate = Fate::of(person.client.discard_revocation(&row.peer_handle).await, &self.world.ledger);
        person.changed = true;
        self.tell(who, index_of(&row.peer_handle), Deed::Discards, begin, &fate);
        if matches!(fate, Fate::Done(())) {
            self.world.ledger.discards(person.handle.as_str(), row.peer_handle.as_str());
        }
    }

    async fn change_keys(&self, who: usize, race: bool) {
        let Some(mut person) = self.ready(who).await else { return };
        let begin = self.world.ledger.moment();
        if race {
            person.race(self.world).await;
        } else {
            person.rotate(self.world).await;
        }
        self.tell(who, None, Deed::ChangesKeys, begin, &Fate::<()>::Unknown);
    }

    async fn share(&self, who: usize, whom: usize, n: usize) {
        let Some(theirs) = self.handle(whom).await else { return };
        let Some(mut person) = self.ready(who).await else { return };
        let Some(signer) = person.signer() else { return };
        let resource = SharedResource {
            resource_type: "collection".to_owned(),
            resource_id: format!("resource-{n}"),
            // What it says is between the two.
            ciphertext: SharedCiphertext {
                encrypted_data: "c2VhbGVkIGRhdGE=".into(),
                nonce: "AAAAAAAAAAAAAAAA".into(),
            },
            role: ShareRole::Viewer,
        };
        let signed = signer.share(&theirs, &resource, person.now(self.world), &mut rand::rng());
        person.signs(&self.world.ledger, &theirs, &signed, false);
        let body = json!({
            "recipientHandle": theirs,
            "resourceType": resource.resource_type,
            "resourceId": resource.resource_id,
            "encryptedData": resource.ciphertext.encrypted_data,
            "nonce": resource.ciphertext.nonce,
            "role": "viewer",
            "federationSignature": signed.signature,
            "federationNonce": signed.nonce,
            "federationTimestamp": signed.timestamp,
        });
        let begin = self.world.ledger.moment();
        let fate = person.ask(self.world, Method::POST, "/sharing", Some(&body)).await;
        person.changed = true;
        self.tell(who, Some(whom), Deed::Shares(resource.resource_id), begin, &fate);
    }
}

/// The number of the person with this handle: an alias begins with it.
fn index_of(handle: &Handle) -> Option<usize> {
    handle.as_str().strip_prefix('p')?.split('_').next()?.parse().ok()
}
