//! Writing and removing personal blobs (`/me/blobs/{type}`).

use futures_util::FutureExt;
use vellum_protocol::KmVersion;
use vellum_store::blobs;

use super::{Scope, UserCommand, load, rolled_back_or};
use crate::Error;

/// What the client believes to be stored, where it says so: two devices do not overwrite each other
/// unknowingly then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// It does not say.
    Anything,
    /// Nothing.
    Absent,
    /// Something.
    Present,
    /// This revision.
    Revision(i64),
}

impl Expectation {
    fn holds(self, stored: Option<i64>) -> bool {
        match self {
            Self::Anything => true,
            Self::Absent => stored.is_none(),
            Self::Present => stored.is_some(),
            Self::Revision(revision) => stored == Some(revision),
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
    /// The version of the keys that it is sealed under; `None`: the present one.
    pub sealed_under: Option<KmVersion>,
    /// What the client believes to be stored.
    pub expected: Expectation,
}

impl UserCommand for PutBlob {
    /// The blob's new revision.
    type Output = i64;
    const NAME: &'static str = "put_blob";

    async fn run(self, scope: Scope) -> Result<i64, Error> {
        let Scope { user, now, node, .. } = scope;
        node.store
            .write(move |tx| {
                async move {
                    let current = load(tx, &user).await?.identity.km_version;
                    let sealed_under = self.sealed_under.unwrap_or(current);
                    if sealed_under > current {
                        let future = Error::FutureKmVersion { current };
                        return Err(rolled_back_or(tx, sealed_under, current, future).await?);
                    }
                    let stored =
                        blobs::find(tx, &user, &self.blob_type).await?.map(|blob| blob.info.revision);
                    if !self.expected.holds(stored) {
                        return Err(Error::BlobChanged);
                    }
                    let PutBlob { blob_type, encrypted_blob, nonce, .. } = &self;
                    Ok(blobs::put(tx, &user, blob_type, encrypted_blob, nonce, sealed_under, now).await?)
                }
                .boxed()
            })
            .await
    }
}

/// Removes a blob; it may be gone already.
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
        let Scope { user, node, .. } = scope;
        node.store
            .write(move |tx| {
                async move {
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
