//! `vellum peer …`: the nodes that this one has met. Works beside a running node, which does as told within a
//! second or two.

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use vellum_actors::{Clock, Error, operators};
use vellum_protocol::{Domain, SigningKey};
use vellum_store::Store;
use vellum_store::peers::{self, Peer, PeerPolicy};

use super::{Context, on_store, print};
use crate::shown;

/// What to do with peers.
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// Prints a table of the peers.
    List {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        limit: u32,
    },
    /// Prints what is known of a peer.
    Show {
        /// Its domain.
        domain: Domain,
    },
    /// Trusts the key that a peer shows instead of the one pinned at first contact. Compare it first with
    /// the peer's operator, by another way.
    Repin {
        /// Its domain.
        domain: Domain,
        /// The key to trust, base64, as the peer's operator has told it.
        #[arg(long)]
        key: String,
    },
    /// Exchanges nothing with a node any more.
    Block {
        /// Its domain.
        domain: Domain,
    },
    /// Takes a node off the block list, and puts it on the allow list.
    Allow {
        /// Its domain.
        domain: Domain,
    },
}

/// Runs the command.
pub fn run(context: &Context, command: PeerCommand) -> anyhow::Result<()> {
    let json = context.json;
    on_store(context, async |store| match command {
        PeerCommand::List { limit } => list(store, json, limit).await,
        PeerCommand::Show { domain } => show(store, json, &domain).await,
        PeerCommand::Repin { domain, key } => repin(store, json, domain, &key).await,
        PeerCommand::Block { domain } => decide(store, json, domain, PeerPolicy::Blocked).await,
        PeerCommand::Allow { domain } => decide(store, json, domain, PeerPolicy::Allowed).await,
    })
}

async fn list(store: &Store, as_json: bool, limit: u32) -> anyhow::Result<()> {
    let found = peers::list(&mut *store.read().await?, limit, 0).await?;
    if as_json {
        print(&json!(found.iter().map(shown::peer).collect::<Vec<Value>>()).to_string());
        return Ok(());
    }
    print(&format!("{:<40}  {:<9}  {:<8}  {:<8}  {}", "DOMAIN", "BREAKER", "FAILURES", "STANDING", "NOTE"));
    for peer in &found {
        print(&format!(
            "{:<40}  {:<9}  {:<8}  {:<8}  {}",
            peer.domain,
            shown::breaker(peer),
            peer.failures,
            peer.standing.as_str(),
            note(peer)
        ));
    }
    Ok(())
}

/// What an operator should know first.
fn note(peer: &Peer) -> String {
    if peer.offered_key.is_some() {
        return format!("shows another key: nothing is exchanged; see vellum peer show {}", peer.domain);
    }
    if peer.paused {
        return "paused".to_owned();
    }
    peer.last_error.clone().unwrap_or_else(|| "-".to_owned())
}

async fn find(store: &Store, domain: &Domain) -> anyhow::Result<Peer> {
    let found = peers::find(&mut *store.read().await?, &domain.folded()).await?;
    found.context(Error::UnknownPeer(domain.clone()))
}

async fn show(store: &Store, as_json: bool, domain: &Domain) -> anyhow::Result<()> {
    let peer = shown::peer(&find(store, domain).await?);
    if as_json {
        print(&peer.to_string());
        return Ok(());
    }
    for (name, value) in peer.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        print(&format!("{name:<24} {text}"));
    }
    Ok(())
}

async fn repin(store: &Store, as_json: bool, domain: Domain, key: &str) -> anyhow::Result<()> {
    let Ok(key) = SigningKey::parse(key) else { bail!("--key is not a public key: base64 of 32 bytes") };
    find(store, &domain).await?;
    operators::repin(store, &Clock::system(), domain.clone(), key).await?;
    say(as_json, &format!("{domain} is known by its new key"));
    Ok(())
}

async fn decide(store: &Store, as_json: bool, domain: Domain, standing: PeerPolicy) -> anyhow::Result<()> {
    operators::set_standing(store, domain.clone(), standing).await?;
    say(as_json, &format!("{domain} is {}", standing.as_str()));
    Ok(())
}

fn say(as_json: bool, text: &str) {
    print(&if as_json { json!({ "done": text }).to_string() } else { text.to_owned() });
}
