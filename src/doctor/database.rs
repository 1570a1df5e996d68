//! The database: whole, and with the schema of this version.

use vellum_store::Store;
use vellum_store::outbox::State;
use vellum_store::outbox::overview;
use vellum_store::{StoreError, node_state, schema};

use super::Finding;

/// What keeps the database from being looked at as it is: it is not there, or of an older version.
pub async fn schema(url: &str) -> Option<Finding> {
    // What cannot be read is told when the database is opened.
    let history = schema::history(url).await.ok()?;
    let missing = history.iter().filter(|step| !step.applied).count();
    if missing == 0 {
        return None;
    }
    if missing == history.len() {
        let says = format!("no node at {}", Store::place(url));
        let advice = "see data_dir and database.url; vellum serve makes one";
        return Some(Finding::broken("database", says, advice));
    }
    let says = format!("an older version made it: {missing} steps of its history are to be made");
    Some(Finding::doubtful("database", says, "start the node, or vellum db migrate"))
}

pub async fn check(store: &Store) -> Vec<Finding> {
    let advice = "stop the node, keep a copy of the data folder, and restore a backup";
    let whole = match store.integrity().await {
        Ok(problems) if problems.is_empty() => Finding::well("database", "whole, with this version's schema"),
        Ok(problems) => Finding::broken("database", problems.join("; "), advice),
        Err(error) => Finding::broken("database", error.to_string(), advice),
    };
    let queue = match queue(store).await {
        Ok(finding) => finding,
        Err(error) => Finding::broken("queue", error.to_string(), "see the database"),
    };
    vec![whole, queue]
}

async fn queue(store: &Store) -> Result<Finding, StoreError> {
    let mut conn = store.read().await?;
    let depths = overview::depths(&mut conn).await?;
    let rows = |state| depths.iter().find(|depth| depth.state == state).map_or(0, |depth| depth.rows);
    let says = format!(
        "{} on their way, {} wait for a signature, {} refused for good",
        rows(State::Queued) + rows(State::Delivering),
        rows(State::AwaitingSignature),
        rows(State::Rejected)
    );
    if node_state::deliveries_paused(&mut conn).await? {
        return Ok(Finding::doubtful(
            "queue",
            format!("{says}; deliveries are paused"),
            "vellum queue resume",
        ));
    }
    Ok(Finding::well("queue", says))
}
