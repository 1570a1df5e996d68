//! `vellum backup …`: backups of a SQLite database. Those of PostgreSQL are the server's own business.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use vellum_store::Store;
use vellum_store::backup::{self, Contents};

use super::{Context, block_on, print};
use crate::data_dir::{self, DataDir};

/// What to do with a backup.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Writes a backup to a new file, also while the node runs.
    Create {
        /// The file.
        file: PathBuf,
    },
    /// Reads a backup from beginning to end and says whether it is whole.
    Verify {
        /// The file.
        file: PathBuf,
    },
    /// Puts a backup where the database of the settings would be, if nothing is there.
    Restore {
        /// The file.
        file: PathBuf,
    },
}

/// Runs the command.
pub fn run(context: &Context, command: BackupCommand) -> anyhow::Result<()> {
    let (contents, word) = match command {
        BackupCommand::Verify { file } => (block_on(async { Ok(backup::verify(&file).await?) })?, "is whole"),
        BackupCommand::Create { file } => {
            let settings = context.settings()?;
            let made = block_on(async { Ok(backup::create(settings.database_url(), &file).await?) });
            (made?, "was written; the keys are not in it (server.key, wrap.keys)")
        }
        BackupCommand::Restore { file } => {
            let settings = context.settings()?;
            DataDir::open(&settings.data_dir)?;
            let _lock =
                Store::file(settings.database_url())?.map(|path| data_dir::lock(&path)).transpose()?;
            let restored = block_on(async { Ok(backup::restore(settings.database_url(), &file).await?) });
            (
                restored?,
                "was put back; the next start pauses deliveries until you resume them (vellum queue resume)",
            )
        }
    };
    let Contents { users, outbox, schema, bytes } = contents;
    print(&if context.json {
        json!({ "users": users, "outbox": outbox, "schema": schema, "bytes": bytes }).to_string()
    } else {
        format!(
            "the backup {word}\n{users} users, {outbox} messages to other nodes, schema {schema}, {bytes} bytes"
        )
    });
    Ok(())
}
