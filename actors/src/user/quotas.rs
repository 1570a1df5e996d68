//! How much each user may store. Whoever has more already (the limit was lowered) keeps it, and may
//! shrink it and rotate their keys, but not grow.

use vellum_store::usage::{self, Usage};
use vellum_store::{Tx, UserId};

use super::Scope;
use crate::Error;

/// What a user may store where the operator has not said otherwise.
pub const DEFAULT_QUOTAS: Usage =
    Usage { bytes: 64 * 1024 * 1024, blobs: 200, collections: 1000, slots: 100, shares: 2000 };

/// By how much a rotation that adds no item may exceed the bytes. The same data may be a little
/// longer when it is sealed under new keys, and nobody must be kept from changing theirs; but
/// rotations must not be a way round the quota.
const ROTATION_ALLOWANCE: u64 = 16 * 1024 * 1024;
/// Whoever had more than even that when the quota was set may still rotate, and each item may grow
/// by this much: the newest form of sealed data is so much longer than the oldest, with room to
/// spare. Nobody gets there by rotating.
const ROTATION_GROWTH_PER_ITEM: u64 = 64;

/// What a user stored before a write, which may have to be refused for what it adds.
pub(super) struct Growth {
    before: Usage,
}

impl Growth {
    /// To be called in the transaction of the write, before it.
    pub async fn begin(tx: &mut Tx, user: &UserId) -> Result<Self, Error> {
        Ok(Self { before: usage::of_user(tx, user).await? })
    }

    /// To be called after it. It has added no more than `most`.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`].
    pub async fn check(&self, tx: &mut Tx, scope: &Scope, most: &Usage) -> Result<(), Error> {
        self.check_against(tx, scope, most, 0).await
    }

    /// The same for a rotation.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`].
    pub async fn check_rotation(&self, tx: &mut Tx, scope: &Scope, most: &Usage) -> Result<(), Error> {
        self.check_against(tx, scope, most, ROTATION_ALLOWANCE).await
    }

    /// Where no item was added, so many bytes more are allowed.
    async fn check_against(
        &self,
        tx: &mut Tx,
        scope: &Scope,
        most: &Usage,
        without_items: u64,
    ) -> Result<(), Error> {
        let limits = scope.node.quotas;
        let fits = |((before, most), limit): ((u64, u64), u64)| before.saturating_add(most) <= limit;
        let each = |of: &Usage| [of.bytes, of.blobs, of.collections, of.slots, of.shares];
        if each(&self.before).into_iter().zip(each(most)).zip(each(&limits)).all(fits) {
            return Ok(());
        }
        let (before, after) = (self.before, usage::of_user(tx, &scope.user).await?);
        let refuse = |quota, before: u64, after: u64, limit: u64| {
            let exceeded = after > limit && after > before;
            if exceeded { Err(Error::QuotaExceeded { quota, used: before, limit }) } else { Ok(()) }
        };
        refuse("blobs", before.blobs, after.blobs, limits.blobs)?;
        refuse("collections", before.collections, after.collections, limits.collections)?;
        refuse("slots", before.slots, after.slots, limits.slots)?;
        refuse("shares", before.shares, after.shares, limits.shares)?;
        let adds_items =
            each(&before).into_iter().zip(each(&after)).skip(1).any(|(before, after)| after > before);
        let items: u64 = each(&before).into_iter().skip(1).sum();
        let most = match limits.bytes.saturating_add(without_items) {
            most if before.bytes > most => before.bytes + items * ROTATION_GROWTH_PER_ITEM,
            most => most,
        };
        if !adds_items && without_items > 0 && after.bytes <= most {
            return Ok(());
        }
        refuse("bytes", before.bytes, after.bytes, limits.bytes)
    }
}

/// How many bytes a text adds at most.
pub(super) fn bytes(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}
