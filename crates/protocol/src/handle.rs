//! Names: aliases, domains, handles (wire protocol, section 1).
//!
//! The grammar is ASCII only and anchored to the whole text. It is no protection against requests to inner
//! networks: `169.254.169.254` is a domain like any other here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not an alias, a domain or a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// Not 3 to 30 of A–Z a–z 0–9 and _.
    #[error("an alias has 3 to 30 characters out of A-Z, a-z, 0-9 and _")]
    Alias,
    /// Not a host with an optional port.
    #[error("a domain is a host name of letters, digits, dots and hyphens, with an optional port")]
    Domain,
    /// A port that no address has.
    #[error("a port is 1 to 65535")]
    Port,
    /// Not exactly one `@`.
    #[error("a handle is an alias and a domain with one @ between them")]
    Handle,
}

/// A user's name on their node, as typed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Alias(String);

/// A node's name: host, and port where it is not the scheme's own. As written; also the server id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(String);

/// A user's name in the network: `alias@domain`, exactly as written.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle {
    text: String,
    alias: Alias,
    domain: Domain,
}

impl Alias {
    /// Reads an alias.
    ///
    /// # Errors
    /// [`HandleError::Alias`].
    pub fn parse(text: &str) -> Result<Self, HandleError> {
        let valid = (3..=30).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if valid { Ok(Self(text.to_owned())) } else { Err(HandleError::Alias) }
    }

    /// The alias in lower case: how a local user is found.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// The alias as typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Domain {
    /// Reads a domain.
    ///
    /// # Errors
    /// [`HandleError::Domain`].
    pub fn parse(text: &str) -> Result<Self, HandleError> {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        let bytes = host.as_bytes();
        let host_valid = bytes.len() >= 2
            && bytes.iter().all(|byte| inner(*byte))
            && bytes[0].is_ascii_alphanumeric()
            && bytes[bytes.len() - 1].is_ascii_alphanumeric();
        let port_valid =
            port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
        if host_valid && port_valid { Ok(Self(text.to_owned())) } else { Err(HandleError::Domain) }
    }

    /// The domain in lower case: how domains are compared for finding a node.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// The domain as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the port.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.split_once(':').map_or(self.0.as_str(), |(host, _)| host)
    }

    /// The port, if there is one.
    ///
    /// # Errors
    /// [`HandleError::Port`] for 0 and above 65535: the grammar takes such a domain, but
    /// nobody can connect to it. The same for leading zeros: with them one server would have any
    /// number of names, and each bound by name would count it anew.
    pub fn port(&self) -> Result<Option<u16>, HandleError> {
        match self.0.split_once(':') {
            None => Ok(None),
            Some((_, port)) if port.starts_with('0') => Err(HandleError::Port),
            Some((_, port)) => match port.parse() {
                Ok(0) | Err(_) => Err(HandleError::Port),
                Ok(port) => Ok(Some(port)),
            },
        }
    }

    /// Whether the host is this machine by name: the only hosts that plain http is ever used for.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1"
    }
}

impl Handle {
    /// Joins an alias and a domain.
    #[must_use]
    pub fn new(alias: Alias, domain: Domain) -> Self {
        Self { text: format!("{alias}@{domain}"), alias, domain }
    }

    /// Reads a handle.
    ///
    /// # Errors
    /// [`HandleError`], with the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, HandleError> {
        let (alias, domain) = text.split_once('@').ok_or(HandleError::Handle)?;
        if domain.contains('@') {
            return Err(HandleError::Handle);
        }
        Ok(Self { alias: Alias::parse(alias)?, domain: Domain::parse(domain)?, text: text.to_owned() })
    }

    /// The part before the `@`.
    #[must_use]
    pub fn alias(&self) -> &Alias {
        &self.alias
    }

    /// The part after the `@`.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The handle exactly as written: how it is signed and compared in envelopes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

macro_rules! text_type {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = HandleError;
            fn from_str(text: &str) -> Result<Self, HandleError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_type!(Alias);
text_type!(Domain);
text_type!(Handle);
