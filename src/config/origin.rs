//! Origins: scheme, host and port.

use vellum_protocol::Domain;

/// Scheme, host and port: what a browser calls an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    text: String,
    domain: Domain,
}

impl Origin {
    /// Reads an origin, in lower case and without the scheme's own port.
    ///
    /// # Errors
    /// A reason in words: another scheme, a path, a query, a user, or a host that cannot be a domain.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("it must begin with http:// or https://".into());
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err("it must end after host and port".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it must not name a user".into());
        }
        let host = url.host_str().ok_or("it has no host")?;
        let id = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let domain = Domain::parse(&id).map_err(|error| error.to_string())?;
        Ok(Self { text: format!("{}://{id}", url.scheme()), domain })
    }

    /// The origin as browsers write it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host and port: the server id (wire protocol, section 1).
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether it is reached over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.text.starts_with("https:")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_normalized() {
        for (text, origin, domain) in [
            ("https://Node.Example/", "https://node.example", "node.example"),
            ("https://node.example:443", "https://node.example", "node.example"),
            ("https://node.example:8443", "https://node.example:8443", "node.example:8443"),
            ("http://localhost:5000", "http://localhost:5000", "localhost:5000"),
        ] {
            let parsed = Origin::parse(text).unwrap();
            assert_eq!((parsed.as_str(), parsed.domain().as_str()), (origin, domain));
        }
        for text in ["ftp://a.example", "https://[::1]:5000", "https://a.example/?q", "node.example"] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }
}
