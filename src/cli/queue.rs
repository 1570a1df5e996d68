//! `vellum queue …`: what is on its way to other nodes. Works beside a running node, which does as told within
//! a second or two.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use vellum_actors::operators::{self, Paused};
use vellum_actors::{Clock, Error};
use vellum_protocol::Domain;
use vellum_store::outbox::State;
use vellum_store::outbox::overview::{self, QueueRow, Selection};
use vellum_store::{OutboxId, Store, node_state};

use super::{Context, on_store, print};
use crate::shown;

/// What to do with the queue.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Prints rows, oldest first, and how many there are.
    List {
        #[command(flatten)]
        wanted: Wanted,
        /// How many rows.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Prints one row.
    Show {
        /// Its id.
        id: String,
    },
    /// Tries queued rows at once: one, those for a node, or all.
    Retry {
        /// One row.
        id: Option<String>,
        /// Rows for this node.
        #[arg(long)]
        peer: Option<Domain>,
    },
    /// Lets deliveries wait: all, or those to one node.
    Pause {
        /// The node.
        #[arg(long)]
        peer: Option<Domain>,
    },
    /// Lets deliveries go on.
    Resume {
        /// The node.
        #[arg(long)]
        peer: Option<Domain>,
    },
    /// Removes a row for good.
    Drop {
        /// Its id.
        id: String,
    },
    /// Shows how the queue gets shorter, until nothing is on its way.
    Watch,
}

/// Which rows.
#[derive(Debug, Args)]
pub struct Wanted {
    /// Only rows for this node.
    #[arg(long)]
    peer: Option<Domain>,
    /// Only rows in this state: awaiting_signature, queued, delivering, rejected.
    #[arg(long, value_parser = parse_state)]
    state: Option<State>,
}

fn parse_state(word: &str) -> Result<State, String> {
    State::parse(word).ok_or_else(|| "awaiting_signature, queued, delivering or rejected".to_owned())
}

/// How often a watched queue is looked at.
const WATCH: Duration = Duration::from_millis(500);

/// Runs the command.
pub fn run(context: &Context, command: QueueCommand) -> anyhow::Result<()> {
    let json = context.json;
    on_store(context, async |store| match command {
        QueueCommand::List { wanted, limit } => list(store, json, wanted, limit).await,
        QueueCommand::Show { id } => show(store, json, id).await,
        QueueCommand::Retry { id, peer } => retry(store, json, id, peer).await,
        QueueCommand::Pause { peer } => pause(store, json, peer, true).await,
        QueueCommand::Resume { peer } => pause(store, json, peer, false).await,
        QueueCommand::Drop { id } => {
            operators::drop_row(store, OutboxId::from(id)).await?;
            say(json, "the row is gone");
            Ok(())
        }
        QueueCommand::Watch => watch(store, json).await,
    })
}

fn say(as_json: bool, text: &str) {
    print(&if as_json { json!({ "done": text }).to_string() } else { text.to_owned() });
}

async fn list(store: &Store, as_json: bool, wanted: Wanted, limit: u32) -> anyhow::Result<()> {
    let selection =
        Selection { id: None, peer_domain: wanted.peer.map(|domain| domain.folded()), state: wanted.state };
    let mut conn = store.read().await?;
    let rows = overview::rows(&mut conn, &selection, limit, 0).await?;
    let depths = overview::depths(&mut conn).await?;
    let paused = node_state::deliveries_paused(&mut conn).await?;
    if as_json {
        let rows: Vec<Value> = rows.iter().map(shown::queue_row).collect();
        let depths: serde_json::Map<String, Value> =
            depths.iter().map(|depth| (depth.state.as_str().to_owned(), json!(depth.rows))).collect();
        print(&json!({ "rows": rows, "depths": depths, "paused": paused }).to_string());
        return Ok(());
    }
    print(&format!("{:<36}  {:<18}  {:<30}  {:>8}  {}", "ID", "STATE", "FOR", "ATTEMPTS", "LAST ERROR"));
    for row in &rows {
        let error = row.last_error.as_deref().unwrap_or("-");
        let state = row.state.as_str();
        print(&format!(
            "{:<36}  {state:<18}  {:<30}  {:>8}  {error}",
            row.id.as_str(),
            row.peer_handle,
            row.attempts
        ));
    }
    let depths: Vec<String> =
        depths.iter().map(|depth| format!("{} {}", depth.rows, depth.state.as_str())).collect();
    print(&format!("{}{}", depths.join(", "), if paused { "; deliveries are paused" } else { "" }));
    Ok(())
}

async fn one(store: &Store, id: String) -> anyhow::Result<QueueRow> {
    let selection = Selection { id: Some(OutboxId::from(id)), ..Selection::default() };
    let mut conn = store.read().await?;
    overview::rows(&mut conn, &selection, 1, 0).await?.pop().context(Error::NotQueued)
}

async fn show(store: &Store, as_json: bool, id: String) -> anyhow::Result<()> {
    let row = shown::queue_row(&one(store, id).await?);
    if as_json {
        print(&row.to_string());
        return Ok(());
    }
    for (name, value) in row.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        print(&format!("{name:<16} {text}"));
    }
    Ok(())
}

async fn retry(store: &Store, as_json: bool, id: Option<String>, peer: Option<Domain>) -> anyhow::Result<()> {
    if let Some(id) = &id {
        let row = one(store, id.clone()).await?;
        if row.state != State::Queued {
            bail!("the row is {}: only a queued one can be tried", row.state.as_str());
        }
    }
    let wanted = Selection {
        id: id.map(OutboxId::from),
        peer_domain: peer.map(|domain| domain.folded()),
        state: Some(State::Queued),
    };
    let rows = operators::retry(store, &Clock::system(), wanted).await?;
    print(&if as_json { json!({ "rows": rows }).to_string() } else { format!("{rows} rows are due now") });
    Ok(())
}

async fn pause(store: &Store, as_json: bool, peer: Option<Domain>, paused: bool) -> anyhow::Result<()> {
    let whose = peer.as_ref().map_or_else(String::new, |peer| format!(" to {peer}"));
    operators::pause(store, peer.map_or(Paused::Everything, Paused::Peer), paused).await?;
    say(as_json, &format!("deliveries{whose} {}", if paused { "wait" } else { "go on" }));
    Ok(())
}

/// A line a look; on a terminal a bar that stays in its place.
async fn watch(store: &Store, as_json: bool) -> anyhow::Result<()> {
    let mut most = 0;
    loop {
        let depths = overview::depths(&mut *store.read().await?).await?;
        let under_way = |depth: &&overview::Depth| matches!(depth.state, State::Queued | State::Delivering);
        let waiting: u64 = depths.iter().filter(under_way).map(|depth| depth.rows).sum();
        most = most.max(waiting);
        progress(as_json, most - waiting, most);
        if waiting == 0 {
            return Ok(());
        }
        tokio::time::sleep(WATCH).await;
    }
}

fn progress(as_json: bool, done: u64, all: u64) {
    if as_json {
        print(&json!({ "done": done, "all": all }).to_string());
        return;
    }
    let width = 40;
    let filled = usize::try_from(done * width / all.max(1)).unwrap_or(0);
    let filled = if all == 0 { usize::try_from(width).unwrap_or(0) } else { filled };
    let bar = format!("[{:<40}] {done} of {all} are gone", "#".repeat(filled));
    if std::io::stdout().is_terminal() {
        super::print_in_place(&bar, done == all);
    } else {
        print(&bar);
    }
}
