//! Writes accounts into a database, thousands in one transaction, with the node's own functions on
//! either engine. Names, addresses and keys are made up and the same in each run.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::ensure;
use futures_util::FutureExt;
use rand::RngExt;
use sha2::{Digest, Sha256};
use vellum_actors::Clock;
use vellum_protocol::{Alias, EncryptionKey, KmVersion, SigningSecret, UnixMillis};
use vellum_store::collections::Collection;
use vellum_store::passkeys::StoredPasskey;
use vellum_store::sessions::Session;
use vellum_store::slots::Wrapped;
use vellum_store::users::{Keys, NewUser};
use vellum_store::{
    CollectionId, SessionId, Store, Tx, UserId, blobs, collections, passkeys, roles, sessions, slots, users,
};

/// Accounts in one transaction.
const AT_ONCE: usize = 2_000;
/// Length of a piece of ciphertext as text: 1 KiB.
const CIPHERTEXT: usize = 1024;
/// Blobs of a seeded account.
pub const BLOBS: usize = 3;
/// Collections of a seeded account.
pub const COLLECTIONS: usize = 5;
/// Slots of a seeded account, each with its passkey.
pub const SLOTS: usize = 3;
/// How long the sessions last: longer than any run.
const SESSION_MILLIS: i64 = 30 * 24 * 3_600_000;

/// An account as the driver knows it.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its id.
    pub id: UserId,
    /// Its alias.
    pub alias: String,
    /// The address that it signs in with; lower case, as codes are kept under it.
    pub email: String,
    /// `Bearer` and the token of its session.
    pub bearer: String,
    /// The session, if it has one.
    pub session: Option<SessionId>,
    /// The version of its keys that the node has named last.
    pub version: Arc<AtomicI64>,
    /// Its collections, if it is seeded.
    pub collections: Vec<CollectionId>,
}

impl Account {
    /// The version of its keys.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version.load(Ordering::Relaxed)
    }
}

/// The secret of the signing key that accounts have at this version. Two alternate, so that every
/// change of keys changes them.
#[must_use]
pub fn signing_secret(version: i64) -> SigningSecret {
    SigningSecret::from_seed(if version % 2 == 0 { [2; 32] } else { [1; 32] })
}

/// The keys that accounts have at this version.
///
/// # Errors
/// Never in practice: the encryption key is a usable one.
pub fn keys(version: i64) -> anyhow::Result<Keys> {
    Ok(Keys { signing: signing_secret(version).public(), encryption: EncryptionKey::from_bytes(&[9; 32])? })
}

/// A random text as long as a piece of ciphertext.
#[must_use]
pub fn ciphertext() -> String {
    let mut bytes = [0_u8; CIPHERTEXT / 4 * 3];
    rand::fill(&mut bytes);
    vellum_protocol::base64::encode(&bytes)
}

/// Writes so many accounts. `sessions` of them, spread over all, have a session and are returned;
/// the first `seeded` of these have sealed data.
///
/// # Errors
/// What the database says.
pub async fn accounts(
    store: &Store,
    users: usize,
    sessions: usize,
    seeded: usize,
) -> anyhow::Result<Vec<Account>> {
    let mut made = Vec::with_capacity(sessions);
    // Requests are then for accounts all over the database.
    let stride = users.div_ceil(sessions.max(1)).max(1);
    let keys = keys(1)?;
    for first in (0..users).step_by(AT_ONCE) {
        let last = (first + AT_ONCE).min(users);
        let with_session: Vec<Option<bool>> = (first..last)
            .map(|number| number.is_multiple_of(stride).then_some(number / stride < seeded))
            .collect();
        let now = Clock::system().now();
        let group: anyhow::Result<Vec<Account>, vellum_store::StoreError> = store
            .write(move |tx| {
                async move {
                    let mut made = Vec::new();
                    for (number, kind) in (first..).zip(with_session) {
                        let account = account(tx, number, &keys, now).await?;
                        if let Some(seeded) = kind {
                            made.push(signed_in(tx, account, seeded, now).await?);
                        }
                    }
                    Ok(made)
                }
                .boxed()
            })
            .await;
        made.extend(group?);
    }
    Ok(made)
}

/// Makes an account with an alias and keys.
async fn account(
    tx: &mut Tx,
    number: usize,
    keys: &Keys,
    now: UnixMillis,
) -> Result<Account, vellum_store::StoreError> {
    let (alias, email) = (format!("user{number}"), format!("user{number}@people.example"));
    let new = NewUser {
        email: email.clone(),
        first_name: Some(format!("First{number}")),
        last_name: Some("Last".to_owned()),
        picture: None,
    };
    let id = users::insert(tx, &new, now).await?;
    roles::give(tx, &id, "user").await?;
    if let Ok(alias) = Alias::parse(&alias) {
        users::set_alias(tx, &id, &alias, now).await?;
    }
    users::swap_keys(tx, &id, KmVersion::FIRST, keys, KmVersion::FIRST, now).await?;
    let version = Arc::new(AtomicI64::new(KmVersion::FIRST.get()));
    Ok(Account { id, alias, email, bearer: String::new(), session: None, version, collections: Vec::new() })
}

/// Opens a session for an account, and gives it sealed data if it is `seeded`.
async fn signed_in(
    tx: &mut Tx,
    mut account: Account,
    seeded: bool,
    now: UnixMillis,
) -> Result<Account, vellum_store::StoreError> {
    let token: String = rand::rng().random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
    let session = Session {
        id: SessionId::generate(),
        user_id: account.id.clone(),
        created_at: now,
        last_used_at: now,
        expires_at: now.plus_millis(SESSION_MILLIS),
        user_agent: Some("vellum bench".to_owned()),
        ip: None,
        device_id: None,
    };
    sessions::insert(tx, &session, &Sha256::digest(token.as_bytes()).into()).await?;
    account.bearer = format!("Bearer {token}");
    account.session = Some(session.id);
    if seeded {
        seal(tx, &mut account, now).await?;
    }
    Ok(account)
}

/// The name of a blob of a seeded account.
#[must_use]
pub fn blob_type(number: usize) -> String {
    format!("blob-{number}")
}

/// The credential of a slot of a seeded account.
#[must_use]
pub fn credential(account: &Account, number: usize) -> String {
    format!("{}-key-{number}", account.alias)
}

/// A slot of a seeded account, filled.
#[must_use]
pub fn slot(account: &Account, number: usize) -> Wrapped {
    Wrapped {
        credential_id: credential(account, number),
        wrapped_km: ciphertext(),
        wrap_algo: "aes-256-gcm-prf-v1".to_owned(),
        slot_signature: "0".repeat(88),
    }
}

async fn seal(tx: &mut Tx, account: &mut Account, now: UnixMillis) -> Result<(), vellum_store::StoreError> {
    let version = KmVersion::FIRST;
    for number in 0..BLOBS {
        blobs::put(tx, &account.id, &blob_type(number), &ciphertext(), "", version, now).await?;
    }
    for _ in 0..COLLECTIONS {
        let collection = Collection {
            id: CollectionId::generate(),
            user_id: account.id.clone(),
            is_public: false,
            is_sensitive: false,
            scheme: "user-e2ee".to_owned(),
            resharing_policy: "owner-only".to_owned(),
            public_token: None,
            public_role: None,
            metadata_encrypted: Some(ciphertext()),
            metadata_key_version: 1,
            km_version: version,
            created_at: now,
            updated_at: now,
        };
        collections::put(tx, &collection).await?;
        account.collections.push(collection.id);
    }
    for number in 0..SLOTS {
        let passkey = StoredPasskey {
            credential_id: credential(account, number),
            user_id: account.id.clone(),
            name: None,
            credential: "{}".to_owned(),
            counter: 0,
            device_type: "singleDevice".to_owned(),
            backed_up: false,
            transports: Vec::new(),
            created_at: now,
            last_used_at: None,
        };
        passkeys::insert(tx, &passkey).await?;
        slots::put(tx, &account.id, &slot(account, number), version, now).await?;
    }
    Ok(())
}

/// Checks that every account has the version of its keys that the last answer named.
///
/// # Errors
/// The first account that has another.
pub async fn compare_versions(store: &Store, accounts: &[Account]) -> anyhow::Result<()> {
    let mut conn = store.read().await?;
    for account in accounts {
        let user = users::by_id(&mut conn, &account.id).await?;
        let stored = user.map(|user| user.identity.km_version.get());
        ensure!(
            stored == Some(account.version()),
            "{} has version {stored:?} in the database, and {} was answered",
            account.alias,
            account.version()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_version_and_the_next_differ() {
        assert_ne!(keys(1).unwrap(), keys(2).unwrap());
        assert_eq!(keys(1).unwrap(), keys(3).unwrap());
        assert_eq!(ciphertext().len(), CIPHERTEXT);
    }
}
