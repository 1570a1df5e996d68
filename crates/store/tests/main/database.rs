//! Opening: what the file is set to, and what is refused.

use std::os::unix::fs::PermissionsExt;

use futures_util::FutureExt;
use futures_util::future::join_all;
use sqlx::{Connection, PgConnection, SqliteConnection};
use vellum_store::{Store, StoreError, UserId, roles};
use vellum_test_database::{Engine, engine};

use crate::support::{Db, insert_user};

#[tokio::test]
async fn the_file_is_in_write_ahead_mode() {
    let db = Db::on_sqlite().await;
    // The mode is a property of the file, so another connection sees it.
    let mut other = SqliteConnection::connect(&db.url()).await.unwrap();
    let (mode,): (String,) = sqlx::query_as("pragma journal_mode").fetch_one(&mut other).await.unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_row_that_refers_to_nothing_is_refused() {
    let db = Db::on_sqlite().await;
    let given: Result<(), StoreError> = db
        .store
        .write(|tx| async move { roles::give(tx, &UserId::from("nobody".to_owned()), "user").await }.boxed())
        .await;
    assert!(matches!(given, Err(StoreError::Database(_))), "foreign keys are in force: {given:?}");
}

#[tokio::test]
async fn nobody_else_can_read_the_files() {
    let db = Db::on_sqlite().await;
    db.user("alice@example.org").await;
    let mut seen = 0;
    for file in std::fs::read_dir(db.folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
        seen += 1;
    }
    assert!(seen >= 2, "the database and its log");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let db = Db::on_sqlite().await;
    db.user("alice@example.org").await;
    db.store.close().await;
    let mut other = SqliteConnection::connect(&db.url()).await.unwrap();
    sqlx::query(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'of tomorrow', 1, x'00', 0)",
    )
    .execute(&mut other)
    .await
    .unwrap();
    assert!(matches!(Store::open(&db.url()).await, Err(StoreError::Schema(_))));
    sqlx::query("delete from _sqlx_migrations where version = 9999").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    let store = Store::open(&db.url()).await.unwrap();
    assert_eq!(Db { store, ..db }.emails().await, ["alice@example.org"]);
}

#[tokio::test]
async fn a_database_whose_history_was_altered_is_refused() {
    let db = Db::on_sqlite().await;
    db.store.close().await;
    let mut other = SqliteConnection::connect(&db.url()).await.unwrap();
    sqlx::query("update _sqlx_migrations set checksum = x'00'").execute(&mut other).await.unwrap();
    assert!(matches!(Store::open(&db.url()).await, Err(StoreError::Schema(_))));
}

#[tokio::test]
async fn only_an_address_of_a_file_is_taken() {
    for url in ["mysql://localhost/x", "/var/lib/node.db", "node.db", "", "SQLITE://x"] {
        assert!(matches!(Store::open(url).await, Err(StoreError::Address(_))), "{url}");
        assert!(matches!(Store::file(url), Err(StoreError::Address(_))), "{url}");
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_told_as_a_wrong_address() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/missing/node.db", folder.path().display());
    assert!(matches!(Store::open(&url).await, Err(StoreError::Address(_))));
}

#[tokio::test]
async fn a_database_in_memory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let by_mode = format!("sqlite://{}/node.db?mode=memory", folder.path().display());
    for url in ["sqlite::memory:", "sqlite://:memory:", by_mode.as_str()] {
        let file = Store::file(url);
        assert!(matches!(file, Err(StoreError::Address(_))), "{url}: {file:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_nodes_that_start_at_once_on_an_empty_server_one_makes_the_tables() {
    let Some(server) = vellum_test_database::shared_server() else { return };
    let address = server.new_database();
    let stores = join_all((0..5).map(|_| Store::open(&address))).await;
    for store in &stores {
        let store = store.as_ref().unwrap();
        let mut conn = store.read().await.unwrap();
        assert_eq!(vellum_store::peers::census(&mut conn).await.unwrap(), Default::default());
    }
    for store in stores {
        store.unwrap().close().await;
    }
}

#[tokio::test]
async fn a_schema_on_a_server_that_is_newer_or_was_altered_is_refused_and_left_as_it_is() {
    let Some(server) = vellum_test_database::shared_server() else { return };
    let address = server.new_database();
    Store::open(&address).await.unwrap().close().await;
    let mut other = PgConnection::connect(&address).await.unwrap();
    for (spoil, mend) in [
        (
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (99999, 'of tomorrow', true, ''::bytea, 0)",
            "delete from _sqlx_migrations where version = 99999",
        ),
        (
            "update _sqlx_migrations set checksum = 'x'::bytea || checksum where version = 1",
            "update _sqlx_migrations set checksum = substr(checksum, 2) where version = 1",
        ),
    ] {
        sqlx::query(spoil).execute(&mut other).await.unwrap();
        let opened = Store::open(&address).await;
        assert!(matches!(opened, Err(StoreError::Schema(_))), "{:?}", opened.err());
        sqlx::query(mend).execute(&mut other).await.unwrap();
        Store::open(&address).await.unwrap().close().await;
    }
    other.close().await.unwrap();
}

/// PostgreSQL stores no U+0000. That is the text's fault, and no reason to try again.
#[tokio::test]
async fn a_text_that_postgresql_does_not_store_is_no_busy_database() {
    let db = Db::new().await;
    if engine() == Engine::Sqlite {
        // It stores any text.
        return;
    }
    let refused = insert_user(&db.store, "a\0b@example.org").await;
    assert!(matches!(refused, Err(StoreError::InvalidText(_))), "{refused:?}");
}
