//! What the layers say, as they say it, and the checks that turn it into settings.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use vellum_actors::delivery::RetryPolicy;
use vellum_actors::invitations::InvitationLimits;
use vellum_actors::peer::policy::Mode;
use vellum_actors::sign_in::CodeBounds;
use vellum_store::usage::Usage;

use crate::http::LONGEST_BODY;
use crate::http::bodies_in_flight::Bounds;

use super::{
    Federation, Http, Limits, Log, LogFormat, Mail, Origin, Settings, SettingsError, StartTls, Telemetry,
};
use crate::mail::url::SmtpUrl;

const DAY_MILLIS: i64 = 86_400_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub data_dir: PathBuf,
    #[serde(default)]
    database: RawDatabase,
    http: RawHttp,
    #[serde(default)]
    server: RawServer,
    federation: RawFederation,
    limits: Limits,
    invitations: RawInvitations,
    quotas: RawQuotas,
    mail: RawMail,
    auth: RawAuth,
    log: RawLog,
    telemetry: RawTelemetry,
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
    cross_site_cookies: bool,
    legacy_client_stubs: bool,
    trusted_proxies: Vec<String>,
    metrics_networks: Vec<String>,
    longest_upload: usize,
    bodies_in_flight: usize,
    bodies_in_flight_per_user: usize,
    bodies_in_flight_per_address: usize,
    drain_ms: u64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawServer {
    identity_key: Option<SecretString>,
    wrapping_keys: Option<SecretString>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFederation {
    allow_private_peers: bool,
    flush_wait_ms: u64,
    in_flight_per_peer: u32,
    mode: String,
    retry_first_ms: u64,
    retry_longest_ms: u64,
    retry_multiplier: f64,
    retry_randomization: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInvitations {
    per_server: u32,
    per_recipient: u32,
    days: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawQuotas {
    bytes: u64,
    blobs: u64,
    collections: u64,
    slots: u64,
    shares: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMail {
    smtp_url: Option<SecretString>,
    from: String,
    starttls: String,
    allow_plaintext: bool,
    ca_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuth {
    registration: String,
    wrong_codes_per_day: u32,
    wrong_codes_per_known_source: u32,
    wrong_codes_of_known_sources: u32,
    emails_at_once: u32,
    email_interval_seconds: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    format: Option<String>,
    filter: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTelemetry {
    otlp_endpoint: Option<String>,
    sample_ratio: f64,
}

pub(super) fn wrong(name: &'static str, reason: impl fmt::Display, allowed: &'static str) -> SettingsError {
    SettingsError::Wrong { name, reason: reason.to_string(), allowed }
}

impl Raw {
    /// Turns what the layers say into settings, or names the first that cannot be used.
    pub fn check(self) -> Result<Settings, SettingsError> {
        let raw = self;
        let database_url = raw.database.url.unwrap_or_else(|| default_database(&raw.data_dir));
        if !["sqlite:", "postgres://", "postgresql://"].iter().any(|kind| database_url.starts_with(kind)) {
            let allowed = "sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE";
            return Err(wrong("database.url", "unknown kind of database", allowed));
        }
        Ok(Settings {
            data_dir: raw.data_dir,
            database_url: database_url.into(),
            http: check_http(raw.http)?,
            identity_key: raw.server.identity_key,
            wrapping_keys: raw.server.wrapping_keys,
            federation: check_federation(&raw.federation)?,
            limits: check_limits(raw.limits)?,
            invitations: check_invitations(&raw.invitations)?,
            quotas: check_quotas(&raw.quotas)?,
            mail: check_mail(raw.mail)?,
            code_bounds: check_code_bounds(&raw.auth)?,
            open_registration: match raw.auth.registration.as_str() {
                "invite" => false,
                "open" => true,
                other => {
                    return Err(wrong("auth.registration", format!("\"{other}\""), "\"invite\" or \"open\""));
                }
            },
            log: Log {
                format: log_format(raw.log.format.as_deref())?,
                filter: check_filter(raw.log.filter)?,
            },
            telemetry: check_telemetry(raw.telemetry)?,
        })
    }
}

fn default_database(data_dir: &Path) -> String {
    format!("sqlite://{}", data_dir.join("vellum.db").display())
}

fn check_http(raw: RawHttp) -> Result<Http, SettingsError> {
    let bodies_in_flight = bodies_in_flight(&raw)?;
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
                wrong("http.origin", reason, "scheme, host and port, such as https://node.example")
            })
        })
        .transpose()?;
    if !(65_536..=1_073_741_824).contains(&raw.longest_upload) {
        return Err(wrong("http.longest_upload", raw.longest_upload, "65536 to 1073741824 bytes"));
    }
    if raw.drain_ms > 3000 {
        return Err(wrong("http.drain_ms", raw.drain_ms, "0 to 3000"));
    }
    let client_origins = raw.client_origins.iter().filter(|text| !text.trim().is_empty()).map(|text| {
        Origin::parse(text.trim()).map_err(|reason| {
            wrong("http.client_origins", reason, "origins such as https://app.example, comma-separated")
        })
    });
    let client_origins: Vec<Origin> = client_origins.collect::<Result<_, _>>()?;
    let is_https = origin.as_ref().is_some_and(Origin::is_https);
    if raw.cross_site_cookies && (client_origins.is_empty() || !is_https) {
        let reason = "browsers take such cookies over https only, and they are for configured clients";
        let allowed = "true with an https http.origin and with http.client_origins, else false";
        return Err(wrong("http.cross_site_cookies", reason, allowed));
    }
    Ok(Http {
        listen,
        origin,
        client_origins,
        cross_site_cookies: raw.cross_site_cookies,
        legacy_client_stubs: raw.legacy_client_stubs,
        trusted_proxies: networks("http.trusted_proxies", &raw.trusted_proxies)?,
        metrics_networks: networks("http.metrics_networks", &raw.metrics_networks)?,
        longest_upload: raw.longest_upload,
        bodies_in_flight,
        drain: Duration::from_millis(raw.drain_ms),
    })
}

/// At least one ordinary body each.
fn bodies_in_flight(raw: &RawHttp) -> Result<Bounds, SettingsError> {
    let settings = [
        ("http.bodies_in_flight", raw.bodies_in_flight),
        ("http.bodies_in_flight_per_user", raw.bodies_in_flight_per_user),
        ("http.bodies_in_flight_per_address", raw.bodies_in_flight_per_address),
    ];
    if let Some((name, value)) = settings.into_iter().find(|(_, value)| *value < LONGEST_BODY) {
        return Err(wrong(name, value, "65536 bytes or more"));
    }
    let [(_, all), (_, per_user), (_, per_address)] = settings;
    Ok(Bounds { all, per_user, per_address }.for_uploads_of(raw.longest_upload))
}

fn networks(name: &'static str, texts: &[String]) -> Result<Vec<IpNet>, SettingsError> {
    let read = |text: &str| {
        let network = text.parse::<IpNet>();
        network
            .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
            .map_err(|_| wrong(name, format!("\"{text}\""), "networks such as 10.0.0.0/8, comma-separated"))
    };
    texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).map(read).collect()
}

fn check_federation(raw: &RawFederation) -> Result<Federation, SettingsError> {
    if raw.flush_wait_ms > 60_000 {
        return Err(wrong("federation.flush_wait_ms", raw.flush_wait_ms, "0 to 60000"));
    }
    if !(1..=64).contains(&raw.in_flight_per_peer) {
        return Err(wrong("federation.in_flight_per_peer", raw.in_flight_per_peer, "1 to 64"));
    }
    Ok(Federation {
        allow_private_peers: raw.allow_private_peers,
        flush_wait: Duration::from_millis(raw.flush_wait_ms),
        in_flight_per_peer: raw.in_flight_per_peer,
        mode: match raw.mode.as_str() {
            "block_list" => Mode::BlockList,
            "allow_list" => Mode::AllowList,
            other => {
                let allowed = "\"block_list\" or \"allow_list\"";
                return Err(wrong("federation.mode", format!("\"{other}\""), allowed));
            }
        },
        retry: check_retry(raw)?,
    })
}

fn check_retry(raw: &RawFederation) -> Result<RetryPolicy, SettingsError> {
    if !(10..=3_600_000).contains(&raw.retry_first_ms) {
        return Err(wrong("federation.retry_first_ms", raw.retry_first_ms, "10 to 3600000"));
    }
    if !(raw.retry_first_ms..=86_400_000).contains(&raw.retry_longest_ms) {
        let allowed = "retry_first_ms to 86400000";
        return Err(wrong("federation.retry_longest_ms", raw.retry_longest_ms, allowed));
    }
    if !(1.0..=10.0).contains(&raw.retry_multiplier) {
        return Err(wrong("federation.retry_multiplier", raw.retry_multiplier, "1 to 10"));
    }
    if !(0.0..=1.0).contains(&raw.retry_randomization) {
        return Err(wrong("federation.retry_randomization", raw.retry_randomization, "0 to 1"));
    }
    Ok(RetryPolicy {
        first: Duration::from_millis(raw.retry_first_ms),
        multiplier: raw.retry_multiplier,
        randomization: raw.retry_randomization,
        longest: Duration::from_millis(raw.retry_longest_ms),
    })
}

fn check_limits(limits: Limits) -> Result<Limits, SettingsError> {
    let named = [
        ("limits.sign_in_per_minute", limits.sign_in_per_minute),
        ("limits.inbox_per_minute", limits.inbox_per_minute),
        ("limits.inbox_per_server_per_minute", limits.inbox_per_server_per_minute),
        ("limits.documents_per_minute", limits.documents_per_minute),
        ("limits.documents_per_peer_per_minute", limits.documents_per_peer_per_minute),
        ("limits.wrap_secrets_per_minute", limits.wrap_secrets_per_minute),
        ("limits.wrap_secret_rotations_per_minute", limits.wrap_secret_rotations_per_minute),
        ("limits.commits_per_minute", limits.commits_per_minute),
        ("limits.flushes_per_minute", limits.flushes_per_minute),
        ("limits.resolves_per_minute", limits.resolves_per_minute),
        ("limits.invites_per_minute", limits.invites_per_minute),
        ("limits.key_syncs_per_minute", limits.key_syncs_per_minute),
        ("limits.lookups_per_peer_per_minute", limits.lookups_per_peer_per_minute),
    ];
    match named.into_iter().find(|(_, rate)| *rate == 0) {
        Some((name, _)) => Err(wrong(name, 0, "1 or more; limits.enabled = false switches all of them off")),
        None => Ok(limits),
    }
}

fn check_invitations(raw: &RawInvitations) -> Result<InvitationLimits, SettingsError> {
    let RawInvitations { per_server, per_recipient, days } = *raw;
    if !(1..=1000).contains(&per_server) {
        return Err(wrong("invitations.per_server", per_server, "1 to 1000"));
    }
    if !(per_server..=10_000).contains(&per_recipient) {
        return Err(wrong("invitations.per_recipient", per_recipient, "per_server to 10000"));
    }
    if !(1..=3650).contains(&days) {
        return Err(wrong("invitations.days", days, "1 to 3650"));
    }
    Ok(InvitationLimits { per_server, per_recipient, lifetime_millis: days * DAY_MILLIS })
}

fn check_quotas(raw: &RawQuotas) -> Result<Usage, SettingsError> {
    let RawQuotas { bytes, blobs, collections, slots, shares } = *raw;
    let named = [
        ("quotas.bytes", bytes),
        ("quotas.blobs", blobs),
        ("quotas.collections", collections),
        ("quotas.slots", slots),
        ("quotas.shares", shares),
    ];
    match named.into_iter().find(|(_, quota)| *quota == 0) {
        Some((name, _)) => Err(wrong(name, 0, "1 or more")),
        None => Ok(Usage { bytes, blobs, collections, slots, shares }),
    }
}

fn check_code_bounds(raw: &RawAuth) -> Result<CodeBounds, SettingsError> {
    let wrong_codes = "1 to 1000000; the default keeps the chance to guess a code below 1 in 100000 a day";
    for (name, number, most, allowed) in [
        ("auth.wrong_codes_per_day", raw.wrong_codes_per_day, 1_000_000, wrong_codes),
        ("auth.wrong_codes_per_known_source", raw.wrong_codes_per_known_source, 1_000_000, wrong_codes),
        ("auth.wrong_codes_of_known_sources", raw.wrong_codes_of_known_sources, 1_000_000, wrong_codes),
        ("auth.emails_at_once", raw.emails_at_once, 10_000, "1 to 10000"),
        ("auth.email_interval_seconds", raw.email_interval_seconds, 86_400, "1 to 86400"),
    ] {
        if !(1..=most).contains(&number) {
            return Err(wrong(name, number, allowed));
        }
    }
    Ok(CodeBounds {
        wrong_codes_per_day: raw.wrong_codes_per_day,
        wrong_codes_per_known_source: raw.wrong_codes_per_known_source,
        wrong_codes_of_known_sources: raw.wrong_codes_of_known_sources,
        emails_at_once: raw.emails_at_once,
        email_interval_millis: i64::from(raw.email_interval_seconds) * 1000,
    })
}

fn check_mail(raw: RawMail) -> Result<Mail, SettingsError> {
    let smtp_url = raw.smtp_url.map(|url| {
        SmtpUrl::parse(url.expose_secret()).map_err(|reason| {
            let allowed = "smtp://USER:PASSWORD@HOST:587 or smtps://USER:PASSWORD@HOST; \
                           see mail.starttls for encryption";
            wrong("mail.smtp_url", reason, allowed)
        })
    });
    if raw.from.parse::<lettre::message::Mailbox>().is_err() {
        return Err(wrong(
            "mail.from",
            format!("\"{}\"", raw.from),
            "a sender such as Vellum <vellum@node.example>",
        ));
    }
    let starttls = match raw.starttls.as_str() {
        "required" => StartTls::Required,
        "opportunistic" => StartTls::Opportunistic,
        "off" => StartTls::Off,
        other => {
            let allowed = "\"required\", \"opportunistic\" or \"off\"";
            return Err(wrong("mail.starttls", format!("\"{other}\""), allowed));
        }
    };
    Ok(Mail {
        smtp_url: smtp_url.transpose()?,
        from: raw.from,
        starttls,
        allow_plaintext: raw.allow_plaintext,
        ca_file: raw.ca_file,
    })
}

fn check_telemetry(raw: RawTelemetry) -> Result<Telemetry, SettingsError> {
    if let Some(endpoint) = &raw.otlp_endpoint
        && !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme))
    {
        let allowed = "the collector's address, such as http://127.0.0.1:4318";
        return Err(wrong("telemetry.otlp_endpoint", format!("\"{endpoint}\""), allowed));
    }
    if !(0.0..=1.0).contains(&raw.sample_ratio) {
        return Err(wrong("telemetry.sample_ratio", raw.sample_ratio, "0 to 1"));
    }
    Ok(Telemetry { otlp_endpoint: raw.otlp_endpoint, sample_ratio: raw.sample_ratio })
}

fn log_format(text: Option<&str>) -> Result<Option<LogFormat>, SettingsError> {
    match text {
        None => Ok(None),
        Some("pretty") => Ok(Some(LogFormat::Pretty)),
        Some("json") => Ok(Some(LogFormat::Json)),
        Some(other) => Err(wrong("log.format", format!("\"{other}\""), "\"pretty\" or \"json\"")),
    }
}

fn check_filter(filter: String) -> Result<String, SettingsError> {
    tracing_subscriber::EnvFilter::try_new(&filter)
        .map_err(|error| wrong("log.filter", error, "levels such as info, or info,vellum=debug"))?;
    Ok(filter)
}
