//! Recognises a database that was put back from a backup, before it does harm: what it holds in its outbox
//! may have been delivered since, and its users may know newer keys than it does.
//!
//! Every run of a node gives itself a name, renewed every minute, and writes it to the database and to
//! a file beside it. A database that knows another name than the file is not the one that the folder last
//! worked with. The file goes first, and names its predecessor too, so a crash in between is no alarm.

use std::fs;
use std::io::ErrorKind;

use anyhow::Context;
use futures_util::FutureExt;
use uuid::Uuid;
use vellum_protocol::UnixMillis;
use vellum_store::{Store, StoreError, epochs, node_state, users};

use crate::data_dir::DataDir;

/// The file in the data folder.
const FILE: &str = "epoch";

/// A folder, and the run of a node that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Names the folder, for as long as it lives.
    pub folder: String,
    current: String,
    before: String,
}

impl Epoch {
    /// Begins a run. Tells whether the database turned out to come from a backup: then deliveries are paused,
    /// and it is noted in the database.
    ///
    /// # Errors
    /// When the file or the database cannot be read or written.
    pub async fn begin(store: &Store, dir: &DataDir, now: UnixMillis) -> anyhow::Result<(Self, bool)> {
        let kept = read(dir)?;
        let restored = is_restored(store, kept.as_ref()).await?;
        if restored {
            let noted: Result<(), StoreError> = store
                .write(move |tx| {
                    async move {
                        node_state::note_restored(tx, now).await?;
                        node_state::pause_deliveries(tx, true).await
                    }
                    .boxed()
                })
                .await;
            noted?;
        }
        let mut epoch = kept.unwrap_or_else(|| Self {
            folder: Uuid::new_v4().to_string(),
            current: String::new(),
            before: String::new(),
        });
        // What the database knows stays acceptable until it has been told the new name.
        let known = epochs::of_folder(&mut *store.read().await?, &epoch.folder).await?;
        epoch.current = known.unwrap_or_default();
        epoch.renew(store, dir).await?;
        Ok((epoch, restored))
    }

    /// Gives the run a new name: a copy of the database that was made before is told apart from now on.
    ///
    /// # Errors
    /// When the file or the database cannot be written. The next time does it.
    pub async fn renew(&mut self, store: &Store, dir: &DataDir) -> anyhow::Result<()> {
        let new = Self {
            folder: self.folder.clone(),
            current: Uuid::new_v4().to_string(),
            before: self.current.clone(),
        };
        new.write(dir)?;
        *self = new;
        let (folder, current) = (self.folder.clone(), self.current.clone());
        let written: Result<(), StoreError> =
            store.write(move |tx| async move { epochs::set(tx, &folder, &current).await }.boxed()).await;
        written?;
        // The database has the new name: from now on one that has the old one is an older copy.
        self.before.clone_from(&self.current);
        self.write(dir)
    }

    fn write(&self, dir: &DataDir) -> anyhow::Result<()> {
        let text = format!("{}\n{}\n{}\n", self.folder, self.current, self.before);
        dir.write_new(FILE, text.as_bytes()).context("writing the file \"epoch\" in the data folder")
    }
}

fn read(dir: &DataDir) -> anyhow::Result<Option<Epoch>> {
    let text = match fs::read_to_string(dir.file(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("reading the file \"epoch\" in the data folder"),
    };
    let mut lines = text.lines().map(str::to_owned);
    let (folder, current, before) = (lines.next(), lines.next(), lines.next());
    let whole = folder.zip(current).context("the file \"epoch\" in the data folder is damaged")?;
    Ok(Some(Epoch { folder: whole.0, current: whole.1, before: before.unwrap_or_default() }))
}

async fn is_restored(store: &Store, kept: Option<&Epoch>) -> Result<bool, StoreError> {
    let mut conn = store.read().await?;
    let Some(kept) = kept else {
        // A file without its folder was put back or moved. To a shared database a new folder is a new node.
        return Ok(!store.is_shared() && epochs::any(&mut conn).await?);
    };
    match epochs::of_folder(&mut conn, &kept.folder).await? {
        Some(epoch) => Ok(epoch != kept.current && epoch != kept.before),
        // Older than this folder, or new and empty.
        None => users::any(&mut conn).await,
    }
}
