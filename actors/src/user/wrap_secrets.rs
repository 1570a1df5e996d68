//! Device wrap secrets (`/users/me/devices/{deviceId}/wrap-secret`): 32 random bytes a device, the same on
//! every call, until all are made anew.

use futures_util::FutureExt;
use rand::RngExt;
use vellum_store::Tx;
use vellum_store::wrap_secrets::{self, SealedSecret};
use zeroize::Zeroizing;

use super::{Event, Scope, UserCommand};
use crate::Error;

/// Devices that a user may have.
const MOST_DEVICES: u64 = 100;

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
                    make(tx, &scope, &self.device_id).await
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
                    let rotated = renew(tx, &scope).await?;
                    scope.audit(tx, Event::WrapSecretsRotated).await?;
                    Ok(rotated)
                }
                .boxed()
            })
            .await
    }
}

/// Replaces every secret of the user. Returns how many.
pub(super) async fn renew(tx: &mut Tx, scope: &Scope) -> Result<u64, Error> {
    let mut renewed = 0;
    for SealedSecret { device_id, .. } in wrap_secrets::of_user(tx, &scope.user).await? {
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
