//! Recognises a database that was put back from a backup, before it does harm: what it holds in its outbox
//! may have been delivered since, and its users may know newer keys than it does.
//!
//! Every run of a node gives itself a name, renewed every minute, and writes it to the database and to
//! a file beside it. A database that knows another name than the file is not the one that the folder last
//! worked with. The file goes first, and names its predecessor too, so a crash in between is no alarm. Each renewal looks,
//! too: a database server may be put back while nodes run.

use std::fs;
use std::io::ErrorKind;

use anyhow::Context;
use futures_util::FutureExt;
use uuid::Uuid;
use vellum_protocol::UnixMillis;
use vellum_store::{Store, StoreError, Tx, epochs, node_state, users};

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
            let noted: Result<(), StoreError> =
                store.write(move |tx| async move { note_restored(tx, now).await }.boxed()).await;
            noted?;
        }
        let mut epoch = kept.unwrap_or_else(|| Self {
            folder: Uuid::new_v4().to_string(),
            current: String::new(),
            before: String::new(),
        });
        // What the database knows stays acceptable until it has been told the new name.
        let known = epochs::of_folder(&mut *store.read().await?, &epoch.folder).await?.unwrap_or_default();
        epoch.before.clone_from(&known);
        epoch.current = known;
        epoch.renew(store, dir, now).await?;
        Ok((epoch, restored))
    }

    /// Gives the run a new name: a copy of the database that was made before is told apart from now on. Tells whether
    /// the database has been put back beneath the running node: then deliveries are paused, as in [`Epoch::begin`].
    ///
    /// # Errors
    /// When the file or the database cannot be written. The next time does it.
    pub async fn renew(&mut self, store: &Store, dir: &DataDir, now: UnixMillis) -> anyhow::Result<bool> {
        // A name that the database may not have been told is told again, not replaced: of the names that it may know
        // the file has room for two.
        if self.current == self.before {
            self.current = Uuid::new_v4().to_string();
        }
        self.write(dir)?;
        let own = self.clone();
        let written: Result<bool, StoreError> =
            store.write(move |tx| async move { own.tell(tx, now).await }.boxed()).await;
        let restored = written?;
        // The database has the new name: from now on one that has the old one is an older copy.
        self.before.clone_from(&self.current);
        self.write(dir)?;
        Ok(restored)
    }

    /// Writes the name to the database, after a look at the one that it knows.
    async fn tell(self, tx: &mut Tx, now: UnixMillis) -> Result<bool, StoreError> {
        let known = epochs::of_folder(tx, &self.folder).await?.unwrap_or_default();
        let restored = known != self.current && known != self.before;
        if restored {
            note_restored(tx, now).await?;
        }
        epochs::set(tx, &self.folder, &self.current).await?;
        Ok(restored)
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

/// Notes it, and has nothing sent until an operator has looked.
async fn note_restored(tx: &mut Tx, now: UnixMillis) -> Result<(), StoreError> {
    node_state::note_restored(tx, now).await?;
    node_state::pause_deliveries(tx, true).await
}

/// What an operator is told.
pub fn report_restored() {
    tracing::error!(
        "the database was put back from a backup: nothing is delivered until an operator has looked at the queue (vellum queue list, then vellum queue resume)"
    );
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

#[cfg(test)]
mod tests {
    use vellum_store::users::NewUser;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

    /// A folder with a database in use.
    struct House {
        folder: tempfile::TempDir,
        dir: DataDir,
    }

    impl House {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let dir = DataDir::open(folder.path()).unwrap();
            let house = Self { folder, dir };
            let store = house.store().await;
            let ann = NewUser {
                email: "ann@people.example".into(),
                first_name: None,
                last_name: None,
                picture: None,
            };
            vellum_actors::accounts::create_first(&store, ann, NOW).await.unwrap();
            store.close().await;
            house
        }

        async fn store(&self) -> Store {
            let url = format!("sqlite://{}", self.folder.path().join("vellum.db").display());
            Store::open(&url).await.unwrap()
        }

        /// A start of the node on this folder: the run, and whether a backup was recognised.
        async fn begin(&self) -> (Epoch, bool) {
            let store = self.store().await;
            let begun = Epoch::begin(&store, &self.dir, NOW).await.unwrap();
            store.close().await;
            begun
        }
    }

    async fn set(store: &Store, folder: &str, epoch: &str) {
        let (folder, epoch) = (folder.to_owned(), epoch.to_owned());
        let set: Result<(), StoreError> =
            store.write(move |tx| async move { epochs::set(tx, &folder, &epoch).await }.boxed()).await;
        set.unwrap();
    }

    #[tokio::test]
    async fn a_database_that_is_away_for_some_renewals_is_no_backup() {
        let house = House::new().await;
        let (mut epoch, _) = house.begin().await;
        let away = house.store().await;
        away.close().await;
        for _ in 0..3 {
            assert!(epoch.renew(&away, &house.dir, NOW).await.is_err());
        }
        let (mut epoch, restored) = house.begin().await;
        assert!(!restored, "the database knows the last name that it was told");
        let store = house.store().await;
        assert!(!epoch.renew(&store, &house.dir, NOW).await.unwrap());
        store.close().await;
        assert!(!house.begin().await.1);
    }

    #[tokio::test]
    async fn a_database_that_is_put_back_beneath_a_running_node_is_recognised_at_the_next_renewal() {
        let house = House::new().await;
        let (mut epoch, _) = house.begin().await;
        let store = house.store().await;
        assert!(!epoch.renew(&store, &house.dir, NOW).await.unwrap());
        set(&store, &epoch.folder, "of-an-earlier-hour").await;
        assert!(epoch.renew(&store, &house.dir, NOW).await.unwrap());
        assert!(node_state::deliveries_paused(&mut store.read().await.unwrap()).await.unwrap());
        assert!(!epoch.renew(&store, &house.dir, NOW).await.unwrap(), "told once");
        store.close().await;
    }
}
