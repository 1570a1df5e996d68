//! Signing in and out (`/auth`).

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use vellum_protocol::{Alias, EncryptionKey, KmVersion, SigningKey, Timestamp};

use super::error::ClientError;
use super::node_client::NodeClient;
use super::path::segment;
use super::token::SessionToken;

/// A role of a user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Role {
    /// Its id, such as `admin`.
    pub id: String,
    /// Its name for people.
    pub name: String,
}

/// The signed-in user.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The user's id on this node.
    pub id: String,
    /// The address the user signs in with.
    pub email: String,
    /// The first name.
    pub first_name: Option<String>,
    /// The last name.
    pub last_name: Option<String>,
    /// The address of a picture.
    pub picture: Option<String>,
    /// The alias, once it is set.
    pub alias: Option<Alias>,
    /// The public signing key, once it is registered.
    pub signing_key: Option<SigningKey>,
    /// The public encryption key, once it is registered.
    pub encryption_key: Option<EncryptionKey>,
    /// The version of the keys.
    pub km_version: KmVersion,
    /// When the user was through a client's first steps.
    pub onboarding_completed_at: Option<Timestamp>,
    /// When the account was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// What the user is.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// What the user may do.
    #[serde(default)]
    pub permissions: Vec<String>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Its id, which is not its token.
    pub id: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// What the client called itself.
    pub user_agent: Option<String>,
    /// The address it began from.
    pub ip: Option<String>,
}

/// What clients open their features by. Nothing is billed, so every node says the same.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// All features.
    pub is_premium: bool,
    /// Some features.
    pub is_basic: bool,
    /// Whether somebody pays.
    pub has_subscription: bool,
    /// The name of the level.
    pub tier: String,
}

/// The answer to "who am I".
#[derive(Debug, Clone, Deserialize)]
pub struct CurrentSession {
    /// The token that the request came with.
    pub token: SessionToken,
    /// Whose session it is.
    pub user: User,
    /// The session.
    pub session: Session,
    /// Constant; see [`Subscription`].
    pub subscription: Subscription,
}

/// A sign-in that succeeded.
#[derive(Debug, Clone, Deserialize)]
pub struct SignedIn {
    /// The new session's token.
    pub token: SessionToken,
    /// Who signed in.
    pub user: User,
}

#[derive(Serialize)]
struct CodeRequest<'a> {
    email: &'a str,
}

#[derive(Serialize)]
struct SignInRequest<'a> {
    method: &'static str,
    email: &'a str,
    token: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndOthersRequest<'a> {
    device_id: &'a str,
}

impl NodeClient {
    /// Has a one-time code sent to this address.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for an unknown address where registration is closed, or for too many
    /// requests; otherwise as for every request.
    pub async fn request_code(&self, email: &str) -> Result<(), ClientError> {
        self.ask(Method::POST, "/auth/verify", Some(&CodeRequest { email })).await.map(drop)
    }

    /// Signs in with the code. The requests that follow carry the new session's token.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 401 for a wrong, used or expired code, 404 for an unknown
    /// address; otherwise as for every request. The token from before stays then.
    pub async fn sign_in_with_code(&mut self, email: &str, code: &str) -> Result<User, ClientError> {
        let request = SignInRequest { method: "otp", email, token: code };
        let SignedIn { token, user } = self.call(Method::POST, "/auth/sessions", Some(&request)).await?;
        self.set_token(Some(token));
        Ok(user)
    }

    /// Who is signed in; `None` when nobody is.
    ///
    /// # Errors
    /// As for every request.
    pub async fn current_session(&self) -> Result<Option<CurrentSession>, ClientError> {
        let answer = self.ask(Method::GET, "/auth/sessions/current", None::<&()>).await?;
        if answer.status == StatusCode::NO_CONTENT { Ok(None) } else { answer.json().map(Some) }
    }

    /// Ends the session with this id, one of the user's own.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when there is no such session; otherwise as for every request.
    pub async fn end_session(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("/auth/sessions/{}", segment(id));
        self.ask(Method::DELETE, &path, None::<&()>).await.map(drop)
    }

    /// Ends every other session of the user. With the name of the device that this client is on,
    /// the other devices' wrap secrets are made anew as well.
    ///
    /// # Errors
    /// As for every request.
    pub async fn end_other_sessions(&self, device_id: Option<&str>) -> Result<(), ClientError> {
        let request = device_id.map(|device_id| EndOthersRequest { device_id });
        self.ask(Method::DELETE, "/auth/sessions/others", request.as_ref()).await.map(drop)
    }

    /// Ends the session that this client uses, and forgets its token.
    ///
    /// # Errors
    /// As for every request; the token stays then.
    pub async fn sign_out(&mut self) -> Result<(), ClientError> {
        self.ask(Method::DELETE, "/auth/sessions", None::<&()>).await?;
        self.set_token(None);
        Ok(())
    }
}
