//! `vellum secrets …`: the keys that the node encrypts with at rest. Works beside a running node.

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::json;
use vellum_actors::Clock;

use super::{Context, block_on, open_existing, print, require_node};
use crate::data_dir::{DataDir, WRAPPING_FILE};

/// What to do with the keys.
#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// Makes a new key for device wrap secrets, unless they are in the settings, and encrypts every stored secret with
    /// the newest.
    Rotate,
}

/// Runs the command.
pub fn run(context: &Context, command: SecretsCommand) -> anyhow::Result<()> {
    let SecretsCommand::Rotate = command;
    let settings = context.settings()?;
    let folder = DataDir::at(&settings.data_dir);
    block_on(async {
        let configured = settings.wrapping_keys.as_ref();
        require_node(settings.database_url()).await?;
        folder.find_wrapping_keys(configured)?.with_context(|| {
            format!("{} is missing: put it back first", folder.file(WRAPPING_FILE).display())
        })?;
        let store = open_existing(&settings).await?;
        if configured.is_none() {
            // The key first: a crash afterwards leaves a key that nothing uses yet, never the other way round.
            folder.add_wrapping_key()?;
        }
        let renewed = folder.wrapping_keys(configured)?.renew_all(&store, Clock::system().now()).await;
        store.close().await;
        let renewed = renewed?;
        print(&if context.json {
            json!({ "renewed": renewed }).to_string()
        } else {
            format!(
                "{renewed} secrets are encrypted with the newest key; older keys stay where they are, for backups"
            )
        });
        Ok(())
    })
}
