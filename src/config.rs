//! The layered settings: built-in defaults, a file, the environment, flags; typed, and checked at start.
//!
//! `config/default.toml` is the reference and the lowest layer at once, so the two cannot differ. A
//! setting that is wrong or unknown is refused with its name and what is allowed; nothing starts then.

mod layers;
mod origin;

pub use origin::Origin;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::builder::DefaultState;
use ::config::{Config, ConfigBuilder, Environment, File, FileFormat, Source, Value, ValueKind};
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use vellum_actors::delivery::RetryPolicy;
use vellum_actors::invitations::InvitationLimits;
use vellum_actors::peer::policy::Mode;
use vellum_actors::sign_in::CodeBounds;
use vellum_protocol::Domain;
use vellum_store::usage::Usage;

use crate::http::bodies_in_flight::Bounds;
use crate::mail::url::SmtpUrl;
use layers::{Raw, wrong};

const DEFAULTS: &str = include_str!("../config/default.toml");
/// Names the settings' file; it is not a setting itself.
const FILE_VARIABLE: &str = "VELLUM_CONFIG";
/// The one setting whose variable has no `__`.
const FOLDER_VARIABLE: &str = "VELLUM_DATA_DIR";

/// Whether a variable names a setting. Others that begin with the same word are somebody else's: for a service
/// called `vellum` Kubernetes sets `VELLUM_PORT` and `VELLUM_SERVICE_HOST`.
fn names_setting(variable: &str) -> bool {
    variable == FOLDER_VARIABLE || (variable.starts_with("VELLUM_") && variable.contains("__"))
}

/// This process's variables that concern the settings.
fn environment() -> Result<Vec<(String, String)>, SettingsError> {
    let mut found = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| *name == FILE_VARIABLE || names_setting(name)) else {
            continue;
        };
        let value = value.into_string().map_err(|_| {
            SettingsError::Unreadable(format!("the environment variable {name} is not valid UTF-8"))
        })?;
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

/// The layer that environment variables make.
fn environment_layer(variables: &[(String, String)]) -> Environment {
    Environment::with_prefix("VELLUM")
        .prefix_separator("_")
        .separator("__")
        .list_separator(",")
        .with_list_parse_key("http.client_origins")
        .with_list_parse_key("http.trusted_proxies")
        .with_list_parse_key("http.metrics_networks")
        .try_parsing(true)
        .source(Some(variables.iter().cloned().collect()))
}

/// Reads one layer over the defaults alone, so that an error can say where it comes from.
fn check_layer(source: impl Source + Send + Sync + 'static, name: &str) -> Result<(), SettingsError> {
    let layers = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml)).add_source(source);
    match read(layers) {
        Err(SettingsError::Unreadable(reason)) => Err(SettingsError::Unreadable(format!("{name}: {reason}"))),
        other => other.map(drop),
    }
}

/// Reads what layers say, without the white space around values.
fn read(layers: ConfigBuilder<DefaultState>) -> Result<Raw, SettingsError> {
    let mut layers = layers.build()?;
    trim(&mut layers.cache);
    Ok(layers.try_deserialize()?)
}

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
    Unreadable(String),
}

impl From<::config::ConfigError> for SettingsError {
    /// Without the lines of the file that the reader quotes: they may have a key or a password.
    fn from(error: ::config::ConfigError) -> Self {
        let text = error.to_string();
        let is_quoted =
            |line: &&str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|');
        let kept: Vec<&str> = text.lines().filter(|line| !is_quoted(line)).map(str::trim).collect();
        Self::Unreadable(kept.join("; "))
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
    /// `sqlite://…` or `postgres://…`, which carries a password.
    database_url: SecretString,
    /// What clients and peers reach.
    pub http: Http,
    /// Base64 of the server key's seed, if it is not kept in `data_dir`.
    pub identity_key: Option<SecretString>,
    /// The keys that device wrap secrets are encrypted with, if they are not kept in `data_dir`.
    pub wrapping_keys: Option<SecretString>,
    /// Other nodes.
    pub federation: Federation,
    /// Rate limits.
    pub limits: Limits,
    /// Bounds of open invitations.
    pub invitations: InvitationLimits,
    /// What each user may store.
    pub quotas: Usage,
    /// Emails.
    pub mail: Mail,
    /// Whether a code for an unknown address makes an account.
    pub open_registration: bool,
    /// Bounds on sign-in codes, by account.
    pub code_bounds: CodeBounds,
    /// Logs.
    pub log: Log,
    /// Traces.
    pub telemetry: Telemetry,
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
    /// Whether clients on other sites than this node's get cookies that their pages can use.
    pub cross_site_cookies: bool,
    /// Whether paths that only existing clients ask for get their empty answers.
    pub legacy_client_stubs: bool,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Networks that `/metrics` is for without a session.
    pub metrics_networks: Vec<IpNet>,
    /// The longest body of a rotation and of a blob, in bytes.
    pub longest_upload: usize,
    /// Bytes of bodies at once.
    pub bodies_in_flight: Bounds,
    /// How long a stopping node goes on taking connections.
    pub drain: Duration,
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
    /// With whom anything is exchanged.
    pub mode: Mode,
    /// The pauses after failed attempts.
    pub retry: RetryPolicy,
}

/// Settings `limits.*`, in requests a minute, by client address unless said otherwise.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Whether there are limits at all.
    pub enabled: bool,
    /// Signing in.
    pub sign_in_per_minute: u32,
    /// The inbox.
    pub inbox_per_minute: u32,
    /// The inbox, by sending server.
    pub inbox_per_server_per_minute: u32,
    /// The well-known documents.
    pub documents_per_minute: u32,
    /// The well-known documents, by peer, beyond that.
    pub documents_per_peer_per_minute: u32,
    /// Reading a device wrap secret, by user.
    pub wrap_secrets_per_minute: u32,
    /// Making all of them anew, by user.
    pub wrap_secret_rotations_per_minute: u32,
    /// Rotating the keys, by user.
    pub commits_per_minute: u32,
    /// Flushing revocations, by user.
    pub flushes_per_minute: u32,
    /// Looking somebody up, by user.
    pub resolves_per_minute: u32,
    /// Inviting somebody, by user.
    pub invites_per_minute: u32,
    /// Comparing friends' keys, by user.
    pub key_syncs_per_minute: u32,
    /// Look-ups of people at one other node, because users have started them.
    pub lookups_per_peer_per_minute: u32,
}

/// Settings `mail.*`.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The mail server; `None`: emails are files.
    pub smtp_url: Option<SmtpUrl>,
    /// The sender of emails.
    pub from: String,
    /// When a connection to `smtp://` is encrypted.
    pub starttls: StartTls,
    /// Whether user and password may be sent without encryption.
    pub allow_plaintext: bool,
    /// A file with a certificate authority to trust besides the built-in ones, as PEM.
    pub ca_file: Option<PathBuf>,
}

/// When a connection to a mail server is encrypted by STARTTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTls {
    /// Always; nothing is sent otherwise.
    Required,
    /// Where the server offers it.
    Opportunistic,
    /// Never.
    Off,
}

/// Settings `log.*`.
#[derive(Debug, Clone)]
pub struct Log {
    /// How lines look; `None`: by the terminal.
    pub format: Option<LogFormat>,
    /// What is logged.
    pub filter: String,
}

/// Settings `telemetry.*`.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// The collector that spans are exported to; `None`: nowhere.
    pub otlp_endpoint: Option<String>,
    /// The share of requests whose trace is exported, 0 to 1.
    pub sample_ratio: f64,
}

impl Telemetry {
    /// The share of requests whose trace is exported; 0 without a collector.
    #[must_use]
    pub fn exported_ratio(&self) -> f64 {
        if self.otlp_endpoint.is_some() { self.sample_ratio } else { 0.0 }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For programs.
    Json,
}

impl Settings {
    /// Reads every layer from this process's environment and files.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn load(flags: &Flags) -> Result<Self, SettingsError> {
        Self::load_from(flags, environment()?)
    }

    /// Reads every layer, with the environment given.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn load_from(flags: &Flags, mut environment: Vec<(String, String)>) -> Result<Self, SettingsError> {
        let named = environment.iter().find(|(name, _)| name == FILE_VARIABLE);
        let named =
            named.map(|(_, path)| trimmed(Path::new(path))).filter(|path| !path.as_os_str().is_empty());
        environment.retain(|(name, value)| names_setting(name) && !value.trim().is_empty());
        let mut layers = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(path) = flags.config.as_deref().map(trimmed).or(named) {
            let name = path.display().to_string();
            // Read here: of a file that may not be read the library would say that it is not there.
            let text = std::fs::read_to_string(&path)
                .map_err(|error| SettingsError::Unreadable(format!("{name}: {error}")))?;
            check_layer(File::from_str(&text, FileFormat::Toml), &name)?;
            layers = layers.add_source(File::from_str(&text, FileFormat::Toml));
        }
        for variable in &environment {
            let name = format!("the environment variable {}", variable.0);
            check_layer(environment_layer(std::slice::from_ref(variable)), &name)?;
        }
        let mut raw = read(layers.add_source(environment_layer(&environment)))?;
        if let Some(data_dir) = &flags.data_dir {
            raw.data_dir = trimmed(data_dir);
        }
        raw.check()
    }

    /// The database's address: `sqlite://…`, or `postgres://…`, which carries a password.
    #[must_use]
    pub fn database_url(&self) -> &str {
        self.database_url.expose_secret()
    }

    /// The node's domain, if it is known before the node listens: with port 0 it may not be.
    #[must_use]
    pub fn domain(&self) -> Option<Domain> {
        let port = self.http.listen.port();
        let origin = if port == 0 { self.http.origin.clone() } else { self.origin_at(port).ok() };
        origin.map(|origin| origin.domain().clone())
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

/// The path without white space around it, as for every setting.
fn trimmed(path: &Path) -> PathBuf {
    path.to_str().map_or_else(|| path.to_owned(), |text| PathBuf::from(text.trim()))
}

/// Removes white space around every text: a newline at the end of a file or a variable is no part
/// of its value.
fn trim(value: &mut Value) {
    match &mut value.kind {
        ValueKind::String(text) => *text = text.trim().to_owned(),
        ValueKind::Array(values) => values.iter_mut().for_each(trim),
        ValueKind::Table(table) => table.values_mut().for_each(trim),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::load_from(&Flags::default(), environment.collect())
    }

    #[test]
    fn defaults_stand_where_nothing_else_is_said() {
        let settings = load(&[]).unwrap();
        assert_eq!(settings.data_dir, PathBuf::from("./data"));
        assert_eq!(settings.database_url(), "sqlite://./data/vellum.db");
        assert_eq!(settings.origin_at(5000).unwrap().domain().as_str(), "localhost:5000");
        assert!(
            !settings.federation.allow_private_peers
                && settings.limits.enabled
                && !settings.open_registration
        );
        assert_eq!(settings.federation.flush_wait, Duration::from_secs(10));
        assert_eq!(settings.quotas, vellum_actors::user::DEFAULT_QUOTAS);
    }

    #[test]
    fn a_file_that_is_no_toml_is_refused_without_quoting_its_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vellum.toml");
        for line in ["identity_key = \"hunter2", "identity_key = hunter2", "identity_key = [\"hunter2\""] {
            std::fs::write(&path, format!("[server]\n{line}\n")).unwrap();
            let flags = Flags { config: Some(path.clone()), ..Flags::default() };
            let error = Settings::load_from(&flags, vec![]).unwrap_err();
            let (said, seen) = (error.to_string(), format!("{error:?}"));
            assert!(!said.contains("hunter2") && !seen.contains("hunter2"), "{said}");
            assert!(said.contains("line") && said.contains("vellum.toml"), "it says where: {said}");
        }
    }

    #[test]
    fn white_space_around_a_value_is_no_part_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vellum.toml");
        let text =
            "[database]\nurl = \"sqlite://one.db\\n\"\n[http]\nclient_origins = [\" https://a.example\"]\n";
        std::fs::write(&path, text).unwrap();
        let named = |value: String| {
            Settings::load_from(&Flags::default(), vec![("VELLUM_CONFIG".to_owned(), value)]).unwrap()
        };
        assert_eq!(named(format!("{}\n", path.display())).database_url(), "sqlite://one.db");
        assert_eq!(
            named(" \n".to_owned()).database_url(),
            "sqlite://./data/vellum.db",
            "as if it were unset"
        );
        let config = Some(format!(" {}\n", path.display()).into());
        let flags = Flags { config, data_dir: Some("/from/flag\n".into()) };
        assert_eq!(Settings::load_from(&flags, vec![]).unwrap().data_dir, PathBuf::from("/from/flag"));
        let flags = Flags { config: Some(path), ..Flags::default() };
        let environment = [
            ("VELLUM_HTTP__ORIGIN".to_owned(), "https://node.example\n".to_owned()),
            ("VELLUM_LIMITS__ENABLED".to_owned(), "false\n".to_owned()),
            ("VELLUM_MAIL__SMTP_URL".to_owned(), "\n".to_owned()),
        ];
        let settings = Settings::load_from(&flags, environment.to_vec()).unwrap();
        assert_eq!(settings.database_url(), "sqlite://one.db");
        assert_eq!(settings.http.client_origins[0].as_str(), "https://a.example");
        assert_eq!(settings.domain().unwrap().as_str(), "node.example");
        assert!(!settings.limits.enabled && settings.mail.smtp_url.is_none());
    }

    #[test]
    fn the_environment_overrides_defaults_and_flags_override_both() {
        let environment = [("VELLUM_DATA_DIR".to_owned(), "/from/env".to_owned())];
        let settings = Settings::load_from(&Flags::default(), environment.to_vec()).unwrap();
        assert_eq!(settings.data_dir, PathBuf::from("/from/env"));
        let flags = Flags { data_dir: Some("/from/flag".into()), ..Flags::default() };
        let settings = Settings::load_from(&flags, environment.to_vec()).unwrap();
        assert_eq!(settings.data_dir, PathBuf::from("/from/flag"));
        assert_eq!(settings.database_url(), "sqlite:///from/flag/vellum.db");
        let settings = load(&[
            ("VELLUM_HTTP__CLIENT_ORIGINS", "https://a.example, https://b.example/"),
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
    fn a_variable_of_somebody_else_is_not_read() {
        for name in
            ["VELLUM_PORT", "VELLUM_SERVICE_HOST", "VELLUM_PORT_5000_TCP", "VELLUM", "VELLUM_HTTP_LISTEN"]
        {
            load(&[(name, "tcp://10.0.0.1:5000")]).unwrap();
        }
    }

    #[test]
    fn a_wrong_setting_is_refused_by_name_with_what_is_allowed() {
        for (variable, value, name, allowed) in [
            ("VELLUM_HTTP__LISTEN", "nowhere", "http.listen", "127.0.0.1:5000"),
            ("VELLUM_HTTP__ORIGIN", "https://node.example/path", "http.origin", "https://node.example"),
            ("VELLUM_HTTP__ORIGIN", "https://me@node.example", "http.origin", "https://node.example"),
            ("VELLUM_DATABASE__URL", "mysql://x", "database.url", "sqlite://"),
            ("VELLUM_AUTH__REGISTRATION", "maybe", "auth.registration", "\"open\""),
            ("VELLUM_AUTH__WRONG_CODES_PER_DAY", "0", "auth.wrong_codes_per_day", "1 to 1000000"),
            ("VELLUM_AUTH__EMAILS_AT_ONCE", "0", "auth.emails_at_once", "1 to 10000"),
            ("VELLUM_AUTH__EMAIL_INTERVAL_SECONDS", "90000", "auth.email_interval_seconds", "1 to 86400"),
            ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "999999", "federation.flush_wait_ms", "60000"),
            ("VELLUM_HTTP__DRAIN_MS", "60000", "http.drain_ms", "3000"),
            ("VELLUM_LOG__FORMAT", "xml", "log.format", "\"json\""),
            ("VELLUM_TELEMETRY__OTLP_ENDPOINT", "grpc://x", "telemetry.otlp_endpoint", "http://"),
            ("VELLUM_TELEMETRY__SAMPLE_RATIO", "1.5", "telemetry.sample_ratio", "0 to 1"),
            ("VELLUM_LIMITS__ENABLED", "perhaps", "limits.enabled", "boolean"),
            ("VELLUM_LIMITS__INBOX_PER_MINUTE", "0", "limits.inbox_per_minute", "1 or more"),
            ("VELLUM_INVITATIONS__PER_SERVER", "0", "invitations.per_server", "1 to 1000"),
            ("VELLUM_INVITATIONS__PER_RECIPIENT", "19", "invitations.per_recipient", "per_server to 10000"),
            ("VELLUM_INVITATIONS__DAYS", "0", "invitations.days", "1 to 3650"),
            ("VELLUM_QUOTAS__BLOBS", "0", "quotas.blobs", "1 or more"),
            ("VELLUM_MAIL__SMTP_URL", "ftp://mail.example", "mail.smtp_url", "smtps://"),
            ("VELLUM_MAIL__SMTP_URL", "smtp://m.example?tls=required", "mail.smtp_url", "mail.starttls"),
            ("VELLUM_MAIL__STARTTLS", "always", "mail.starttls", "\"required\""),
            ("VELLUM_HTTP__LISTNE", "127.0.0.1:1", "VELLUM_HTTP__LISTNE", "listen"),
            ("VELLUM__HTTP__LISTEN", "127.0.0.1:1", "VELLUM__HTTP__LISTEN", "http"),
            ("VELLUM_HTPP__LISTEN", "127.0.0.1:1", "VELLUM_HTPP__LISTEN", "http"),
            ("VELLUM_HTTP__CROSS_SITE_COOKIES", "true", "http.cross_site_cookies", "http.client_origins"),
            ("VELLUM_MAIL__SMTP_URL", "smtp://m.example?tls=required", "mail.smtp_url", "mail.starttls"),
            ("VELLUM_MAIL__STARTTLS", "always", "mail.starttls", "\"required\""),
        ] {
            let told = load(&[(variable, value)]).unwrap_err().to_string();
            assert!(told.contains(name) && told.contains(allowed), "{variable}={value}: {told}");
        }
    }
}
