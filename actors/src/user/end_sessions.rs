//! Ending sessions: one (`DELETE /auth/sessions/{id}`), all others, or all.

use futures_util::FutureExt;
use vellum_store::{SessionId, sessions};

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
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    if !sessions::delete(tx, &scope.user, &self.id).await? {
                        return Err(Error::SessionNotFound);
                    }
                    scope.audit(tx, Event::SessionEnded).await
                }
                .boxed()
            })
            .await
    }
}

/// Ends every session of the user but the one that asks.
#[derive(Debug)]
pub struct EndOtherSessions;

impl UserCommand for EndOtherSessions {
    type Output = ();
    const NAME: &'static str = "end_other_sessions";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    sessions::delete_others(tx, &scope.user, scope.origin.session.as_ref()).await?;
                    scope.audit(tx, Event::OtherSessionsEnded).await
                }
                .boxed()
            })
            .await
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
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    sessions::delete_others(tx, &scope.user, scope.origin.session.as_ref()).await?;
                    renew_but(tx, &scope, Some(&self.device_id)).await?;
                    scope.audit(tx, Event::OtherSessionsEnded).await
                }
                .boxed()
            })
            .await
    }
}

/// Ends every session of the user and makes every device wrap secret anew: what a lost device has sealed
/// on it opens no more.
#[derive(Debug)]
pub struct EndAllSessions;

impl UserCommand for EndAllSessions {
    type Output = ();
    const NAME: &'static str = "end_all_sessions";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    sessions::delete_others(tx, &scope.user, None).await?;
                    renew_but(tx, &scope, None).await?;
                    scope.audit(tx, Event::AllSessionsEnded).await
                }
                .boxed()
            })
            .await
    }
}
