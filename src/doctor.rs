//! What operators trip over, looked at one by one (`vellum doctor`): each check says what it found and, where
//! something is wrong, what to do. Nothing is changed.

mod database;
mod folder;
mod mail;
mod origin;
mod peers;
mod proxies;
mod start;

use std::fmt;

use vellum_actors::Clock;
use vellum_store::Store;

use crate::config::Settings;
pub(crate) use mail::sender as mail_sender;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Well,
    /// Works, and may not for long, or not for everybody.
    Doubtful,
    /// Does not work.
    Broken,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Well => "well",
            Self::Doubtful => "doubtful",
            Self::Broken => "broken",
        })
    }
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub about: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub says: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Finding {
    fn well(about: &'static str, says: impl Into<String>) -> Self {
        Self { about, severity: Severity::Well, says: says.into(), advice: None }
    }

    fn doubtful(about: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { about, severity: Severity::Doubtful, says: says.into(), advice: Some(advice.into()) }
    }

    fn broken(about: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { about, severity: Severity::Broken, says: says.into(), advice: Some(advice.into()) }
    }
}

/// Looks at everything.
pub async fn examine(settings: &Settings) -> Vec<Finding> {
    let clock = Clock::system();
    let mut findings = folder::check(settings);
    findings.extend(start::check(settings).await);
    findings.push(mail::check(settings).await);
    if let Some(finding) = database::schema(settings.database_url()).await {
        // Opening the database would change it.
        findings.push(finding);
        findings.extend(origin::check(settings).await);
        return findings;
    }
    match Store::open(settings.database_url()).await {
        Ok(store) => {
            findings.extend(database::check(&store).await);
            findings.extend(origin::check(settings).await);
            findings.extend(peers::check(&store, settings, &clock).await);
            findings.push(proxies::check(&store, settings, &clock).await);
            findings.push(mail::queue(&store, &clock).await);
            store.close().await;
        }
        Err(error) => {
            let advice = "see database.url; a database of a newer version needs a newer vellum";
            findings.push(Finding::broken("database", error.to_string(), advice));
            findings.extend(origin::check(settings).await);
        }
    }
    findings
}
