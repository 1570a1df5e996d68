//! What the next start would refuse: another database, other keys, another domain.

use super::Finding;
use crate::config::Settings;
use crate::start_check::{Accepted, Fault, StartCheck};

/// Nothing to say where the node would start.
pub async fn check(settings: &Settings) -> Vec<Finding> {
    match faults(settings).await {
        Ok(faults) => faults
            .into_iter()
            .map(|Fault { about, says, advice }| Finding::broken(about, says, advice))
            .collect(),
        Err(error) => {
            vec![Finding::broken("start", format!("{error:#}"), "the node does not start like this")]
        }
    }
}

async fn faults(settings: &Settings) -> anyhow::Result<Vec<Fault>> {
    let check = StartCheck::read(settings, Accepted::default()).await?;
    Ok(check.faults(settings.domain().as_ref()).await?)
}
