//! The command line: one file a command. Every command exits with 0 on success, 1 on failure and 2 on
//! wrong use, with the reason on standard error.

mod backup;
mod bench;
mod db;
mod demo;
mod doctor;
mod health;
mod mail;
mod openapi;
mod peer;
mod queue;
mod secrets;
mod serve;
mod user;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::{Parser, Subcommand};
use vellum_store::{Store, schema};

use crate::config::{Flags, Settings, SettingsError};
use crate::start_check::{Accepted, StartCheck};

/// The end of the help.
const ENVIRONMENT: &str = "\
Environment:
  VELLUM_CONFIG            the file with settings, where --config is not given
  VELLUM_DATA_DIR          the folder with database, keys and outbox, where --data-dir is not given
  VELLUM_SECTION__NAME     any other setting, such as VELLUM_HTTP__LISTEN for http.listen; config/default.toml
                           lists them all. Names without two underscores are nobody's settings";

/// An actor-based federation node.
#[derive(Debug, Parser)]
#[command(name = "vellum", version, about, propagate_version = true, after_help = ENVIRONMENT)]
pub struct Cli {
    /// Reads settings from this file, over the built-in defaults and under the environment; else from the file
    /// that VELLUM_CONFIG names.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder with database, keys and outbox.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Prints for programs instead of people.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the node (the default).
    Serve(Accepted),
    /// Walks two real nodes through a friendship, a reset, and a revocation that arrives.
    Demo,
    /// Makes and lists users, and opens sessions for them.
    #[command(subcommand)]
    User(user::UserCommand),
    /// Shows and steers what is on its way to other nodes.
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Shows the nodes that this one has met, and decides about them.
    #[command(subcommand)]
    Peer(peer::PeerCommand),
    /// Shows and makes the schema, and moves to another database.
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Makes, checks and puts back backups of the database.
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Looks at what operators trip over, and says what to do.
    Doctor,
    /// Asks the running node whether it can work; for a container's health check.
    Health,
    /// Tests the mail server.
    #[command(subcommand)]
    Mail(mail::MailCommand),
    /// Prints the OpenAPI document that the node serves at /openapi.json.
    Openapi,
    Bench(bench::Bench),
    /// Renews the keys that the node encrypts with at rest.
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
}

/// What every command is told besides its own words.
struct Context {
    flags: Flags,
    json: bool,
}

impl Context {
    fn settings(&self) -> Result<Settings, SettingsError> {
        Settings::load(&self.flags)
    }
}

/// The exit status for wrong use: what clap uses too.
const WRONG_USE: u8 = 2;

impl Cli {
    /// Runs the command that was given.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let context =
            Context { flags: Flags { config: self.config, data_dir: self.data_dir }, json: self.json };
        let done = match self.command.unwrap_or(Command::Serve(Accepted::default())) {
            Command::Serve(accepted) => serve::run(&context, accepted),
            Command::Demo => demo::run(&context),
            Command::User(command) => user::run(&context, command),
            Command::Queue(command) => queue::run(&context, command),
            Command::Peer(command) => peer::run(&context, command),
            Command::Db(command) => db::run(&context, command),
            Command::Backup(command) => backup::run(&context, command),
            Command::Doctor => doctor::run(&context),
            Command::Health => health::run(&context),
            Command::Mail(command) => mail::run(&context, &command),
            Command::Openapi => openapi::run(),
            Command::Bench(command) => bench::run(&context, command),
            Command::Secrets(command) => secrets::run(&context, command),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                if !error.is::<Logged>() {
                    complain(&error);
                }
                // A wrong setting is wrong use; anything else is a failure.
                ExitCode::from(if error.is::<SettingsError>() { WRONG_USE } else { 1 })
            }
        }
    }
}

/// Marks an error whose reason is in the log already.
#[derive(Debug)]
struct Logged;

impl std::fmt::Display for Logged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("logged")
    }
}

#[expect(clippy::print_stderr, reason = "the reason of a failure belongs on standard error")]
fn complain(error: &anyhow::Error) {
    eprintln!("vellum: {error:#}");
}

#[expect(clippy::print_stdout, reason = "what a command was asked for belongs on standard output")]
fn print(text: &str) {
    println!("{text}");
}

/// Writes over the last line of a terminal; the line is ended when it is the last.
#[expect(clippy::print_stdout, reason = "what a command was asked for belongs on standard output")]
fn print_in_place(text: &str, last: bool) {
    use std::io::Write;
    print!("\r{text}{}", if last { "\n" } else { "" });
    // A terminal that cannot be written to shows nothing, which is all there is to it.
    let _ = std::io::stdout().flush();
}

/// Runs a command's work with the database of the settings, which it closes afterwards.
fn on_store<T>(context: &Context, work: impl AsyncFnOnce(&Store) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let settings = context.settings()?;
    block_on(async {
        let store = open_existing(&settings).await?;
        let done = work(&store).await;
        store.close().await;
        done
    })
}

/// Opens the database of the settings. It is not made: a command in the wrong folder must not look
/// as if there were an empty node.
async fn open_existing(settings: &Settings) -> anyhow::Result<Store> {
    require_node(settings.database_url()).await?;
    Store::open(settings.database_url()).await.context("opening the database")
}

async fn require_node(url: &str) -> anyhow::Result<()> {
    if !schema::is_there(url).await.context("opening the database")? {
        return Err(no_node(url));
    }
    Ok(())
}

fn no_node(url: &str) -> anyhow::Error {
    anyhow!(
        "no node at {}: see data_dir (--data-dir) and database.url; vellum serve makes one",
        Store::place(url)
    )
}

/// Whether the database of the settings is there. If it is not, it must be one that may be made.
///
/// # Errors
/// When it is not there, and the data folder belongs to another one.
async fn is_there_or_new(settings: &Settings) -> anyhow::Result<bool> {
    let there = schema::is_there(settings.database_url()).await.context("opening the database")?;
    if !there {
        StartCheck::read(settings, Accepted::default()).await?.refuse(None).await?;
    }
    Ok(there)
}

/// Runs a command's work on a runtime of its own.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
