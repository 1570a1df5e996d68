//! The layered settings: built-in defaults, a file, the environment, flags; typed, and checked at start.
//!
//! `config/default.toml` is the reference and the lowest layer at once, so the two cannot differ. A
//! setting that is wrong or unknown is refused with its name and what is allowed; nothing starts then.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{Config, Environment, File, FileFormat};
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use vellum_protocol::Domain;

const DEFAULTS: &str = include_str!("../config/default.toml");
/// Names the settings' file; it is not a setting itself.
const FILE_VARIABLE: &str = "VELLUM_CONFIG";

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// One setting is wrong.
    #[error("the setting {name} is wrong: {reason}. Allowed: {allowed}")]
    Wrong {
        /// Its name, as in the file.
        name: &'static str,
        /// What is wrong, without repeating secrets.
        reason: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// A layer cannot be read, or has an unknown or mistyped setting. The text names it.
    #[error("the settings cannot be read: {0}")]
    Unreadable(#[from] ::config::ConfigError),
}

fn wrong(name: &'static str, reason: impl fmt::Display, allowed: &'static str) -> SettingsError {
    SettingsError::Wrong {
        name,
        reason: reason.to_string(),
        allowed,
    }
}

/// What the command line says about settings; it has the last word.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
}

/// Every setting of a node.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Database, keys and outbox.
    pub data_dir: PathBuf,
    /// `sqlite://…`
    pub database_url: String,
    /// What clients and peers reach.
    pub http: Http,
    /// Base64 of the server key's seed, if it is not kept in `data_dir`.
    pub identity_key: Option<SecretString>,
    /// Other nodes.
    pub federation: Federation,
    /// Rate limits.
    pub limits: Limits,
    /// Letters.
    pub mail: Mail,
    /// Whether a code for an unknown address makes an account.
    pub open_registration: bool,
    /// Logs.
    pub log: Log,
}

/// Settings `http.*`.
#[derive(Debug, Clone)]
pub struct Http {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The public origin; `None` until the port is known.
    pub origin: Option<Origin>,
    /// Origins of web clients.
    pub client_origins: Vec<Origin>,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// Settings `federation.*`.
#[derive(Debug, Clone, Copy)]
pub struct Federation {
    /// Whether peers may be on loopback and private addresses.
    pub allow_private_peers: bool,
    /// How long a flush waits.
    pub flush_wait: Duration,
    /// Attempts at once to one peer.
    pub in_flight_per_peer: u32,
}

/// Settings `limits.*`, in requests a minute and client address.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Whether there are limits at all.
    pub enabled: bool,
    /// Signing in.
    pub sign_in_per_minute: u32,
    /// The inbox.
    pub inbox_per_minute: u32,
    /// The well-known documents.
    pub documents_per_minute: u32,
}

/// Settings `mail.*`.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Where letters go; `None`: files.
    pub smtp_url: Option<SecretString>,
    /// Their sender.
    pub from: String,
}

/// Settings `log.*`.
#[derive(Debug, Clone)]
pub struct Log {
    /// How lines look; `None`: by the terminal.
    pub format: Option<LogFormat>,
    /// What is logged.
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For programs.
    Json,
}

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
        let id = url
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let domain = Domain::parse(&id).map_err(|error| error.to_string())?;
        Ok(Self {
            text: format!("{}://{id}", url.scheme()),
            domain,
        })
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    data_dir: PathBuf,
    #[serde(default)]
    database: RawDatabase,
    http: RawHttp,
    #[serde(default)]
    server: RawServer,
    federation: RawFederation,
    limits: Limits,
    mail: RawMail,
    auth: RawAuth,
    log: RawLog,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawDatabase {
    url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttp {
    listen: String,
    origin: Option<String>,
    client_origins: Vec<String>,
    trusted_proxies: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawServer {
    identity_key: Option<SecretString>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFederation {
    allow_private_peers: bool,
    flush_wait_ms: u64,
    in_flight_per_peer: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMail {
    smtp_url: Option<SecretString>,
    from: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuth {
    registration: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    format: Option<String>,
    filter: String,
}

impl Settings {
    /// Reads every layer from this process's environment and files.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn load(flags: &Flags) -> Result<Self, SettingsError> {
        Self::load_from(flags, std::env::vars().collect())
    }

    /// Reads every layer, with the environment given.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn load_from(flags: &Flags, mut environment: Vec<(String, String)>) -> Result<Self, SettingsError> {
        let named = environment
            .iter()
            .find(|(name, _)| name == FILE_VARIABLE)
            .map(|(_, path)| PathBuf::from(path));
        environment.retain(|(name, value)| {
            name.starts_with("VELLUM_") && name != FILE_VARIABLE && !value.is_empty()
        });
        let mut layers = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(path) = flags.config.clone().or(named) {
            layers = layers.add_source(File::from(path).format(FileFormat::Toml).required(true));
        }
        let environment = Environment::with_prefix("VELLUM")
            .prefix_separator("_")
            .separator("__")
            .list_separator(",")
            .with_list_parse_key("http.client_origins")
            .with_list_parse_key("http.trusted_proxies")
            .try_parsing(true)
            .source(Some(environment.into_iter().collect()));
        let mut raw: Raw = layers.add_source(environment).build()?.try_deserialize()?;
        if let Some(data_dir) = &flags.data_dir {
            raw.data_dir.clone_from(data_dir);
        }
        Self::check(raw)
    }

    fn check(raw: Raw) -> Result<Self, SettingsError> {
        let database_url = raw
            .database
            .url
            .unwrap_or_else(|| default_database(&raw.data_dir));
        if !database_url.starts_with("sqlite:") {
            return Err(wrong("database.url", "unknown kind of database", "sqlite://PATH"));
        }
        Ok(Self {
            data_dir: raw.data_dir,
            database_url,
            http: check_http(raw.http)?,
            identity_key: raw.server.identity_key,
            federation: check_federation(&raw.federation)?,
            limits: check_limits(raw.limits)?,
            mail: check_mail(raw.mail)?,
            open_registration: match raw.auth.registration.as_str() {
                "invite" => false,
                "open" => true,
                other => {
                    return Err(wrong(
                        "auth.registration",
                        format!("\"{other}\""),
                        "\"invite\" or \"open\"",
                    ));
                }
            },
            log: Log {
                format: log_format(raw.log.format.as_deref())?,
                filter: check_filter(raw.log.filter)?,
            },
        })
    }

    /// The public origin, once the port is known.
    ///
    /// # Errors
    /// Never for a port that a listener has.
    pub fn origin_at(&self, port: u16) -> Result<Origin, SettingsError> {
        match &self.http.origin {
            Some(origin) => Ok(origin.clone()),
            None => Origin::parse(&format!("http://localhost:{port}"))
                .map_err(|reason| wrong("http.origin", reason, "an origin such as https://node.example")),
        }
    }
}

fn default_database(data_dir: &Path) -> String {
    format!("sqlite://{}", data_dir.join("vellum.db").display())
}

fn check_http(raw: RawHttp) -> Result<Http, SettingsError> {
    let listen = raw.listen.parse().map_err(|_| {
        wrong(
            "http.listen",
            format!("\"{}\"", raw.listen),
            "an IP address and a port, such as 127.0.0.1:5000",
        )
    })?;
    let origin = raw
        .origin
        .map(|text| {
            Origin::parse(&text).map_err(|reason| {
                wrong(
                    "http.origin",
                    reason,
                    "scheme, host and port, such as https://node.example",
                )
            })
        })
        .transpose()?;
    let client_origins = raw
        .client_origins
        .iter()
        .filter(|text| !text.trim().is_empty())
        .map(|text| {
            Origin::parse(text.trim()).map_err(|reason| {
                wrong(
                    "http.client_origins",
                    reason,
                    "origins such as https://app.example, comma-separated",
                )
            })
        });
    let trusted_proxies = raw
        .trusted_proxies
        .iter()
        .filter(|text| !text.trim().is_empty())
        .map(|text| {
            let text = text.trim();
            text.parse::<IpNet>()
                .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
                .map_err(|_| {
                    wrong(
                        "http.trusted_proxies",
                        format!("\"{text}\""),
                        "networks such as 10.0.0.0/8, comma-separated",
                    )
                })
        });
    Ok(Http {
        listen,
        origin,
        client_origins: client_origins.collect::<Result<_, _>>()?,
        trusted_proxies: trusted_proxies.collect::<Result<_, _>>()?,
    })
}

fn check_federation(raw: &RawFederation) -> Result<Federation, SettingsError> {
    if raw.flush_wait_ms > 60_000 {
        return Err(wrong("federation.flush_wait_ms", raw.flush_wait_ms, "0 to 60000"));
    }
    if !(1..=64).contains(&raw.in_flight_per_peer) {
        return Err(wrong(
            "federation.in_flight_per_peer",
            raw.in_flight_per_peer,
            "1 to 64",
        ));
    }
    Ok(Federation {
        allow_private_peers: raw.allow_private_peers,
        flush_wait: Duration::from_millis(raw.flush_wait_ms),
        in_flight_per_peer: raw.in_flight_per_peer,
    })
}

fn check_limits(limits: Limits) -> Result<Limits, SettingsError> {
    let named = [
        ("limits.sign_in_per_minute", limits.sign_in_per_minute),
        ("limits.inbox_per_minute", limits.inbox_per_minute),
        ("limits.documents_per_minute", limits.documents_per_minute),
    ];
    match named.into_iter().find(|(_, rate)| *rate == 0) {
        Some((name, _)) => Err(wrong(
            name,
            0,
            "1 or more; limits.enabled = false switches all of them off",
        )),
        None => Ok(limits),
    }
}

fn check_mail(raw: RawMail) -> Result<Mail, SettingsError> {
    let allowed = "smtp://HOST or smtps://USER:PASSWORD@HOST";
    if let Some(url) = &raw.smtp_url
        && !["smtp://", "smtps://"]
            .iter()
            .any(|scheme| url.expose_secret().starts_with(scheme))
    {
        return Err(wrong("mail.smtp_url", "unknown scheme", allowed));
    }
    if raw.from.parse::<lettre::message::Mailbox>().is_err() {
        return Err(wrong(
            "mail.from",
            format!("\"{}\"", raw.from),
            "a sender such as Vellum <vellum@node.example>",
        ));
    }
    Ok(Mail {
        smtp_url: raw.smtp_url,
        from: raw.from,
    })
}

fn log_format(text: Option<&str>) -> Result<Option<LogFormat>, SettingsError> {
    match text {
        None => Ok(None),
        Some("pretty") => Ok(Some(LogFormat::Pretty)),
        Some("json") => Ok(Some(LogFormat::Json)),
        Some(other) => Err(wrong(
            "log.format",
            format!("\"{other}\""),
            "\"pretty\" or \"json\"",
        )),
    }
}

fn check_filter(filter: String) -> Result<String, SettingsError> {
    tracing_subscriber::EnvFilter::try_new(&filter)
        .map_err(|error| wrong("log.filter", error, "levels such as info, or info,vellum=debug"))?;
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::load_from(&Flags::default(), environment.collect())
    }

    #[test]
    fn defaults_stand_where_nothing_else_is_said() {
        let settings = load(&[]).unwrap();
        assert_eq!(settings.data_dir, PathBuf::from("./data"));
        assert_eq!(settings.database_url, "sqlite://./data/vellum.db");
        assert_eq!(
            settings.origin_at(5000).unwrap().domain().as_str(),
            "localhost:5000"
        );
        assert!(
            !settings.federation.allow_private_peers
                && settings.limits.enabled
                && !settings.open_registration
        );
        assert_eq!(settings.federation.flush_wait, Duration::from_secs(10));
    }

    #[test]
    fn the_environment_overrides_defaults_and_flags_override_both() {
        let environment = [("VELLUM_DATA_DIR".to_owned(), "/from/env".to_owned())];
        let settings = Settings::load_from(&Flags::default(), environment.to_vec()).unwrap();
        assert_eq!(settings.data_dir, PathBuf::from("/from/env"));
        let flags = Flags {
            data_dir: Some("/from/flag".into()),
            ..Flags::default()
        };
        let settings = Settings::load_from(&flags, environment.to_vec()).unwrap();
        assert_eq!(settings.data_dir, PathBuf::from("/from/flag"));
        assert_eq!(settings.database_url, "sqlite:///from/flag/vellum.db");
        let settings = load(&[
            (
                "VELLUM_HTTP__CLIENT_ORIGINS",
                "https://a.example, https://b.example/",
            ),
            ("VELLUM_HTTP__TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.1"),
            ("VELLUM_LIMITS__ENABLED", "false"),
            ("VELLUM_AUTH__REGISTRATION", "open"),
        ])
        .unwrap();
        assert_eq!(settings.http.client_origins[1].as_str(), "https://b.example");
        assert_eq!(settings.http.trusted_proxies.len(), 2);
        assert!(!settings.limits.enabled && settings.open_registration);
    }

    #[test]
    fn a_wrong_setting_is_refused_by_name_with_what_is_allowed() {
        for (variable, value, name, allowed) in [
            ("VELLUM_HTTP__LISTEN", "nowhere", "http.listen", "127.0.0.1:5000"),
            (
                "VELLUM_HTTP__ORIGIN",
                "https://node.example/path",
                "http.origin",
                "https://node.example",
            ),
            (
                "VELLUM_HTTP__ORIGIN",
                "https://me@node.example",
                "http.origin",
                "https://node.example",
            ),
            ("VELLUM_DATABASE__URL", "mysql://x", "database.url", "sqlite://"),
            (
                "VELLUM_AUTH__REGISTRATION",
                "maybe",
                "auth.registration",
                "\"open\"",
            ),
            (
                "VELLUM_FEDERATION__FLUSH_WAIT_MS",
                "999999",
                "federation.flush_wait_ms",
                "60000",
            ),
            ("VELLUM_LOG__FORMAT", "xml", "log.format", "\"json\""),
            ("VELLUM_LIMITS__ENABLED", "perhaps", "limits.enabled", "boolean"),
            (
                "VELLUM_LIMITS__INBOX_PER_MINUTE",
                "0",
                "limits.inbox_per_minute",
                "1 or more",
            ),
            (
                "VELLUM_MAIL__SMTP_URL",
                "ftp://mail.example",
                "mail.smtp_url",
                "smtps://",
            ),
            ("VELLUM_HTTP__LISTNE", "127.0.0.1:1", "listne", "listen"),
        ] {
            let told = load(&[(variable, value)]).unwrap_err().to_string();
            assert!(
                told.contains(name) && told.contains(allowed),
                "{variable}={value}: {told}"
            );
        }
    }

    #[test]
    fn origins_are_normalized() {
        for (text, origin, domain) in [
            ("https://Node.Example/", "https://node.example", "node.example"),
            ("https://node.example:443", "https://node.example", "node.example"),
            (
                "https://node.example:8443",
                "https://node.example:8443",
                "node.example:8443",
            ),
            ("http://localhost:5000", "http://localhost:5000", "localhost:5000"),
        ] {
            let parsed = Origin::parse(text).unwrap();
            assert_eq!((parsed.as_str(), parsed.domain().as_str()), (origin, domain));
        }
        for text in [
            "ftp://a.example",
            "https://[::1]:5000",
            "https://a.example/?q",
            "node.example",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }
}
