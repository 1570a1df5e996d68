//! `vellum backup …`: makes backups of the database, checks them, and puts them back.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};
use vellum_store::Store;
use vellum_store::backup::{self, Contents, TableDigest};

use super::{Context, block_on, print, require_node};
use crate::config::Settings;
use crate::data_dir::{self, DataDir, IDENTITY_FILE, WRAPPING_FILE};
use crate::start_check::{Accepted, Fault, StartCheck};

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
        /// A folder with copies of server.key and wrap.keys, which no backup holds. Copies them
        /// into the data folder.
        #[arg(long, value_name = "FOLDER")]
        keys: Option<PathBuf>,
    },
}

/// Runs the command.
pub fn run(context: &Context, command: BackupCommand) -> anyhow::Result<()> {
    let mut faults = Vec::new();
    let (contents, word) = match command {
        BackupCommand::Verify { file } => {
            let contents = block_on(async { Ok(backup::verify(&file).await?) })?;
            let word = match contents.tables {
                Some(_) => "is whole",
                None => {
                    "can be read; it has no digests, since an earlier version made it: whether a value \
                     has changed cannot be told"
                }
            };
            (contents, word)
        }
        BackupCommand::Create { file } => {
            let settings = context.settings()?;
            if Store::file(settings.database_url())?.is_some() {
                block_on(require_node(settings.database_url()))?;
            }
            let made = block_on(async { Ok(backup::create(settings.database_url(), &file).await?) });
            (made?, "was written; the keys are not in it (server.key, wrap.keys)")
        }
        BackupCommand::Restore { file, keys } => {
            let settings = context.settings()?;
            let folder = DataDir::open(&settings.data_dir)?;
            let keys = keys.map(|from| folder.read_keys(&DataDir::at(&from), &settings)).transpose()?;
            let _lock =
                Store::file(settings.database_url())?.map(|path| data_dir::lock(&path)).transpose()?;
            let restored = block_on(async { Ok(backup::restore(settings.database_url(), &file).await?) })?;
            keys.map(|keys| folder.put_keys(&keys)).transpose()?;
            faults = block_on(faults_of_start(&settings))?;
            (
                restored,
                "was put back; the next start pauses deliveries until you resume them (vellum queue resume)",
            )
        }
    };
    let Contents { users, outbox, schema, bytes, tables } = contents;
    print(&if context.json {
        let not_included = [IDENTITY_FILE, WRAPPING_FILE];
        let faults: Vec<&str> = faults.iter().map(|fault| fault.says.as_str()).collect();
        let view = |TableDigest { table, rows, sha256 }: TableDigest| json!({ "table": table, "rows": rows, "sha256": sha256 });
        let tables: Option<Vec<Value>> = tables.map(|tables| tables.into_iter().map(view).collect());
        json!({
            "users": users, "outbox": outbox, "schema": schema, "bytes": bytes, "tables": tables,
            "notIncluded": not_included, "startRefused": faults,
        })
        .to_string()
    } else {
        format!(
            "the backup {word}\n{users} users, {outbox} messages to other nodes, schema {schema}, {bytes} bytes"
        )
    });
    if !context.json {
        for Fault { says, advice, .. } in faults {
            print(&format!("\nWITHOUT THIS THE NODE DOES NOT START: {says}\n  -> {advice}"));
        }
    }
    Ok(())
}

/// What still keeps the node from starting, the keys first of all.
async fn faults_of_start(settings: &Settings) -> anyhow::Result<Vec<Fault>> {
    let check = StartCheck::read(settings, Accepted::default()).await?;
    Ok(check.faults(settings.domain().as_ref()).await?)
}
