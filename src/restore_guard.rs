//! Recognizes a database that was put back from a backup, before it does harm: the messages in its
//! outbox may have been delivered since, and its users may know newer keys than it does.
//!
//! Every run of a node has a name, renewed every minute, which stands in the database and in the
//! file `epoch` in the data folder. A database that knows another run than the file is not the one
//! that the folder last worked with. The file is written first and names the run before, too, so a
//! crash in between is no alarm. Each renewal compares them: a database server may be put back
//! while nodes run.

use std::fs;
use std::io::ErrorKind;

use anyhow::Context;
use futures_util::FutureExt;
use uuid::Uuid;
use vellum_protocol::UnixMillis;
use vellum_store::{Store, StoreError, Tx, node_state, runs, users};

use crate::data_dir::DataDir;

/// The file in the data folder.
const FILE: &str = "epoch";

/// A data folder, and the run of a node that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreGuard {
    /// Names the folder, for as long as it lives.
    pub folder: String,
    /// Names the run.
    pub run_id: String,
    /// The run before; empty until the database has been told the first one.
    before: String,
}

impl RestoreGuard {
    /// Reads the folder's last run; `None` for a folder that no node has worked in.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn read(dir: &DataDir) -> anyhow::Result<Option<Self>> {
        let path = dir.file(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let mut lines = text.lines().map(str::to_owned);
        let (folder, run_id, before) = (lines.next(), lines.next(), lines.next());
        let (folder, run_id) =
            folder.zip(run_id).with_context(|| format!("{} is damaged", path.display()))?;
        let before = before.unwrap_or_else(|| run_id.clone());
        Ok(Some(Self { folder, run_id, before }))
    }

    /// Whether the folder's first start may have ended before the database was told of it.
    #[must_use]
    pub fn is_first_start(&self) -> bool {
        self.before.is_empty()
    }

    /// Begins a run. Returns whether the database comes from a backup: then deliveries are paused,
    /// and the database notes it. With `accepted` an operator insists on a database that does not
    /// know this folder; if it is in use, it counts as one from a backup.
    ///
    /// # Errors
    /// When the file or the database cannot be read or written.
    pub async fn begin(
        store: &Store,
        dir: &DataDir,
        accepted: bool,
        now: UnixMillis,
    ) -> anyhow::Result<(Self, bool)> {
        let kept = Self::read(dir)?;
        let restored = is_restored(store, kept.as_ref(), accepted).await?;
        if restored {
            let noted: Result<(), StoreError> =
                store.write(move |tx| async move { note_restored(tx, now).await }.boxed()).await;
            noted?;
        }
        let mut guard = kept.unwrap_or_else(|| Self {
            folder: Uuid::new_v4().to_string(),
            run_id: String::new(),
            before: String::new(),
        });
        // The run that the database knows stays valid until it has been told the new one.
        let known = runs::of_folder(&mut *store.read().await?, &guard.folder).await?.unwrap_or_default();
        guard.before.clone_from(&known);
        guard.run_id = known;
        guard.renew(store, dir, now).await?;
        Ok((guard, restored))
    }

    /// Gives the run a new name, so that an earlier copy of the database is recognized from now on.
    /// Returns whether the database has been put back beneath the running node: then deliveries are
    /// paused, as in [`RestoreGuard::begin`].
    ///
    /// # Errors
    /// When the file or the database cannot be written. The next renewal does it.
    pub async fn renew(&mut self, store: &Store, dir: &DataDir, now: UnixMillis) -> anyhow::Result<bool> {
        // A name that the database may not have been told is told again, not replaced: the file has
        // room for two of the names that the database may know.
        if self.run_id == self.before {
            self.run_id = Uuid::new_v4().to_string();
        }
        self.write(dir)?;
        let own = self.clone();
        let written: Result<bool, StoreError> =
            store.write(move |tx| async move { own.tell(tx, now).await }.boxed()).await;
        let restored = written?;
        // The database has the new name: one that has the old one is an older copy.
        self.before.clone_from(&self.run_id);
        self.write(dir)?;
        Ok(restored)
    }

    /// Writes the name to the database, after a look at the one that it knows.
    async fn tell(self, tx: &mut Tx, now: UnixMillis) -> Result<bool, StoreError> {
        let known = runs::of_folder(tx, &self.folder).await?.unwrap_or_default();
        let restored = known != self.run_id && known != self.before;
        if restored {
            note_restored(tx, now).await?;
        }
        runs::set(tx, &self.folder, &self.run_id).await?;
        Ok(restored)
    }

    fn write(&self, dir: &DataDir) -> anyhow::Result<()> {
        let text = format!("{}\n{}\n{}\n", self.folder, self.run_id, self.before);
        dir.write_new(FILE, text.as_bytes()).with_context(|| format!("writing {}", dir.file(FILE).display()))
    }
}

/// Notes it, and stops deliveries until an operator has looked. A new replica is a new node from then on.
async fn note_restored(tx: &mut Tx, now: UnixMillis) -> Result<(), StoreError> {
    runs::note_restored(tx).await?;
    node_state::note_restored(tx, now).await?;
    node_state::pause_deliveries(tx, true).await
}

/// What an operator is told.
pub fn report_restored() {
    tracing::error!(
        "the database was put back from a backup: nothing is delivered until an operator has looked at the queue (vellum queue list, then vellum queue resume)"
    );
}

async fn is_restored(store: &Store, kept: Option<&RestoreGuard>, accepted: bool) -> Result<bool, StoreError> {
    let mut conn = store.read().await?;
    let Some(kept) = kept else {
        // A file without its folder was put back or moved. A new folder on a shared database is a
        // new node.
        let is_used = (accepted || !store.is_shared()) && runs::any(&mut conn).await?;
        return Ok(is_used || runs::any_from_backup(&mut conn).await?);
    };
    match runs::of_folder(&mut conn, &kept.folder).await? {
        Some(run) => Ok(run != kept.run_id && run != kept.before),
        // The database is another one, which an operator has accepted, or from before the folder's first start.
        None => {
            let is_used = (accepted || !kept.is_first_start()) && users::any(&mut conn).await?;
            Ok(is_used || runs::any_from_backup(&mut conn).await?)
        }
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
        async fn begin(&self) -> (RestoreGuard, bool) {
            let store = self.store().await;
            let begun = RestoreGuard::begin(&store, &self.dir, false, NOW).await.unwrap();
            store.close().await;
            begun
        }
    }

    async fn set(store: &Store, folder: &str, run: &str) {
        let (folder, run) = (folder.to_owned(), run.to_owned());
        let set: Result<(), StoreError> =
            store.write(move |tx| async move { runs::set(tx, &folder, &run).await }.boxed()).await;
        set.unwrap();
    }

    #[tokio::test]
    async fn a_database_that_is_away_for_some_renewals_is_no_backup() {
        let house = House::new().await;
        let (mut guard, _) = house.begin().await;
        let away = house.store().await;
        away.close().await;
        for _ in 0..3 {
            assert!(guard.renew(&away, &house.dir, NOW).await.is_err());
        }
        let (mut guard, restored) = house.begin().await;
        assert!(!restored, "the database knows the last name that it was told");
        let store = house.store().await;
        assert!(!guard.renew(&store, &house.dir, NOW).await.unwrap());
        store.close().await;
        assert!(!house.begin().await.1);
    }

    #[tokio::test]
    async fn a_database_that_is_put_back_beneath_a_running_node_is_recognised_at_the_next_renewal() {
        let house = House::new().await;
        let (mut guard, _) = house.begin().await;
        let store = house.store().await;
        assert!(!guard.renew(&store, &house.dir, NOW).await.unwrap());
        set(&store, &guard.folder, "of-an-earlier-hour").await;
        assert!(guard.renew(&store, &house.dir, NOW).await.unwrap());
        assert!(node_state::deliveries_paused(&mut store.read().await.unwrap()).await.unwrap());
        assert!(!guard.renew(&store, &house.dir, NOW).await.unwrap(), "told once");
        store.close().await;
    }
}
