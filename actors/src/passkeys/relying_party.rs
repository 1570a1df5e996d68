//! Whom passkeys are for: the site that a browser shows.

use webauthn_rs::prelude::{Url, Webauthn};
use webauthn_rs::{DEFAULT_AUTHENTICATOR_TIMEOUT, WebauthnBuilder};

use crate::Error;

/// What browsers show beside the host.
const NAME: &str = "Vellum";

/// A client's site. Passkeys belong to its host; its answers must come from exactly its origin.
#[derive(Debug, Clone)]
pub struct RelyingParty {
    origin: Url,
}

impl RelyingParty {
    /// The site with this origin.
    ///
    /// # Errors
    /// [`Error::PasskeysUnavailable`] when the origin has no host name: browsers know no passkeys there.
    pub fn new(origin: &str) -> Result<Self, Error> {
        let origin = Url::parse(origin).map_err(|_| Error::PasskeysUnavailable)?;
        if origin.domain().is_none() {
            return Err(Error::PasskeysUnavailable);
        }
        Ok(Self { origin })
    }

    /// The origin, as it was given.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.origin.as_str()
    }

    /// What checks answers for this site.
    pub(super) fn webauthn(&self) -> Result<Webauthn, Error> {
        // The constructor has seen that there is a host.
        let host = self.origin.domain().ok_or(Error::PasskeysUnavailable)?;
        let built = WebauthnBuilder::new(host, &self.origin)
            .map(|builder| builder.rp_name(NAME).timeout(DEFAULT_AUTHENTICATOR_TIMEOUT))
            .and_then(WebauthnBuilder::build);
        built.map_err(|error| internal(&error))
    }
}

/// Logs what cannot happen with rows that `passkeys` wrote.
pub(super) fn internal(error: &dyn std::fmt::Display) -> Error {
    tracing::error!(%error, "a passkey ceremony could not be carried on");
    Error::Internal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_needs_a_host_name() {
        for origin in ["https://app.example", "https://app.example:8443", "http://localhost:5000"] {
            assert!(RelyingParty::new(origin).is_ok(), "{origin}");
        }
        for origin in ["http://127.0.0.1:5000", "https://[::1]", "app.example"] {
            assert!(matches!(RelyingParty::new(origin), Err(Error::PasskeysUnavailable)), "{origin}");
        }
    }
}
