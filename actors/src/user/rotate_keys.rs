//! Rotating the keys (`POST /users/me/km-version/commit`): new keys, and everything that was sealed under
//! the old ones sealed anew, in one transaction. Of any number of commits with the same expectation one
//! wins; the others find another version and change nothing.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::FutureExt;
use vellum_protocol::KmVersion;
use vellum_store::slots::{self, Wrapped};
use vellum_store::usage::Usage;
use vellum_store::users::{self, Keys};
use vellum_store::{CollectionId, Tx, UserId, blobs, collections, outbox};

use super::key_generation::knows_its_own;
use super::quotas::{Growth, bytes};
use super::{Event, Scope, UserCommand, load, rolled_back_or};
use crate::error::{Error, Missing};
use crate::relationships::compensate;

/// A blob, sealed under the new keys.
#[derive(Debug, Clone)]
pub struct ResealedBlob {
    /// Which.
    pub blob_type: String,
    /// The ciphertext.
    pub encrypted_blob: String,
}

/// A collection's metadata, sealed under the new keys.
#[derive(Debug, Clone)]
pub struct ResealedCollection {
    /// Which.
    pub id: CollectionId,
    /// The sealed metadata.
    pub metadata_encrypted: String,
}

/// A rotation.
#[derive(Clone, Debug)]
pub struct RotateKeys {
    /// The version that the client rotates from.
    pub expected: KmVersion,
    /// The new keys.
    pub keys: Keys,
    /// Blobs sealed anew.
    pub blobs: Vec<ResealedBlob>,
    /// Collections sealed anew.
    pub collections: Vec<ResealedCollection>,
    /// Slots filled anew.
    pub slots: Vec<Wrapped>,
    /// Slots of lost devices, which are emptied.
    pub drop_slots: Vec<String>,
    /// Whether everything that the account holds must be here.
    pub require_complete: bool,
}

/// A rotation that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The version now.
    pub km_version: KmVersion,
    /// Collections that are not, or no longer, the user's.
    pub ignored_collections: Vec<CollectionId>,
    /// Slots of credentials that are not, or no longer, the user's.
    pub ignored_slots: Vec<String>,
}

impl UserCommand for RotateKeys {
    type Output = Rotated;
    const NAME: &'static str = "commit";

    async fn run(self, scope: Scope) -> Result<Rotated, Error> {
        if self.keys.signing.as_bytes() == self.keys.encryption.as_bytes() {
            return Err(Error::EqualKeys);
        }
        let (node, rotation) = (scope.node.clone(), Arc::new(self));
        node.store.write(move |tx| async move { rotation.commit(tx, &scope).await }.boxed()).await
    }
}

impl RotateKeys {
    async fn commit(&self, tx: &mut Tx, scope: &Scope) -> Result<Rotated, Error> {
        let next = self.expected.next();
        // First of all the swap: whoever comes second stops here, with nothing written.
        let swapped = users::swap_keys(tx, &scope.user, self.expected, &self.keys, next, scope.now).await?;
        let Some(swapped) = swapped else {
            let current = load(tx, &scope.user).await?.identity.km_version;
            let conflict = Error::RotationConflict { current };
            return Err(rolled_back_or(tx, self.expected, current, conflict).await?);
        };
        // The version alone does not tell: it begins anew with a reset.
        if !knows_its_own(tx, scope, swapped.generation.previous(), swapped.generation).await? {
            return Err(Error::RotationConflict { current: self.expected });
        }
        let growth = Growth::begin(tx, &scope.user).await?;
        for credential in &self.drop_slots {
            slots::delete(tx, &scope.user, credential).await?;
        }
        if self.require_complete {
            let missing = self.missing(tx, &scope.user).await?;
            if !missing.is_empty() {
                return Err(Error::IncompleteRotation(Box::new(missing)));
            }
        }
        let sealed: Vec<_> =
            self.blobs.iter().map(|blob| (blob.blob_type.as_str(), blob.encrypted_blob.as_str())).collect();
        let revisions = blobs::put_all(tx, &scope.user, &sealed, "", next, scope.now).await?;
        let ignored_collections = self.reseal_collections(tx, scope, next).await?;
        let ignored_slots = self.refill_slots(tx, scope, next).await?;
        growth.check_rotation(tx, scope, &self.most_added(&revisions)).await?;
        // What the old key signed verifies nowhere any more.
        if swapped.anything_queued {
            for message in outbox::withdraw_signatures(tx, &scope.user).await? {
                compensate(tx, &message, scope.now).await?;
            }
        }
        scope.audit(tx, Event::Rotated).await?;
        Ok(Rotated { km_version: next, ignored_collections, ignored_slots })
    }

    /// What it adds at most. `revisions` are those that the blobs have now.
    fn most_added(&self, revisions: &[i64]) -> Usage {
        let blobs = self.blobs.iter().map(|blob| bytes(&blob.encrypted_blob));
        let collections = self.collections.iter().map(|one| bytes(&one.metadata_encrypted));
        let slots = self.slots.iter().map(|slot| bytes(&slot.wrapped_km));
        let count = |items: usize| u64::try_from(items).unwrap_or(u64::MAX);
        Usage {
            bytes: blobs.chain(collections).chain(slots).sum(),
            blobs: count(revisions.iter().filter(|revision| **revision == 1).count()),
            slots: count(self.slots.len()),
            ..Usage::default()
        }
    }

    async fn reseal_collections(
        &self,
        tx: &mut Tx,
        scope: &Scope,
        next: KmVersion,
    ) -> Result<Vec<CollectionId>, Error> {
        let resealed: Vec<_> =
            self.collections.iter().map(|one| (&one.id, one.metadata_encrypted.as_str())).collect();
        let found = collections::reseal_all(tx, &scope.user, &resealed, next, scope.now).await?;
        let found: HashSet<&CollectionId> = found.iter().collect();
        Ok(self.collections.iter().map(|one| &one.id).filter(|id| !found.contains(id)).cloned().collect())
    }

    async fn refill_slots(&self, tx: &mut Tx, scope: &Scope, next: KmVersion) -> Result<Vec<String>, Error> {
        let filled = slots::put_all(tx, &scope.user, &self.slots, next, scope.now).await?;
        let filled: HashSet<&String> = filled.iter().collect();
        Ok(self
            .slots
            .iter()
            .map(|one| &one.credential_id)
            .filter(|id| !filled.contains(id))
            .cloned()
            .collect())
    }

    /// What the account holds and the body does not bring.
    async fn missing(&self, tx: &mut Tx, user: &UserId) -> Result<Missing, Error> {
        let brought: HashSet<&str> = self.blobs.iter().map(|blob| blob.blob_type.as_str()).collect();
        let held = blobs::list(tx, user).await?.into_iter().map(|blob| blob.blob_type);
        let blobs = held.filter(|held| !brought.contains(held.as_str())).collect();
        let brought: HashSet<&str> = self.collections.iter().map(|one| one.id.as_str()).collect();
        let held = collections::list(tx, user).await?.into_iter().map(|one| one.id.to_string());
        let collections = held.filter(|held| !brought.contains(held.as_str())).collect();
        let brought: HashSet<&str> = self.slots.iter().map(|slot| slot.credential_id.as_str()).collect();
        let held = slots::list(tx, user).await?.into_iter().map(|slot| slot.wrapped.credential_id);
        let slots = held.filter(|held| !brought.contains(held.as_str())).collect();
        Ok(Missing { blobs, collections, slots })
    }
}
