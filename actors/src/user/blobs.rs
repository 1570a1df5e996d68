//! Writing and removing personal blobs (`/me/blobs/{type}`).

use futures_util::FutureExt;
use vellum_protocol::KmVersion;
use vellum_store::usage::Usage;
use vellum_store::{Tx, blobs};

use super::key_generation::load_as_shown;
use super::quotas::{Growth, bytes};
use super::{Scope, UserCommand, rolled_back_or};
use crate::Error;

/// What the client believes to be stored, where it says so: two devices do not overwrite each other
/// unknowingly then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// It does not say.
    Anything,
    /// Nothing.
    Absent,
    /// Something.
    Present,
    /// This revision.
    Revision(i64),
    /// One of these revisions.
    OneOf(Vec<i64>),
    /// None of these revisions: another one, or nothing.
    NoneOf(Vec<i64>),
}

impl Expectation {
    fn holds(&self, stored: Option<i64>) -> bool {
        match self {
            Self::Anything => true,
            Self::Absent => stored.is_none(),
            Self::Present => stored.is_some(),
            Self::Revision(revision) => stored == Some(*revision),
            Self::OneOf(revisions) => stored.is_some_and(|stored| revisions.contains(&stored)),
            Self::NoneOf(revisions) => stored.is_none_or(|stored| !revisions.contains(&stored)),
        }
    }
}

/// Writes a blob.
#[derive(Clone, Debug)]
pub struct PutBlob {
    /// Which.
    pub blob_type: String,
    /// The ciphertext.
    pub encrypted_blob: String,
    /// A nonce beside it, for old clients.
    pub nonce: String,
    /// The version of the keys that it is sealed under, as the client says; `None`: the present
    /// one. What a session writes is of the present one in any case: that is what it was shown, and
    /// old clients always say 1.
    pub sealed_under: Option<KmVersion>,
    /// What the client believes to be stored.
    pub expected: Expectation,
}

impl UserCommand for PutBlob {
    /// The blob's new revision.
    type Output = i64;
    const NAME: &'static str = "put_blob";

    async fn run(self, scope: Scope) -> Result<i64, Error> {
        let node = scope.node.clone();
        node.store.write(move |tx| async move { self.put(tx, &scope).await }.boxed()).await
    }
}

impl PutBlob {
    async fn put(self, tx: &mut Tx, scope: &Scope) -> Result<i64, Error> {
        let user = &scope.user;
        let current = load_as_shown(tx, scope).await?.identity.km_version;
        let said = self.sealed_under.unwrap_or(current);
        if said > current {
            let future = Error::FutureKmVersion { current };
            return Err(rolled_back_or(tx, said, current, future).await?);
        }
        let sealed_under = if scope.origin.session.is_some() { current } else { said };
        let stored = blobs::find(tx, user, &self.blob_type).await?.map(|blob| blob.info.revision);
        if !self.expected.holds(stored) {
            return Err(Error::BlobChanged);
        }
        let growth = Growth::begin(tx, user).await?;
        let PutBlob { blob_type, encrypted_blob, nonce, .. } = &self;
        let revision =
            blobs::put(tx, user, blob_type, encrypted_blob, nonce, sealed_under, scope.now).await?;
        let most = Usage { blobs: 1, bytes: bytes(encrypted_blob), ..Usage::default() };
        growth.check(tx, scope, &most).await?;
        Ok(revision)
    }
}

/// Removes a blob; it may be gone already. A device with older keys removes nothing: what it cannot
/// open it may take for broken.
#[derive(Debug)]
pub struct DeleteBlob {
    /// Which.
    pub blob_type: String,
    /// What the client believes to be stored.
    pub expected: Expectation,
}

impl UserCommand for DeleteBlob {
    type Output = ();
    const NAME: &'static str = "delete_blob";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    let user = load_as_shown(tx, &scope).await?.id;
                    let stored =
                        blobs::find(tx, &user, &self.blob_type).await?.map(|blob| blob.info.revision);
                    if !self.expected.holds(stored) {
                        return Err(Error::BlobChanged);
                    }
                    blobs::delete(tx, &user, &self.blob_type).await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }
}
