//! Ending one of the user's sessions (`DELETE /auth/sessions/{id}`).

use futures_util::FutureExt;
use vellum_store::{SessionId, sessions};

use super::{Scope, UserCommand};
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
        let Scope { user, node, .. } = scope;
        node.store
            .write(move |tx| {
                async move {
                    if sessions::delete(tx, &user, &self.id).await? {
                        Ok(())
                    } else {
                        Err(Error::SessionNotFound)
                    }
                }
                .boxed()
            })
            .await
    }
}
