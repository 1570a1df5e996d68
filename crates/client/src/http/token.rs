//! The session token as a secret: kept out of `Debug`, out of errors, and wiped from memory when dropped.

use std::fmt;

use reqwest::header::HeaderValue;
use serde::{Deserialize, Deserializer, de};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The token of a session. Whoever has it acts as the user.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SessionToken(String);

/// A text that cannot be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session token has at least one character, and only visible ASCII characters")]
pub struct BadToken;

impl SessionToken {
    /// Takes the text of a token.
    ///
    /// # Errors
    /// [`BadToken`] when it could not stand in a header.
    pub fn new(text: String) -> Result<Self, BadToken> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadToken);
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `Bearer …`, marked so that nothing prints or indexes it.
    pub(crate) fn authorization(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0))
            .expect("visible ASCII was checked when the token was made");
        value.set_sensitive(true);
        value
    }
}

impl<'de> Deserialize<'de> for SessionToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(..)")
    }
}
