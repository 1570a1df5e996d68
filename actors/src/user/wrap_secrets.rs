//! Device wrap secrets (`/users/me/devices/{deviceId}/wrap-secret`): 32 random bytes a device, the same on
//! every call, until all are made anew.

use futures_util::FutureExt;
use rand::RngExt;
use vellum_store::wrap_secrets::{self, SealedSecret};
use vellum_store::{StoreError, Tx, sessions};
use zeroize::Zeroizing;

use super::{Event, Scope, UserCommand};
use crate::Error;

/// Devices that a user may have.
const MOST_DEVICES: u64 = 100;
/// How often at most the time of a device's use is written, in milliseconds.
const USE_NOTED_EVERY: i64 = 24 * 3_600_000;

/// Gives the secret of a device; it is made at the first call. Through the user's actor, so that racing
/// first calls get the same one.
#[derive(Debug)]
pub struct WrapSecret {
    /// Which device: 8 to 64 letters, digits and hyphens.
    pub device_id: String,
}

impl UserCommand for WrapSecret {
    type Output = Zeroizing<[u8; 32]>;
    const NAME: &'static str = "wrap_secret";

    async fn run(self, scope: Scope) -> Result<Self::Output, Error> {
        // Most calls only read, and do not wait for the writer.
        let mut conn = scope.node.store.read().await?;
        if let Some(known) = wrap_secrets::find(&mut conn, &scope.user, &self.device_id).await? {
            let session = scope.origin.session.as_ref();
            let since = scope.now.plus_millis(-USE_NOTED_EVERY);
            let noted = wrap_secrets::is_use_noted(
                &mut conn,
                &scope.user,
                &self.device_id,
                session,
                since,
                scope.now,
            )
            .await?;
            drop(conn);
            if !noted {
                note_use(scope.clone(), self.device_id).await;
            }
            return scope.node.wrapping.open(&known);
        }
        drop(conn);
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    // Another replica may have been faster.
                    if let Some(known) = wrap_secrets::find(tx, &scope.user, &self.device_id).await? {
                        return scope.node.wrapping.open(&known);
                    }
                    if wrap_secrets::count(tx, &scope.user).await? >= MOST_DEVICES {
                        return Err(Error::TooManyDevices);
                    }
                    let secret = make(tx, &scope, &self.device_id).await?;
                    note_use_in(tx, &scope, &self.device_id).await?;
                    Ok(secret)
                }
                .boxed()
            })
            .await
    }
}

/// Notes that a device has read its secret. A device gets its secret also where nothing can be
/// written.
async fn note_use(scope: Scope, device_id: String) {
    let node = scope.node.clone();
    let noted: Result<(), StoreError> =
        node.store.write(move |tx| async move { note_use_in(tx, &scope, &device_id).await }.boxed()).await;
    if let Err(error) = noted {
        tracing::warn!(%error, "use of a device not noted");
    }
}

/// Notes the time with the device, and the device with the session that asks.
async fn note_use_in(tx: &mut Tx, scope: &Scope, device_id: &str) -> Result<(), StoreError> {
    wrap_secrets::note_use(tx, &scope.user, device_id, scope.now).await?;
    if let Some(session) = &scope.origin.session {
        sessions::set_device(tx, &scope.user, session, device_id).await?;
    }
    Ok(())
}

/// Removes a device's secret, and so the device from the user's list.
#[derive(Debug)]
pub struct RemoveDevice {
    /// Which device.
    pub device_id: String,
}

impl UserCommand for RemoveDevice {
    type Output = ();
    const NAME: &'static str = "remove_device";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    if !wrap_secrets::delete(tx, &scope.user, &self.device_id).await? {
                        return Err(Error::DeviceNotFound);
                    }
                    scope.audit(tx, Event::DeviceRemoved).await
                }
                .boxed()
            })
            .await
    }
}

/// Makes every wrap secret of the user anew: all or none.
#[derive(Debug)]
pub struct RotateWrapSecrets;

impl UserCommand for RotateWrapSecrets {
    /// How many.
    type Output = u64;
    const NAME: &'static str = "rotate_wrap_secrets";

    async fn run(self, scope: Scope) -> Result<u64, Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    let rotated = renew_but(tx, &scope, None).await?;
                    scope.audit(tx, Event::WrapSecretsRotated).await?;
                    Ok(rotated)
                }
                .boxed()
            })
            .await
    }
}

/// Replaces every secret of the user, but that of the device to keep. Returns how many.
pub(super) async fn renew_but(tx: &mut Tx, scope: &Scope, kept: Option<&str>) -> Result<u64, Error> {
    let mut renewed = 0;
    for SealedSecret { device_id, .. } in wrap_secrets::of_user(tx, &scope.user).await? {
        if kept == Some(device_id.as_str()) {
            continue;
        }
        make(tx, scope, &device_id).await?;
        renewed += 1;
    }
    Ok(renewed)
}

async fn make(tx: &mut Tx, scope: &Scope, device_id: &str) -> Result<Zeroizing<[u8; 32]>, Error> {
    let secret = Zeroizing::new(rand::rng().random::<[u8; 32]>());
    let sealed = scope.node.wrapping.seal(&scope.user, device_id, &secret)?;
    wrap_secrets::put(tx, &sealed, scope.now).await?;
    Ok(secret)
}
