//! Collections (`/library/collections`).

use futures_util::FutureExt;
use rand::RngExt;
use rand::distr::Alphanumeric;
use vellum_protocol::{KmVersion, UnixMillis};
use vellum_store::collections::{self, Collection};
use vellum_store::usage::Usage;
use vellum_store::{CollectionId, UserId};

use super::key_generation::load_as_shown;
use super::quotas::{Growth, bytes};
use super::{Scope, UserCommand, load};
use crate::Error;

/// Ids of collections have this many letters and digits, which existing clients rely on.
const ID_LENGTH: usize = 24;

/// What a client says of a collection. What is `None` stays as it is, or is the default of a new one.
#[derive(Debug, Clone, Default)]
pub struct CollectionChange {
    /// The sealed metadata.
    pub metadata_encrypted: Option<String>,
    /// The version of the collection's own key.
    pub metadata_key_version: Option<i64>,
    /// Whether anybody with its token may read it.
    pub is_public: Option<bool>,
}

fn random_text() -> String {
    rand::rng().sample_iter(Alphanumeric).take(ID_LENGTH).map(char::from).collect()
}

/// A collection that nothing has been said of yet.
pub(crate) fn empty(user: &UserId, sealed_under: KmVersion, now: UnixMillis) -> Collection {
    Collection {
        id: CollectionId::from(random_text()),
        user_id: user.clone(),
        is_public: false,
        is_sensitive: false,
        scheme: "user-e2ee".into(),
        resharing_policy: "owner-only".into(),
        public_token: None,
        public_role: None,
        metadata_encrypted: None,
        metadata_key_version: 1,
        km_version: sealed_under,
        created_at: now,
        updated_at: now,
    }
}

impl CollectionChange {
    /// Whether it has anything that is sealed under the user's keys.
    fn seals(&self) -> bool {
        self.metadata_encrypted.is_some() || self.metadata_key_version.is_some()
    }

    fn most_bytes(&self) -> u64 {
        self.metadata_encrypted.as_deref().map_or(0, bytes)
    }

    fn apply_to(self, collection: &mut Collection, current: KmVersion, now: UnixMillis) {
        if let Some(metadata) = self.metadata_encrypted {
            collection.metadata_encrypted = Some(metadata);
            collection.km_version = current;
        }
        collection.metadata_key_version =
            self.metadata_key_version.unwrap_or(collection.metadata_key_version);
        if let Some(public) = self.is_public
            && public != collection.is_public
        {
            collection.is_public = public;
            collection.public_token = public.then(random_text);
            collection.public_role = public.then(|| "viewer".into());
        }
        collection.updated_at = now;
    }
}

/// Makes a collection.
#[derive(Debug)]
pub struct CreateCollection(pub CollectionChange);

impl UserCommand for CreateCollection {
    type Output = Collection;
    const NAME: &'static str = "create_collection";

    async fn run(self, scope: Scope) -> Result<Collection, Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    let (user, now) = (&scope.user, scope.now);
                    let current = load_as_shown(tx, &scope).await?.identity.km_version;
                    let most = Usage { collections: 1, bytes: self.0.most_bytes(), ..Usage::default() };
                    let mut collection = empty(user, current, now);
                    self.0.apply_to(&mut collection, current, now);
                    let growth = Growth::begin(tx, user).await?;
                    collections::put(tx, &collection).await?;
                    growth.check(tx, &scope, &most).await?;
                    Ok(collection)
                }
                .boxed()
            })
            .await
    }
}

/// Changes a collection of the user's.
#[derive(Debug)]
pub struct UpdateCollection {
    /// Which.
    pub id: CollectionId,
    /// What is to be different.
    pub change: CollectionChange,
}

impl UserCommand for UpdateCollection {
    type Output = Collection;
    const NAME: &'static str = "update_collection";

    async fn run(self, scope: Scope) -> Result<Collection, Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    let (user, now) = (&scope.user, scope.now);
                    // Who may read it is for any device to say.
                    let me = if self.change.seals() {
                        load_as_shown(tx, &scope).await?
                    } else {
                        load(tx, user).await?
                    };
                    let found = collections::find(tx, user, &self.id).await?;
                    let mut collection = found.ok_or(Error::CollectionNotFound)?;
                    let most = Usage { bytes: self.change.most_bytes(), ..Usage::default() };
                    self.change.apply_to(&mut collection, me.identity.km_version, now);
                    let growth = Growth::begin(tx, user).await?;
                    collections::put(tx, &collection).await?;
                    growth.check(tx, &scope, &most).await?;
                    Ok(collection)
                }
                .boxed()
            })
            .await
    }
}

/// Removes a collection of the user's. A device with older keys removes nothing: what it cannot
/// open it may take for broken.
#[derive(Debug)]
pub struct DeleteCollection {
    /// Which.
    pub id: CollectionId,
}

impl UserCommand for DeleteCollection {
    type Output = ();
    const NAME: &'static str = "delete_collection";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    load_as_shown(tx, &scope).await?;
                    let deleted = collections::delete(tx, &scope.user, &self.id).await?;
                    if deleted { Ok(()) } else { Err(Error::CollectionNotFound) }
                }
                .boxed()
            })
            .await
    }
}
