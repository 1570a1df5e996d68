//! Handing the seed to a new device (`/device-transfer`; wire protocol, section 7). The new device begins
//! with its ephemeral key, an old one puts the seed in, sealed for that key, and the new one takes it out:
//! each step once, all within a minute. The node sees ciphertext only.

use std::time::Duration;

use futures_util::FutureExt;
use vellum_store::device_transfers::{self, Transfer, Upload};
use vellum_store::{TransferId, Tx};

use super::{Scope, UserCommand};
use crate::Error;
use crate::clock::CLOCKS_DIFFER_MILLIS;

/// How long a transfer may take.
const LIFE_MILLIS: i64 = 60_000;
/// How many a user may begin in an hour.
const AN_HOUR: usize = 3;
const HOUR_MILLIS: i64 = 3_600_000;

/// Begins a transfer.
#[derive(Debug)]
pub struct BeginTransfer {
    /// The receiving device's ephemeral public key.
    pub receiver_key: String,
}

impl UserCommand for BeginTransfer {
    type Output = Transfer;
    const NAME: &'static str = "begin_transfer";

    async fn run(self, scope: Scope) -> Result<Transfer, Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    let since = scope.now.plus_millis(-HOUR_MILLIS);
                    // What a clock dated that was ahead would count for longer than an hour.
                    let until = scope.now.plus_millis(CLOCKS_DIFFER_MILLIS);
                    let begun = device_transfers::begun_since(tx, &scope.user, since, until).await?;
                    if let Some(oldest) = begun.first().filter(|_| begun.len() >= AN_HOUR) {
                        let wait = oldest.plus_millis(HOUR_MILLIS).since(scope.now);
                        let retry_after = Duration::from_millis(u64::try_from(wait).unwrap_or(0));
                        return Err(Error::TooManyTransfers { retry_after });
                    }
                    let transfer = Transfer {
                        id: TransferId::generate(),
                        user_id: scope.user,
                        receiver_key: self.receiver_key,
                        upload: None,
                        consumed: false,
                        expires_at: scope.now.plus_millis(LIFE_MILLIS),
                    };
                    device_transfers::begin(tx, &transfer, scope.now).await?;
                    Ok(transfer)
                }
                .boxed()
            })
            .await
    }
}

/// Puts the sealed seed in.
#[derive(Debug)]
pub struct UploadTransfer {
    /// Which transfer.
    pub id: TransferId,
    /// What goes in.
    pub upload: Upload,
}

impl UserCommand for UploadTransfer {
    type Output = ();
    const NAME: &'static str = "upload_transfer";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    running(tx, &scope, &self.id).await?;
                    if !device_transfers::fill(tx, &self.id, &self.upload).await? {
                        return Err(Error::TransferFilled);
                    }
                    Ok(())
                }
                .boxed()
            })
            .await
    }
}

/// Takes the sealed seed out. It is gone then.
#[derive(Debug)]
pub struct FetchTransfer {
    /// Which transfer.
    pub id: TransferId,
}

impl UserCommand for FetchTransfer {
    type Output = (Transfer, Upload);
    const NAME: &'static str = "fetch_transfer";

    async fn run(self, scope: Scope) -> Result<(Transfer, Upload), Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    let mut transfer = running(tx, &scope, &self.id).await?;
                    let upload = transfer.upload.take().ok_or(Error::TransferEmpty)?;
                    if !device_transfers::consume(tx, &scope.user, &self.id).await? {
                        return Err(Error::TransferOver);
                    }
                    Ok((transfer, upload))
                }
                .boxed()
            })
            .await
    }
}

/// Gives a transfer up. It may be over already, or never have been.
#[derive(Debug)]
pub struct CancelTransfer {
    /// Which transfer.
    pub id: TransferId,
}

impl UserCommand for CancelTransfer {
    type Output = ();
    const NAME: &'static str = "cancel_transfer";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    device_transfers::consume(tx, &scope.user, &self.id).await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }
}

/// The user's transfer that is not over yet.
async fn running(tx: &mut Tx, scope: &Scope, id: &TransferId) -> Result<Transfer, Error> {
    let transfer = device_transfers::by_id(tx, id).await?.ok_or(Error::TransferNotFound)?;
    if transfer.user_id != scope.user {
        return Err(Error::TransferOfAnother);
    }
    let latest = scope.now.plus_millis(LIFE_MILLIS + CLOCKS_DIFFER_MILLIS);
    if transfer.consumed || transfer.expires_at <= scope.now || transfer.expires_at > latest {
        return Err(Error::TransferOver);
    }
    Ok(transfer)
}
