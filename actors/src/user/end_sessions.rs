//! Ending sessions: one (`DELETE /auth/sessions/{id}`), all others, or all.

use futures_util::FutureExt;
use vellum_store::{SessionId, UserId, sessions};

use super::wrap_secrets::renew_but;
use super::{Event, Scope, UserCommand};
use crate::Error;

/// Ends the session with this id, if it is the user's.
#[derive(Debug)]
pub struct EndSession {
    /// Which one.
    pub id: SessionId,
}

impl UserCommand for EndSession {
    type Output = ();
    const NAME: &'static str = "end_session";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let (node, log) = (scope.node.clone(), EndedByAnother::of(&scope));
        let others = u64::from(scope.origin.session.as_ref() != Some(&self.id));
        let ended: Result<(), Error> = node
            .store
            .write(move |tx| {
                async move {
                    if !sessions::delete(tx, &scope.user, &self.id).await? {
                        return Err(Error::SessionNotFound);
                    }
                    scope.audit(tx, Event::SessionEnded).await
                }
                .boxed()
            })
            .await;
        ended?;
        log.write(others);
        Ok(())
    }
}

/// Ends every session of the user but the one that asks.
#[derive(Debug)]
pub struct EndOtherSessions;

impl UserCommand for EndOtherSessions {
    type Output = ();
    const NAME: &'static str = "end_other_sessions";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        end_others(scope, None).await
    }
}

/// Ends every session of the user but the one that asks, and makes the wrap secrets of all devices
/// but one anew: what the others have sealed opens no more.
#[derive(Debug)]
pub struct EndOtherDevices {
    /// The device that keeps its secret.
    pub device_id: String,
}

impl UserCommand for EndOtherDevices {
    type Output = ();
    const NAME: &'static str = "end_other_devices";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        end_others(scope, Some(self.device_id)).await
    }
}

/// Ends the user's other sessions. Where a device is given, makes the wrap secrets of all others anew.
async fn end_others(scope: Scope, device_id: Option<String>) -> Result<(), Error> {
    let (node, log) = (scope.node.clone(), EndedByAnother::of(&scope));
    let ended: Result<u64, Error> = node
        .store
        .write(move |tx| {
            async move {
                let kept = scope.origin.session.as_ref();
                let others = sessions::delete_others(tx, &scope.user, kept).await?;
                let renewed = match device_id {
                    Some(device) => renew_but(tx, &scope, Some(&device)).await?,
                    None => 0,
                };
                scope.audit(tx, Event::OtherSessionsEnded).await?;
                if renewed > 0 {
                    scope.audit(tx, Event::WrapSecretsRotated).await?;
                }
                Ok(others)
            }
            .boxed()
        })
        .await;
    log.write(ended?);
    Ok(())
}

/// Ends every session of the user and makes every device wrap secret anew: what a lost device has sealed
/// on it opens no more.
#[derive(Debug)]
pub struct EndAllSessions;

impl UserCommand for EndAllSessions {
    type Output = ();
    const NAME: &'static str = "end_all_sessions";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let (node, log) = (scope.node.clone(), EndedByAnother::of(&scope));
        let ended: Result<u64, Error> = node
            .store
            .write(move |tx| {
                async move {
                    let kept = scope.origin.session.as_ref();
                    let others = sessions::delete_others(tx, &scope.user, kept).await?;
                    sessions::delete_others(tx, &scope.user, None).await?;
                    renew_but(tx, &scope, None).await?;
                    scope.audit(tx, Event::AllSessionsEnded).await?;
                    Ok(others)
                }
                .boxed()
            })
            .await;
        log.write(ended?);
        Ok(())
    }
}

/// The log's line on sessions that another one has ended: a thief's device may be among either.
struct EndedByAnother {
    account_id: UserId,
    client_ip: Option<String>,
}

impl EndedByAnother {
    fn of(scope: &Scope) -> Self {
        Self { account_id: scope.user.clone(), client_ip: scope.origin.ip.clone() }
    }

    /// Written once the change is durable; not where no other session has ended.
    fn write(self, sessions: u64) {
        let Self { account_id, client_ip } = self;
        if sessions > 0 {
            tracing::info!(client_ip, %account_id, sessions, "session ended by another");
        }
    }
}
