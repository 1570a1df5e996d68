//! What a user is to the network: alias, keys, name (`/users/me`).

use reqwest::Method;
use serde::{Deserialize, Serialize};
use vellum_protocol::{Alias, Domain, EncryptionKey, Handle, KmVersion, SigningKey, Timestamp};

use super::error::ClientError;
use super::node_client::NodeClient;

/// The user's identity. What is not set yet is `None`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The name on this node.
    pub alias: Option<Alias>,
    /// The name in the network.
    pub handle: Option<Handle>,
    /// The public signing key.
    pub signing_key: Option<SigningKey>,
    /// The public encryption key.
    pub encryption_key: Option<EncryptionKey>,
    /// The node's name in the network.
    pub domain: Domain,
    /// The version of the keys.
    pub km_version: KmVersion,
}

/// An alias that was set, and the handle that follows from it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Name {
    /// The alias as typed.
    pub alias: Alias,
    /// The handle.
    pub handle: Handle,
}

/// What to do with a name of the profile, or with the picture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NameChange {
    /// It stays as it is.
    #[default]
    Keep,
    /// It goes.
    Clear,
    /// It becomes this.
    Set(String),
}

/// A change of the profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileChange {
    /// What happens to the first name.
    #[serde(skip_serializing_if = "NameChange::keeps")]
    pub first_name: NameChange,
    /// What happens to the last name.
    #[serde(skip_serializing_if = "NameChange::keeps")]
    pub last_name: NameChange,
    /// What happens to the address of the picture.
    #[serde(skip_serializing_if = "NameChange::keeps")]
    pub picture: NameChange,
}

impl NameChange {
    fn keeps(&self) -> bool {
        *self == Self::Keep
    }
}

impl Serialize for NameChange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Clear => serializer.serialize_none(),
            Self::Set(name) => serializer.serialize_str(name),
        }
    }
}

/// The names of the profile after a change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileNames {
    /// The first name.
    pub first_name: Option<String>,
    /// The last name.
    pub last_name: Option<String>,
}

#[derive(Serialize)]
struct AliasRequest<'a> {
    alias: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeysRequest<'a> {
    signing_key: &'a SigningKey,
    encryption_key: &'a EncryptionKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_km_version: Option<KmVersion>,
}

#[derive(Serialize)]
struct ResetRequest {
    confirm: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KmVersionAnswer {
    km_version: KmVersion,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OnboardingAnswer {
    onboarding_completed_at: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResetAnswer {
    pending_revocations: u64,
}

impl NodeClient {
    /// The user's identity.
    ///
    /// # Errors
    /// As for every request.
    pub async fn identity(&self) -> Result<Identity, ClientError> {
        self.get("/users/me/identity").await
    }

    /// Sets the alias. The node judges it, so any text can be tried.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `invalid_alias`, `alias_taken` or `alias_in_use`; otherwise as
    /// for every request.
    pub async fn set_alias(&self, alias: &str) -> Result<Name, ClientError> {
        self.call(Method::PATCH, "/users/me/alias", Some(&AliasRequest { alias })).await
    }

    /// Registers the public keys and gives the version they have. `expected` is the version that this device
    /// knows; it is needed once data is sealed under the keys of before.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `invalid_key`, `rotation_required` or `rotation_conflict`;
    /// otherwise as for every request.
    pub async fn register_keys(
        &self,
        signing: &SigningKey,
        encryption: &EncryptionKey,
        expected: Option<KmVersion>,
    ) -> Result<KmVersion, ClientError> {
        let request =
            KeysRequest { signing_key: signing, encryption_key: encryption, expected_km_version: expected };
        let answer: KmVersionAnswer = self.call(Method::PUT, "/users/me/keys", Some(&request)).await?;
        Ok(answer.km_version)
    }

    /// The version of the keys.
    ///
    /// # Errors
    /// As for every request.
    pub async fn km_version(&self) -> Result<KmVersion, ClientError> {
        let answer: KmVersionAnswer = self.get("/users/me/km-version").await?;
        Ok(answer.km_version)
    }

    /// **Erases** everything that is sealed under the user's keys, the keys and every relationship, and
    /// gives the number of peers that have yet to be told. The API's safeguard, a literal text, is sent
    /// along: asking the user is up to the caller.
    ///
    /// # Errors
    /// As for every request; nothing is erased then, unless it is [`ClientError::Unreachable`] or
    /// [`ClientError::TimedOut`], after which it is not known.
    pub async fn reset_identity(&self) -> Result<u64, ClientError> {
        let request = ResetRequest { confirm: "erase-all-my-data" };
        let answer: ResetAnswer = self.call(Method::POST, "/users/me/identity/reset", Some(&request)).await?;
        Ok(answer.pending_revocations)
    }

    /// Changes the names and the picture of the profile.
    ///
    /// # Errors [`ClientError::Refused`] with the code `validation_failed` for a name that is too
    /// long, or a picture that is no https URL; otherwise as for every request.
    pub async fn change_profile(&self, change: &ProfileChange) -> Result<ProfileNames, ClientError> {
        self.call(Method::PATCH, "/users/me/profile", Some(change)).await
    }

    /// Notes that the user is through a client's first steps, and gives when that was first noted.
    ///
    /// # Errors
    /// As for every request.
    pub async fn complete_onboarding(&self) -> Result<Timestamp, ClientError> {
        let path = "/users/me/onboarding/complete";
        let answer: OnboardingAnswer = self.call(Method::POST, path, None::<&()>).await?;
        Ok(answer.onboarding_completed_at)
    }
}
