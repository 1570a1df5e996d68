//! Compares the data folder and the settings with the database before a start writes anything:
//! whether it is the folder's own database, and whether the node still has its keys and its domain.

use std::fmt::Write;

use anyhow::{Context, bail};
use clap::Args;
use futures_util::FutureExt;
use vellum_actors::wrapping::WrappingKeys;
use vellum_protocol::{Domain, SigningSecret};
use vellum_store::inspection::{Inspection, inspect};
use vellum_store::node_facts::{self, DOMAIN, LOST_WRAPPING_KEYS, SERVER_KEY, WRAPPING_KEY};
use vellum_store::{Store, StoreError, copy};

use crate::config::Settings;
use crate::data_dir::{DataDir, IDENTITY_FILE, WRAPPING_FILE};
use crate::restore_guard::RestoreGuard;

/// Faults that the operator accepts.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Accepted {
    /// Works on a database that does not know this data folder. Deliveries are paused if it is in
    /// use.
    #[arg(long)]
    pub accept_database: bool,
    /// Makes missing keys anew and keeps changed ones, although peers and devices know others.
    #[arg(long)]
    pub new_identity: bool,
}

/// A reason not to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it is about.
    pub about: &'static str,
    /// What is wrong.
    pub says: String,
    /// What to do about it.
    pub advice: String,
}

/// What the next start finds.
pub struct StartCheck<'a> {
    settings: &'a Settings,
    accepted: Accepted,
    /// The data folder's last run.
    run: Option<RestoreGuard>,
    /// The public key that the node would sign with, if it has one.
    server_key: Option<String>,
    /// Ids of the wrapping keys, the newest first, if there are any.
    wrapping_keys: Option<Vec<String>>,
    /// The database, if there is one.
    database: Option<Inspection>,
    /// Whether another node has stated its facts since the database was read.
    is_outrun: bool,
}

impl<'a> StartCheck<'a> {
    /// Reads the data folder and the database, and changes neither.
    ///
    /// # Errors
    /// When one of them cannot be read, or a key is none.
    pub async fn read(settings: &'a Settings, accepted: Accepted) -> anyhow::Result<Self> {
        let folder = DataDir::at(&settings.data_dir);
        let run = RestoreGuard::read(&folder)?;
        let identity = folder.find_identity(settings.identity_key.as_ref())?;
        let wrapping = folder.find_wrapping_keys(settings.wrapping_keys.as_ref())?;
        let database = inspect(settings.database_url()).await.context("opening the database")?;
        Ok(Self {
            settings,
            accepted,
            run,
            server_key: identity.map(|identity| identity.public().to_base64()),
            wrapping_keys: wrapping.map(|keys| keys.ids()),
            database,
            is_outrun: false,
        })
    }

    /// Every reason not to start. The domain is compared if it is known.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn faults(&self, domain: Option<&Domain>) -> Result<Vec<Fault>, StoreError> {
        let mut faults: Vec<Fault> = self.run_fault().into_iter().collect();
        faults.extend(self.key_faults().await?);
        if let Some(domain) = domain {
            faults.extend(self.domain_fault(&domain.folded()).await?);
        }
        Ok(faults)
    }

    /// Fails with every reason not to start.
    ///
    /// # Errors
    /// When there is one, or the database cannot be read.
    pub async fn refuse(&self, domain: Option<&Domain>) -> anyhow::Result<()> {
        let faults = self.faults(domain).await.context("reading the database")?;
        if faults.is_empty() {
            return Ok(());
        }
        let mut text = "refused:".to_owned();
        for Fault { says, advice, .. } in faults {
            write!(text, "\n  {says}\n    -> {advice}")?;
        }
        bail!("{text}")
    }

    fn run_fault(&self) -> Option<Fault> {
        let run = self.run.as_ref()?;
        if self.accepted.accept_database || run.is_first_start() {
            return None;
        }
        let (place, folder) = (Store::place(self.settings.database_url()), self.settings.data_dir.display());
        let says = match &self.database {
            None => format!("there is no database at {place}"),
            Some(database) if database.runs.contains_key(&run.folder) => return None,
            // It may be older than the folder. The start pauses deliveries.
            Some(database) if database.is_from_backup() => return None,
            Some(_) => format!("the database at {place} is another one"),
        };
        Some(Fault {
            about: "database",
            says: format!(
                "{says}: the data folder {folder} has worked on a database that knows its run {} (folder {})",
                run.run_id, run.folder
            ),
            advice: "see whether a volume is not mounted, or database.url was changed; to go on with this \
                     database and without what the other one holds: vellum serve --accept-database"
                .to_owned(),
        })
    }

    async fn key_faults(&self) -> Result<Vec<Fault>, StoreError> {
        let Some(database) = &self.database else { return Ok(Vec::new()) };
        let faults: Vec<Fault> =
            self.server_key_fault(database).into_iter().chain(self.wrapping_fault(database)).collect();
        if faults.is_empty() || !self.accepted.new_identity {
            return Ok(faults);
        }
        Ok(if copy::nodes_at_work(self.settings.database_url()).await? {
            vec![Fault {
                about: "keys",
                says: "--new-identity while other nodes are at work on this database".to_owned(),
                advice: "stop them first, and give them the same keys before they start".to_owned(),
            }]
        } else {
            Vec::new()
        })
    }

    fn server_key_fault(&self, database: &Inspection) -> Option<Fault> {
        let file = self.settings.data_dir.join(IDENTITY_FILE);
        let stated = database.fact(SERVER_KEY);
        let says = match (&self.server_key, stated) {
            (None, None) if !database.is_used() => return None,
            (None, _) => format!(
                "{} is missing: with a new one the node would show its peers another server key, and they \
                 refuse that",
                file.display()
            ),
            (Some(own), Some(stated)) if own != stated => format!(
                "{} is another server key than the node has shown its peers: its public key is {own}, not \
                 {stated}",
                source(self.settings.identity_key.is_some(), "server.identity_key", &file)
            ),
            _ => return None,
        };
        Some(Fault { about: "keys", says, advice: key_advice("server.identity_key", IDENTITY_FILE) })
    }

    fn wrapping_fault(&self, database: &Inspection) -> Option<Fault> {
        let file = self.settings.data_dir.join(WRAPPING_FILE);
        let stated = database.fact(WRAPPING_KEY);
        let says = match &self.wrapping_keys {
            None if stated.is_none() && !database.is_used() => return None,
            None => format!(
                "{} is missing: other wrapping keys do not open the device wrap secrets in the database",
                file.display()
            ),
            Some(ring) => {
                let is_shared = Store::file(self.settings.database_url()).is_ok_and(|file| file.is_none());
                let is_missing = |id: &str| !ring.iter().any(|own| own == id);
                let lost = database.fact(LOST_WRAPPING_KEYS).unwrap_or_default();
                let mut needed: Vec<&str> =
                    database.wrapping_keys_in_use.iter().map(String::as_str).collect();
                needed.retain(|id| !lost.split(' ').any(|lost| lost == *id));
                // An operator may have removed the oldest, once nothing is encrypted with it. Nodes that
                // share a database must have a key in common before it is in use.
                if needed.is_empty() && is_shared {
                    needed.extend(stated);
                }
                needed.retain(|id| is_missing(id));
                if needed.is_empty() {
                    return None;
                }
                format!(
                    "{} holds other wrapping keys than the database needs: {}",
                    source(self.settings.wrapping_keys.is_some(), "server.wrapping_keys", &file),
                    needed.join(", ")
                )
            }
        };
        Some(Fault { about: "keys", says, advice: key_advice("server.wrapping_keys", WRAPPING_FILE) })
    }

    async fn domain_fault(&self, domain: &str) -> Result<Option<Fault>, StoreError> {
        let Some(database) = &self.database else { return Ok(None) };
        let stated = match database.fact(DOMAIN) {
            Some(stated) => stated.to_owned(),
            // An earlier version has not stated it: the users' handles say it.
            None if !database.own_domains.is_empty() && !database.own_domains.contains(domain) => {
                Vec::from_iter(database.own_domains.iter().cloned()).join(" or ")
            }
            None => return Ok(None),
        };
        if stated == domain {
            return Ok(None);
        }
        let says = if database.has_published_aliases {
            format!(
                "{domain} is another domain than {stated}, which the handles of this node's users end with"
            )
        } else if self.is_outrun || copy::nodes_at_work(self.settings.database_url()).await? {
            format!("{domain} is another domain than {stated}, which other nodes on this database have")
        } else {
            return Ok(None);
        };
        let setting = if self.settings.http.origin.is_some() {
            "http.origin"
        } else {
            "http.origin, or the port in http.listen,"
        };
        let advice =
            format!("set {setting} so that the domain is {stated}; see docs/operations/moving-a-domain.md");
        Ok(Some(Fault { about: "origin", says, advice }))
    }

    /// Writes the facts into the database that later starts, and other nodes, are compared with.
    ///
    /// # Errors
    /// When another node was faster and has other facts, or the database cannot be written.
    pub async fn state(
        mut self,
        store: &Store,
        domain: &Domain,
        identity: &SigningSecret,
        wrapping: &WrappingKeys,
    ) -> anyhow::Result<()> {
        let ring = wrapping.ids();
        let database = self.database.take().unwrap_or_default();
        let still_there = database.fact(WRAPPING_KEY).filter(|stated| ring.iter().any(|id| id == stated));
        let wrapping_key = still_there.or(ring.last().map(String::as_str)).unwrap_or_default().to_owned();
        let mut own = vec![
            (DOMAIN, domain.folded()),
            (SERVER_KEY, identity.public().to_base64()),
            (WRAPPING_KEY, wrapping_key),
        ];
        if self.accepted.new_identity {
            let is_lost = |id: &&String| !ring.contains(id);
            let lost: Vec<&str> =
                database.wrapping_keys_in_use.iter().filter(is_lost).map(String::as_str).collect();
            own.push((LOST_WRAPPING_KEYS, lost.join(" ")));
        }
        let facts: Vec<_> = own
            .iter()
            .map(|(name, value)| (*name, database.facts.get(*name).cloned(), value.clone()))
            .collect();
        let stated: Result<Vec<(String, String)>, StoreError> = store
            .write(move |tx| {
                async move {
                    let mut stated = Vec::new();
                    for (name, seen, value) in facts {
                        let stands = node_facts::agree(tx, name, seen.as_deref(), &value).await?;
                        stated.push((name.to_owned(), stands));
                    }
                    Ok(stated)
                }
                .boxed()
            })
            .await;
        let stated = stated?;
        if stated.iter().zip(&own).all(|((_, stands), (_, value))| stands == value) {
            return Ok(());
        }
        // Of nodes that start side by side on a new database, one states its facts first.
        self.is_outrun = true;
        self.accepted = Accepted { new_identity: false, ..self.accepted };
        self.server_key = Some(identity.public().to_base64());
        self.wrapping_keys = Some(ring);
        self.database = Some(Inspection { facts: stated.into_iter().collect(), ..database });
        self.refuse(Some(domain)).await
    }
}

fn source(is_setting: bool, setting: &str, file: &std::path::Path) -> String {
    if is_setting { format!("the setting {setting}") } else { file.display().to_string() }
}

fn key_advice(setting: &str, file: &str) -> String {
    format!(
        "put {file} back from where its copy is kept (or from another node on this database), or set {setting}; \
         only if it is lost: vellum serve --new-identity, see docs/operations/keys.md"
    )
}
