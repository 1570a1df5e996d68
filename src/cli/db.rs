//! `vellum db …`: the schema's history, and moving from one database to another.

use std::fs::File;
use std::io::IsTerminal;

use anyhow::bail;
use clap::Subcommand;
use serde_json::{Value, json};
use vellum_store::copy::{self, Copied, Progress};
use vellum_store::schema::{self, Step};
use vellum_store::{Store, StoreError};

use super::{Context, block_on, is_there_or_new, no_node, print, print_in_place};
use crate::data_dir::{self, DataDir};

/// What to do with the database.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Prints which steps of the schema's history the database has. It is left as it is.
    Status,
    /// Brings the database's schema to this version's. A node does the same when it starts.
    Migrate,
    /// Copies every row of one database into another, empty one. Stop the nodes first. Run it again to go on
    /// with a copy that was interrupted.
    Copy {
        /// The address of the source; it is only read.
        #[arg(long)]
        from: String,
        /// The address of the target.
        #[arg(long)]
        to: String,
    },
}

/// Runs the command.
pub fn run(context: &Context, command: DbCommand) -> anyhow::Result<()> {
    match command {
        DbCommand::Status => block_on(async { status(context, context.settings()?.database_url()).await }),
        DbCommand::Migrate => {
            let settings = context.settings()?;
            block_on(async {
                is_there_or_new(&settings).await?;
                DataDir::open(&settings.data_dir)?;
                Store::open(settings.database_url()).await?.close().await;
                status(context, settings.database_url()).await
            })
        }
        DbCommand::Copy { from, to } => block_on(copy(context, from.trim(), to.trim())),
    }
}

async fn status(context: &Context, url: &str) -> anyhow::Result<()> {
    let steps = schema::history(url).await?;
    let word = |step: &Step| match step {
        Step { known: false, .. } => "of a newer version",
        Step { applied: true, .. } => "done",
        _ => "to be done",
    };
    print(&if context.json {
        let steps: Vec<Value> = steps
            .iter()
            .map(|step| json!({ "version": step.version, "description": step.description, "state": word(step) }))
            .collect();
        json!({ "steps": steps }).to_string()
    } else {
        let lines: Vec<String> = steps
            .iter()
            .map(|step| format!("{:>4}  {:<24} {}", step.version, step.description, word(step)))
            .collect();
        lines.join("\n")
    });
    if steps.iter().any(|step| !step.known) {
        bail!("the database was made by a newer version of vellum; this version does not work on it");
    }
    if !steps.iter().any(|step| step.applied) {
        return Err(no_node(url));
    }
    Ok(())
}

async fn copy(context: &Context, from: &str, to: &str) -> anyhow::Result<()> {
    if Store::file(from).ok().flatten().is_some_and(|file| !file.exists()) {
        return Err(no_node(from));
    }
    // No node may start on either side meanwhile.
    let _locks = (lock(from)?, lock(to)?);
    let shown = std::io::stdout().is_terminal() && !context.json;
    let copied = copy::copy(from, to, |progress| {
        if shown {
            print_in_place(&bar(progress), progress.comparing && progress.done == progress.of);
        }
    })
    .await?;
    let view = |table: &Copied| json!({ "table": table.table, "rows": table.rows, "sha256": table.digest });
    print(&if context.json {
        json!({ "tables": copied.iter().map(view).collect::<Vec<_>>() }).to_string()
    } else {
        let lines: Vec<String> = copied
            .iter()
            .map(|table| format!("{:<20} {:>9}  {}", table.table, table.rows, table.digest))
            .collect();
        format!("{}\nboth databases hold the same", lines.join("\n"))
    });
    Ok(())
}

fn lock(url: &str) -> anyhow::Result<Option<File>> {
    let file = match Store::file(url) {
        Ok(file) => file,
        Err(StoreError::Address(reason)) => bail!("{reason}"),
        Err(other) => return Err(other.into()),
    };
    file.map(|file| data_dir::lock(&file)).transpose()
}

/// How far a copy is, for people.
fn bar(progress: Progress) -> String {
    const WIDTH: u64 = 30;
    let Progress { table, comparing, done, of } = progress;
    let filled = (done * WIDTH).checked_div(of).unwrap_or(WIDTH).min(WIDTH);
    let bar: String = (0..WIDTH).map(|n| if n < filled { '#' } else { '.' }).collect();
    let verb = if comparing { "comparing" } else { "copying  " };
    format!("{verb} [{bar}] {done}/{of} {table:<20}")
}
