//! The setting `mail.smtp_url`.

use percent_encoding::percent_decode_str;
use reqwest::Url;
use secrecy::SecretString;

/// A mail server, and how to sign in there.
#[derive(Debug, Clone)]
pub struct SmtpUrl {
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether the connection is encrypted from the start.
    pub implicit_tls: bool,
    /// User and password.
    pub credentials: Option<(String, SecretString)>,
}

impl SmtpUrl {
    /// Reads `smtp://` (port 25 if none is given) or `smtps://` (port 465).
    ///
    /// # Errors
    /// What is wrong, without repeating any part of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text.trim()).map_err(|_| "not a URL")?;
        let (implicit_tls, port) = match url.scheme() {
            "smtp" => (false, 25),
            "smtps" => (true, 465),
            _ => return Err("unknown scheme"),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("something follows the port (a / in a password is %2F)");
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("it names no server")?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.to_owned(),
            None => idna::domain_to_ascii(&decode(host)?).map_err(|_| "the server's name is none")?,
        };
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            ("", Some(_)) => return Err("a password without a user"),
            (_, None) => return Err("a user without a password"),
            (user, Some(password)) => Some((decode(user)?, decode(password)?.into())),
        };
        Ok(Self { host, port: url.port().unwrap_or(port), implicit_tls, credentials })
    }
}

fn decode(text: &str) -> Result<String, &'static str> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| "percent-encoding of no text")?;
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_url_names_server_port_encryption_and_credentials() {
        for (text, host, port, implicit_tls, user, password) in [
            ("smtp://mail.example", "mail.example", 25, false, None, None),
            ("smtp://mail.example:587/\n", "mail.example", 587, false, None, None),
            ("smtps://u:p@mail.example", "mail.example", 465, true, Some("u"), Some("p")),
            ("smtp://a%40b:p%2F%3A%25@m.example:2525", "m.example", 2525, false, Some("a@b"), Some("p/:%")),
            ("smtp://[::1]:25", "::1", 25, false, None, None),
            ("smtp://127.0.0.1", "127.0.0.1", 25, false, None, None),
            ("smtp://bücher.example", "xn--bcher-kva.example", 25, false, None, None),
        ] {
            let url = SmtpUrl::parse(text).unwrap_or_else(|reason| panic!("{text}: {reason}"));
            assert_eq!((url.host.as_str(), url.port, url.implicit_tls), (host, port, implicit_tls), "{text}");
            let seen = url.credentials.as_ref();
            assert_eq!(seen.map(|(user, _)| user.as_str()), user, "{text}");
            assert_eq!(seen.map(|(_, password)| password.expose_secret()), password, "{text}");
        }
        let shown = format!("{:?}", SmtpUrl::parse("smtp://u:hunter2@mail.example"));
        assert!(!shown.contains("hunter2"), "{shown}");
        for text in [
            "mail.example",
            "http://mail.example",
            "smtp://",
            "smtp://u@mail.example",
            "smtp://:p@mail.example",
            "smtp://u:p/w@mail.example",
            "smtp://mail.example?tls=required",
        ] {
            assert!(SmtpUrl::parse(text).is_err(), "{text}");
        }
    }
}
