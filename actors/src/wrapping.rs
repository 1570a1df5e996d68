//! The keys that device wrap secrets are encrypted with at rest. They are not in the database: whoever
//! steals only that has nothing to open the seeds on lost devices with.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use futures_util::FutureExt;
use rand::RngExt;
use vellum_protocol::UnixMillis;
use vellum_store::wrap_secrets::{self, SealedSecret};
use vellum_store::{Store, StoreError, UserId};
use zeroize::Zeroizing;

use crate::Error;

/// Length of the nonce in front of the ciphertext.
const NONCE: usize = 12;

/// One key with its name.
#[derive(Clone)]
pub struct WrappingKey {
    /// What rows name it by.
    pub id: String,
    /// The key.
    pub key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappingKey({})", self.id)
    }
}

/// The keys, the newest first: that one is used for new secrets, all of them for reading.
pub type Ring = Vec<WrappingKey>;

/// Where the keys are kept. Asked again when a row names a key that was added since: a command beside the
/// running node may have made one.
pub type KeySource = Box<dyn Fn() -> Result<Ring, String> + Send + Sync>;

/// The keys at hand, and where to look for more.
pub struct WrappingKeys {
    ring: RwLock<Ring>,
    source: KeySource,
}

impl fmt::Debug for WrappingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WrappingKeys").field(&self.ring).finish()
    }
}

impl WrappingKeys {
    /// Reads the keys from their source.
    ///
    /// # Errors
    /// What the source says, or that there is no key.
    pub fn new(source: KeySource) -> Result<Self, String> {
        let ring = source()?;
        if ring.is_empty() {
            Err("there is no key".into())
        } else {
            Ok(Self { ring: RwLock::new(ring), source })
        }
    }

    /// The names of the keys, the newest first.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.iter().map(|key| key.id.clone()).collect()
    }

    /// The key that new secrets are encrypted with.
    fn newest(&self) -> Result<WrappingKey, Error> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).first().cloned().ok_or(Error::Internal)
    }

    fn find(&self, id: &str) -> Option<WrappingKey> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).iter().find(|key| key.id == id).cloned()
    }

    /// Reads the source again. What cannot be read leaves the keys as they were.
    fn reload(&self) {
        match (self.source)() {
            Ok(ring) if !ring.is_empty() => {
                *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
            }
            Ok(_) => tracing::error!("the wrapping keys are gone from their file"),
            Err(error) => tracing::error!(error, "the wrapping keys could not be read again"),
        }
    }

    /// Encrypts every secret in the database with the newest key. Returns how many there were to do.
    ///
    /// # Errors
    /// When one does not open: then nothing is changed.
    pub async fn renew_all(self, store: &Store, now: UnixMillis) -> Result<usize, Error> {
        let keys = Arc::new(self);
        store
            .write(move |tx| {
                async move {
                    let old = wrap_secrets::not_under(tx, &keys.newest()?.id).await?;
                    for sealed in &old {
                        let secret = keys.open(sealed)?;
                        let renewed = keys.seal(&sealed.user_id, &sealed.device_id, &secret)?;
                        wrap_secrets::put(tx, &renewed, now).await?;
                    }
                    Ok(old.len())
                }
                .boxed()
            })
            .await
    }

    /// Encrypts a secret for its place: the ciphertext of one device does not open for another.
    ///
    /// # Errors
    /// Never for a secret of this length.
    pub fn seal(&self, user: &UserId, device_id: &str, secret: &[u8; 32]) -> Result<SealedSecret, Error> {
        let nonce: [u8; NONCE] = rand::rng().random();
        let place = place(user, device_id);
        let payload = Payload { msg: secret, aad: place.as_bytes() };
        let newest = self.newest()?;
        let cipher = Aes256Gcm::new((&*newest.key).into());
        let ciphertext = cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| Error::Internal)?;
        Ok(SealedSecret {
            user_id: user.clone(),
            device_id: device_id.to_owned(),
            sealed_secret: [nonce.as_slice(), &ciphertext].concat(),
            key_id: newest.id,
        })
    }

    /// Decrypts a stored secret.
    ///
    /// # Errors
    /// [`Error::Store`] when its key is not here, or it was stored for another place.
    pub fn open(&self, sealed: &SealedSecret) -> Result<Zeroizing<[u8; 32]>, Error> {
        let unreadable = |reason: &str| {
            Error::Store(StoreError::Unreadable {
                column: "wrap_secrets.sealed_secret",
                reason: reason.into(),
            })
        };
        let key = self.find(&sealed.key_id).or_else(|| {
            self.reload();
            self.find(&sealed.key_id)
        });
        let key = key.ok_or_else(|| unreadable("its key is not among the wrapping keys"))?;
        let (nonce, ciphertext) =
            sealed.sealed_secret.split_first_chunk::<NONCE>().ok_or_else(|| unreadable("too short"))?;
        let place = place(&sealed.user_id, &sealed.device_id);
        let payload = Payload { msg: ciphertext, aad: place.as_bytes() };
        let opened = Aes256Gcm::new((&*key.key).into()).decrypt(&Nonce::from(*nonce), payload);
        let opened = Zeroizing::new(opened.map_err(|_| unreadable("it does not open"))?);
        let secret: [u8; 32] = opened.as_slice().try_into().map_err(|_| unreadable("wrong length"))?;
        Ok(Zeroizing::new(secret))
    }
}

fn place(user: &UserId, device_id: &str) -> String {
    format!("vellum wrap secret v1|{user}|{device_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, byte: u8) -> WrappingKey {
        WrappingKey { id: id.into(), key: Zeroizing::new([byte; 32]) }
    }

    fn ring(keys: &[(&str, u8)]) -> WrappingKeys {
        let keys: Ring = keys.iter().map(|(id, byte)| key(id, *byte)).collect();
        WrappingKeys::new(Box::new(move || Ok(keys.clone()))).unwrap()
    }

    #[test]
    fn a_secret_opens_in_its_place_and_after_a_new_key_has_come() {
        let user = UserId::from("u1".to_owned());
        let sealed = ring(&[("one", 1)]).seal(&user, "device-1", &[7; 32]).unwrap();
        assert!(!sealed.sealed_secret.windows(32).any(|window| window == [7; 32]));
        let renewed = ring(&[("two", 2), ("one", 1)]);
        assert_eq!(*renewed.open(&sealed).unwrap(), [7; 32]);
        let elsewhere = SealedSecret { device_id: "device-2".into(), ..sealed.clone() };
        assert!(renewed.open(&elsewhere).is_err());
        assert!(ring(&[("two", 2)]).open(&sealed).is_err());
        assert!(ring(&[("one", 9)]).open(&sealed).is_err());
    }

    #[test]
    fn a_key_that_was_added_meanwhile_is_found() {
        let user = UserId::from("u1".to_owned());
        let sealed = ring(&[("two", 2)]).seal(&user, "device-1", &[7; 32]).unwrap();
        let first = std::sync::atomic::AtomicBool::new(true);
        let source = move || {
            let newer = if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                None
            } else {
                Some(key("two", 2))
            };
            Ok(newer.into_iter().chain([key("one", 1)]).collect())
        };
        let keys = WrappingKeys::new(Box::new(source)).unwrap();
        assert_eq!(*keys.open(&sealed).unwrap(), [7; 32]);
    }

    #[test]
    fn no_key_is_ever_shown() {
        let shown = format!("{:?}", ring(&[("one", 77)]));
        assert!(shown.contains("one") && !shown.contains("77"), "{shown}");
    }
}
