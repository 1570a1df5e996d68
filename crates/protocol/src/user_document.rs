//! A user as their server shows them, `/.well-known/user/{alias}` (wire protocol, section 5).

use serde::Serialize;

use crate::json::Json;
use crate::keys::{EncryptionKey, KeyError, SigningKey};
use crate::{Handle, HandleError, text};

/// The longest name that is taken from a peer, in characters.
const LONGEST_NAME: usize = 200;
/// The longest address of a picture that is taken from a peer, in characters.
const LONGEST_PICTURE: usize = 2_000;

/// What the network can know of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserDocument {
    /// The handle as the user spells it.
    pub handle: Handle,
    /// What the user's envelopes are verified with.
    pub signing_key: SigningKey,
    /// What is sealed for the user with; written as the empty text when there is none.
    #[serde(serialize_with = "key_or_empty")]
    pub encryption_key: Option<EncryptionKey>,
    /// Where messages for the user go.
    pub inbox: String,
    /// First and last name, if given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The address of a picture, if given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture: Option<String>,
}

/// A document that is not a usable user document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserDocumentError {
    /// A member is missing or of a wrong type.
    #[error("the user document has no usable {0}")]
    Missing(&'static str),
    /// The handle is none.
    #[error("the user document's handle is unusable: {0}")]
    Handle(HandleError),
    /// A key cannot be used.
    #[error("the user document's {0} is unusable: {1}")]
    Key(&'static str, KeyError),
}

impl UserDocument {
    /// Reads a user document. A name or picture that is not fit to be kept is left out: the user
    /// can do without either.
    ///
    /// # Errors
    /// [`UserDocumentError`].
    pub fn parse(json: &Json) -> Result<Self, UserDocumentError> {
        let optional = |name: &str| {
            json.get(name).and_then(Json::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let required = |name: &'static str| optional(name).ok_or(UserDocumentError::Missing(name));
        let signing_key = SigningKey::parse(&required("signingKey")?);
        let encryption_key = optional("encryptionKey").map(|key| EncryptionKey::parse(&key)).transpose();
        Ok(Self {
            handle: Handle::parse(&required("handle")?).map_err(UserDocumentError::Handle)?,
            signing_key: signing_key.map_err(|reason| UserDocumentError::Key("signingKey", reason))?,
            encryption_key: encryption_key
                .map_err(|reason| UserDocumentError::Key("encryptionKey", reason))?,
            inbox: required("inbox")?,
            name: optional("name").and_then(|name| usable_name(&name)),
            picture: optional("picture").filter(|picture| is_usable_picture(picture)),
        })
    }
}

fn usable_name(name: &str) -> Option<String> {
    let name = text::without_control_characters(name);
    (1..=LONGEST_NAME).contains(&name.chars().count()).then_some(name)
}

/// Whether others may be shown a picture from this address. No other scheme: what a browser does
/// with `data:`, `javascript:` or `http:` is not for a stranger to choose.
fn is_usable_picture(address: &str) -> bool {
    let is_https = address.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
    is_https
        && address.chars().count() <= LONGEST_PICTURE
        && !address.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn key_or_empty<S: serde::Serializer>(key: &Option<EncryptionKey>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&key.map(|key| key.to_base64()).unwrap_or_default())
}
