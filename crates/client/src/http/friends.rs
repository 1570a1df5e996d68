//! Friends and invitations (`/friends`; wire protocol, section 7).

use reqwest::Method;
use serde::{Deserialize, Deserializer, Serialize, de};
use vellum_protocol::{EncryptionKey, Handle, SigningKey, Timestamp, UserDocument};

use super::error::ClientError;
use super::node_client::NodeClient;
use super::path::segment;
use crate::signer::SignedFields;

/// A friend.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Friend {
    /// The friendship's id.
    pub id: String,
    /// Who it is.
    pub friend_handle: Handle,
    /// The friend's signing key, as of when the friendship began or the keys were last synced.
    pub friend_signing_key: SigningKey,
    /// The friend's encryption key, if there is one.
    #[serde(default, deserialize_with = "key_or_none")]
    pub friend_encryption_key: Option<EncryptionKey>,
    /// The friend's name.
    pub friend_name: Option<String>,
    /// The address of the friend's picture.
    pub friend_picture: Option<String>,
    /// `accepted`.
    pub status: String,
    /// When a key was seen that differs from the one before, as long as the user has not confirmed
    /// it.
    #[serde(default)]
    pub keys_changed_at: Option<Timestamp>,
    /// When the friendship began.
    pub established_at: Timestamp,
}

/// Which way an invitation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Somebody invites the user.
    Incoming,
    /// The user invites somebody.
    Outgoing,
}

impl Direction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
        }
    }
}

/// An invitation that stands.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invitation {
    /// Its id.
    pub id: String,
    /// Who invites.
    pub from_handle: Handle,
    /// Who is invited.
    pub to_handle: Handle,
    /// Which way it goes, seen from the user.
    pub direction: Direction,
    /// `pending`.
    pub status: String,
    /// The node it came from, if it came from another.
    pub origin_server: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// How far it has come to the node of the invited person; `None` where the node does not say.
    #[serde(default)]
    pub delivery: Option<InvitationDelivery>,
    /// Why it has not been delivered.
    #[serde(default)]
    pub delivery_error: Option<String>,
}

/// How far an invitation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvitationDelivery {
    /// It is where it should be.
    Delivered,
    /// It is tried again.
    Queued,
    /// It was refused or given up. Invite the person again, or withdraw it.
    Failed,
    /// A word that this client does not know.
    #[serde(other)]
    Other,
}

/// How the other side learns that a friendship is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// It is on the same node: both sides have ended.
    Local,
    /// The peer has carried it out.
    Delivered,
    /// It will be tried again.
    Queued,
    /// Nothing was signed: a pending revocation waits for a signature.
    Unsigned,
    /// A word that this client does not know.
    #[serde(other)]
    Other,
}

/// What asking a friend's node for the keys gave.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KeySync {
    /// The friend.
    pub handle: String,
    /// Whether something was taken over. Another signing key never is.
    pub updated: bool,
    /// Why not: no answer, or a key that changed and that the user has to look at.
    pub error: Option<String>,
}

/// A friend's key that the user has compared.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfirmRequest<'a> {
    handle: &'a Handle,
    signing_key: &'a SigningKey,
}

#[derive(Serialize)]
struct InviteRequest<'a> {
    handle: &'a Handle,
    #[serde(flatten)]
    signed: &'a SignedFields,
}

#[derive(Deserialize)]
struct FriendsAnswer {
    friends: Vec<Friend>,
}

#[derive(Deserialize)]
struct InvitationsAnswer {
    invitations: Vec<Invitation>,
}

#[derive(Deserialize)]
struct InviteAnswer {
    invitation: Invitation,
}

#[derive(Deserialize)]
struct RemoveAnswer {
    delivery: Delivery,
}

#[derive(Deserialize)]
struct SyncAnswer {
    results: Vec<KeySync>,
}

impl NodeClient {
    /// The user's friends.
    ///
    /// # Errors
    /// As for every request.
    pub async fn friends(&self) -> Result<Vec<Friend>, ClientError> {
        let answer: FriendsAnswer = self.get("/friends").await?;
        Ok(answer.friends)
    }

    /// The invitations of one direction that stand.
    ///
    /// # Errors
    /// As for every request.
    pub async fn invitations(&self, direction: Direction) -> Result<Vec<Invitation>, ClientError> {
        let path = format!("/friends/invitations?direction={}", direction.as_str());
        let answer: InvitationsAnswer = self.get(&path).await?;
        Ok(answer.invitations)
    }

    /// Invites somebody, with what [`Signer::invite`](crate::Signer::invite) made for the same handle.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `invalid_handle`, `self`, `already_friends`, `already_invited`,
    /// `user_not_found` or `peer_unreachable`; otherwise as for every request.
    pub async fn invite(&self, handle: &Handle, signed: &SignedFields) -> Result<Invitation, ClientError> {
        let request = InviteRequest { handle, signed };
        let answer: InviteAnswer = self.call(Method::POST, "/friends/invite", Some(&request)).await?;
        Ok(answer.invitation)
    }

    /// Accepts an incoming invitation, with what [`Signer::accept`](crate::Signer::accept) made for its
    /// sender.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when there is no such invitation or the signature does not count; otherwise
    /// as for every request.
    pub async fn accept_invitation(&self, id: &str, signed: &SignedFields) -> Result<(), ClientError> {
        let path = format!("/friends/invitations/{}/accept", segment(id));
        self.ask(Method::POST, &path, Some(signed)).await.map(drop)
    }

    /// Declines an incoming invitation, with what [`Signer::reject`](crate::Signer::reject) made for its
    /// sender.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when there is no such invitation or the signature does not count; otherwise
    /// as for every request.
    pub async fn reject_invitation(&self, id: &str, signed: &SignedFields) -> Result<(), ClientError> {
        let path = format!("/friends/invitations/{}/reject", segment(id));
        self.ask(Method::POST, &path, Some(signed)).await.map(drop)
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when there is no such invitation; otherwise as for every request.
    pub async fn cancel_invitation(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("/friends/invitations/{}", segment(id));
        self.ask(Method::DELETE, &path, None::<&()>).await.map(drop)
    }

    /// Ends a friendship at once on this side. With what [`Signer::revoke`](crate::Signer::revoke) made, a
    /// friend on another node is told; without, a pending revocation waits for it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when there is no such friend or the signature does not count; otherwise as
    /// for every request.
    pub async fn remove_friend(
        &self,
        friend: &Handle,
        signed: Option<&SignedFields>,
    ) -> Result<Delivery, ClientError> {
        let path = format!("/friends/{}", segment(friend.as_str()));
        let answer: RemoveAnswer = self.call(Method::DELETE, &path, signed).await?;
        Ok(answer.delivery)
    }

    /// Looks somebody up, on this node or another.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 404 when nobody has this handle; otherwise as for every request.
    pub async fn resolve_friend(&self, handle: &Handle) -> Result<UserDocument, ClientError> {
        let path = format!("/friends/resolve/{}", segment(handle.as_str()));
        self.ask(Method::GET, &path, None::<&()>).await?.protocol_json(UserDocument::parse)
    }

    /// Asks for every friend's present keys.
    ///
    /// # Errors
    /// As for every request.
    pub async fn sync_friend_keys(&self) -> Result<Vec<KeySync>, ClientError> {
        let answer: SyncAnswer = self.call(Method::POST, "/friends/sync-keys", None::<&()>).await?;
        Ok(answer.results)
    }

    /// Says that the user has compared this signing key with the friend: what it has signed is no
    /// longer marked.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 409 when the key kept is another one by now, and with
    /// status 404 when there is no such friend; otherwise as for every request.
    pub async fn confirm_friend_key(&self, handle: &Handle, key: &SigningKey) -> Result<(), ClientError> {
        let request = ConfirmRequest { handle, signing_key: key };
        self.ask(Method::POST, "/friends/sync-keys", Some(&request)).await?;
        Ok(())
    }
}

/// A missing encryption key is the empty text where it comes from another node's user document.
fn key_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<EncryptionKey>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => EncryptionKey::parse(text).map(Some).map_err(de::Error::custom),
    }
}
