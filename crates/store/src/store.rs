//! A node's database, whichever engine it is: [`Store::read`] and [`Store::write`].

use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::timeout;
use vellum_protocol::{Alias, UnixMillis};

use crate::conn::{Conn, EngineConn, Reader, Tx, per_engine};
use crate::error::TxError;
use crate::node_state;
use crate::postgres::Postgres;
use crate::sessions::{self, Known, TokenHash};
use crate::signals::Signals;
use crate::sqlite::Sqlite;
use crate::statement::Statement;
use crate::users::{self, User};
use crate::write_status::WriteStatus;
use crate::{StoreError, TxFuture, UserId, connect, tables};

/// How long the database may take to answer where somebody asks whether it does.
const ANSWER: Duration = Duration::from_secs(2);

/// A node's database. Clones are handles to the same one.
#[derive(Clone)]
pub struct Store {
    engine: Engine,
}

#[derive(Clone)]
enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database at `url` (`sqlite://PATH` or `postgres://…`) and brings its schema up to date. A
    /// SQLite file is made if it is not there. What is committed is on the disk.
    ///
    /// # Errors
    /// [`StoreError::Address`] for another scheme, [`StoreError::Schema`] for a database of a newer
    /// version, otherwise what the database says.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let engine = if connect::is_postgres(url) {
            Engine::Postgres(Postgres::open(url).await?)
        } else {
            Engine::Sqlite(Sqlite::open(url).await?)
        };
        let store = Self { engine };
        let present = tables::present(&mut *store.read().await?).await?;
        if let Err(error) = tables::refuse_unfinished_copy(&present) {
            store.close().await;
            return Err(error);
        }
        Ok(store)
    }

    /// The file that a database address names; `None` for a database that is no file.
    ///
    /// # Errors
    /// [`StoreError::Address`] for an address that [`Store::open`] would refuse.
    pub fn file(url: &str) -> Result<Option<PathBuf>, StoreError> {
        connect::file(url)
    }

    /// Names the database at `url` for people: the file, or the server's database without user and
    /// password.
    #[must_use]
    pub fn place(url: &str) -> String {
        connect::place(url)
    }

    /// Whether other nodes may be at work on this database.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.engine, Engine::Postgres(_))
    }

    /// A connection for reading.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when none becomes free in time, [`StoreError::Closed`] after [`Store::close`].
    pub async fn read(&self) -> Result<Reader, StoreError> {
        match &self.engine {
            Engine::Sqlite(database) => database.read().await,
            Engine::Postgres(database) => database.read().await,
        }
    }

    /// Runs `read`, which may take long, where it keeps no request waiting: on SQLite on a thread for
    /// blocking work. That is for searches, lists, large values and exports.
    ///
    /// # Errors
    /// Whatever `read` returns, or as [`Store::read`].
    pub async fn read_blocking<T, E, F>(&self, read: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: TxError,
        F: for<'c> FnOnce(&'c mut Conn) -> TxFuture<'c, T, E> + Send + 'static,
    {
        match &self.engine {
            Engine::Sqlite(database) => {
                let reader = database.check_out().await?;
                let run = move || {
                    let mut conn = Conn::new(EngineConn::Sqlite(reader));
                    read(&mut conn).now_or_never().unwrap_or_else(|| Err(StoreError::Waited.into()))
                };
                let ended = tokio::task::spawn_blocking(run).await;
                ended.unwrap_or_else(|_| Err(StoreError::Panicked.into()))
            }
            Engine::Postgres(database) => read(&mut *database.read().await?).await,
        }
    }

    /// The session with this token that has not ended at `now`, with its user and what they may do:
    /// all of one moment.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn session(&self, token: &TokenHash, now: UnixMillis) -> Result<Option<Known>, StoreError> {
        sessions::by_token(&mut *self.read().await?, token, now).await
    }

    /// The user with this id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        users::by_id(&mut *self.read().await?, id).await
    }

    /// The user with this alias, compared without case (wire protocol, section 1).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn user_by_alias(&self, alias: &Alias) -> Result<Option<User>, StoreError> {
        users::by_alias(&mut *self.read().await?, alias).await
    }

    /// Runs `work` in a transaction. When this returns `Ok`, its changes are on the disk; when it returns
    /// an error, none of them is. Transactions are as good as one after the other; where others get in the
    /// way, `work` is run again from the beginning, so it may have no effect outside the database that must
    /// not happen twice. It goes on if the caller stops waiting.
    ///
    /// # Errors
    /// Whatever `work` returns, or a [`StoreError`] when the transaction could not be run or committed.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: TxError,
        F: for<'t> FnOnce(&'t mut Tx) -> TxFuture<'t, T, E> + Clone + Send + 'static,
    {
        match &self.engine {
            Engine::Sqlite(database) => database.write(work).await,
            // The large one of the two, on the heap.
            Engine::Postgres(database) => Box::pin(database.write(work)).await,
        }
    }

    /// Forgets what the engine keeps for its own purposes and needs no more. Housekeeping calls it now and then.
    ///
    /// # Errors
    /// Only what the database says; the next time does it.
    pub async fn tidy(&self, now: UnixMillis) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(()),
            Engine::Postgres(database) => database.forget_marks(now).await,
        }
    }

    /// How many connections to the database are open.
    #[must_use]
    pub fn connections(&self) -> u32 {
        match &self.engine {
            Engine::Sqlite(database) => database.connections(),
            Engine::Postgres(database) => database.connections(),
        }
    }

    fn write_status(&self) -> &WriteStatus {
        match &self.engine {
            Engine::Sqlite(database) => &database.status,
            Engine::Postgres(database) => &database.status,
        }
    }

    /// Whether the database answers a question within two seconds.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn check_readable(&self) -> Result<(), StoreError> {
        let read = async { users::any(&mut *self.read().await?).await.map(drop) };
        if let Ok(answer) = timeout(ANSWER, read).await {
            return answer;
        }
        let error = match &self.engine {
            Engine::Sqlite(_) => StoreError::Busy,
            Engine::Postgres(database) => database.timed_out(),
        };
        self.write_status().read_failed(&error);
        Err(error)
    }

    /// Whether the database takes changes: how the last one ended or, where that was more than 30 s ago, how a small
    /// one ends that is made now, once for all who ask meanwhile.
    ///
    /// # Errors
    /// Why it ended badly.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        let probe =
            async || self.write(|tx| async move { node_state::write_and_remove(tx).await }.boxed()).await;
        self.write_status().check(probe).await
    }

    /// What other nodes on this database tell; `None` where there are none.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn signals(&self) -> Result<Option<Signals>, StoreError> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(None),
            Engine::Postgres(database) => Signals::listen(database).await.map(Some),
        }
    }

    /// Reads the whole database and says what is wrong with it; an empty list says that it is whole. On
    /// PostgreSQL that is the server's business, and the list is empty.
    ///
    /// # Errors
    /// When it cannot even be read.
    pub async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        let rows: Result<Vec<(String,)>, StoreError> = self
            .read_blocking(|conn| {
                let check = per_engine!(conn, sqlite: "pragma integrity_check", postgres: "select 'ok'");
                async move { conn.all(Statement::new(check)).await }.boxed()
            })
            .await;
        Ok(rows?.into_iter().map(|(text,)| text).filter(|text| text != "ok").collect())
    }

    /// Finishes the writes handed in before, then closes every connection.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Sqlite(database) => database.close().await,
            Engine::Postgres(database) => database.close().await,
        }
    }
}
