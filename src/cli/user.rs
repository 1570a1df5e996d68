//! `vellum user …`: makes and lists users, and opens sessions for them. Works beside a running node.

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use secrecy::ExposeSecret;
use serde_json::json;
use vellum_actors::sign_in::{self, Device};
use vellum_actors::{Clock, accounts};
use vellum_store::users::{self, NewUser, User};
use vellum_store::{Store, roles};

use super::{Context, block_on, is_there_or_new, on_store, print};
use crate::config::Settings;
use crate::data_dir::DataDir;
use crate::mail::address;

/// What to do with users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Makes a user and prints its id.
    Create {
        /// The e-mail address that the user signs in with.
        #[arg(long)]
        email: String,
        /// First name.
        #[arg(long)]
        first_name: String,
        /// Last name.
        #[arg(long)]
        last_name: String,
        /// What the user may do.
        #[arg(long, value_enum, default_value_t = Role::User)]
        role: Role,
        /// Makes database and keys first, if there is no node yet.
        #[arg(long)]
        init: bool,
    },
    /// Prints a table of the users.
    List,
    /// Opens a session for a user and prints its bearer token.
    Session {
        /// The user's e-mail address.
        #[arg(long)]
        email: String,
    },
}

/// A role that can be given.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Role {
    /// Everyone with an account.
    User,
    /// Tries what is new.
    Alpha,
    /// Runs the node.
    Admin,
}

impl Role {
    fn id(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Alpha => "alpha",
            Self::Admin => "admin",
        }
    }
}

/// Runs the command.
pub fn run(context: &Context, command: UserCommand) -> anyhow::Result<()> {
    if let UserCommand::Create { init: true, .. } = command {
        init(&context.settings()?)?;
    }
    on_store(context, async |store| match command {
        UserCommand::Create { email, first_name, last_name, role, .. } => {
            create(context, store, email, first_name, last_name, role).await
        }
        UserCommand::List => list(context, store).await,
        UserCommand::Session { email } => session(context, store, &email).await,
    })
}

/// Makes folder, keys and database where there is no node.
fn init(settings: &Settings) -> anyhow::Result<()> {
    block_on(async {
        if is_there_or_new(settings).await? {
            return Ok(());
        }
        let folder = DataDir::open(&settings.data_dir)?;
        folder.identity(settings.identity_key.as_ref())?;
        folder.wrapping_keys(settings.wrapping_keys.as_ref())?;
        Store::open(settings.database_url()).await.context("opening the database")?.close().await;
        Ok(())
    })
}

async fn create(
    context: &Context,
    store: &Store,
    email: String,
    first_name: String,
    last_name: String,
    role: Role,
) -> anyhow::Result<()> {
    if let Err(reason) = address::parse(&email) {
        anyhow::bail!("{email}: the e-mail address {reason}");
    }
    let new = NewUser { email, first_name: Some(first_name), last_name: Some(last_name), picture: None };
    let id = accounts::create(store, new, role.id(), Clock::system().now()).await?;
    print(&if context.json { json!({ "id": id }).to_string() } else { id.to_string() });
    Ok(())
}

async fn list(context: &Context, store: &Store) -> anyhow::Result<()> {
    let mut conn = store.read().await?;
    let mut listed = Vec::new();
    for user in users::all(&mut conn).await? {
        let roles = roles::of_user(&mut conn, &user.id).await?;
        listed.push((user, roles.into_iter().map(|role| role.id).collect::<Vec<_>>()));
    }
    if context.json {
        let rows: Vec<_> = listed.iter().map(|(user, roles)| row(user, roles)).collect();
        print(&json!(rows).to_string());
        return Ok(());
    }
    print(&format!("{:<36}  {:<30}  {:<20}  {:<10}", "ID", "E-MAIL", "ALIAS", "ROLES"));
    for (user, roles) in &listed {
        let alias = user.identity.alias.as_ref().map_or("-", |alias| alias.as_str());
        print(&format!(
            "{:<36}  {:<30}  {:<20}  {:<10}",
            user.id.as_str(),
            user.email,
            alias,
            roles.join(",")
        ));
    }
    Ok(())
}

fn row(user: &User, roles: &[String]) -> serde_json::Value {
    json!({
        "id": user.id,
        "email": user.email,
        "firstName": user.first_name,
        "lastName": user.last_name,
        "alias": user.identity.alias,
        "kmVersion": user.identity.km_version,
        "roles": roles,
        "createdAt": user.created_at.to_rfc3339(),
    })
}

async fn session(context: &Context, store: &Store, email: &str) -> anyhow::Result<()> {
    let device = Device { user_agent: Some("vellum user session".into()), ..Device::default() };
    let opened = sign_in::open_session_for(store, &Clock::system(), email, device).await?;
    let token = opened.token.expose_secret();
    let printed = json!({ "token": token, "userId": opened.user.id, "expiresAt": opened.session.expires_at.to_rfc3339() });
    print(&if context.json { printed.to_string() } else { token.to_owned() });
    Ok(())
}
