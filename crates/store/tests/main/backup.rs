//! Backups of either engine: whatever is changed in one is found, and said where.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tempfile::TempDir;
use vellum_store::backup::{self, TableDigest};
use vellum_store::{Store, copy};
use vellum_test_database::{Engine, engine, shared_server};

/// A column of a table.
struct Column {
    table: String,
    name: String,
    kind: String,
    required: bool,
}

/// A connection that lets through what a database refuses, and changes no more than it is told.
async fn open(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file).foreign_keys(false);
    SqliteConnection::connect_with(&options.pragma("ignore_check_constraints", "on")).await.unwrap()
}

async fn run(file: &Path, statements: &str) {
    let mut database = open(file).await;
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut database).await.expect(statements);
    database.close().await.unwrap();
}

async fn columns(file: &Path) -> Vec<Column> {
    let mut database = open(file).await;
    let rows: Vec<(String, String, String, bool)> = sqlx::query_as(
        "select t.name, c.name, lower(c.type), c.\"notnull\" or c.pk > 0
         from sqlite_schema t join pragma_table_info(t.name) c
         where t.type = 'table' and t.name not like 'sqlite\\_%' escape '\\' order by t.name, c.cid",
    )
    .fetch_all(&mut database)
    .await
    .unwrap();
    database.close().await.unwrap();
    rows.into_iter().map(|(table, name, kind, required)| Column { table, name, kind, required }).collect()
}

/// A value that the column takes, such that every row refers to one that is there.
fn value(Column { name, kind, required, .. }: &Column, row: usize) -> String {
    match (name.as_str(), kind.as_str()) {
        _ if row == 3 && !required => "null".to_owned(),
        ("direction", _) => "'incoming'".to_owned(),
        ("status", _) => "'pending'".to_owned(),
        ("role", _) => "'viewer'".to_owned(),
        ("state", _) if row == 3 => "'awaiting_signature'".to_owned(),
        ("state", _) => "'delivering'".to_owned(),
        (_, "text") => format!("'{}'", "abc".repeat(row)),
        (_, "blob") => format!("x'{}'", "0a".repeat(row)),
        _ => row.to_string(),
    }
}

/// A database with three rows more in every table than a new one has: in the third everything that
/// may be missing is.
async fn filled(folder: &TempDir) -> String {
    let file = folder.path().join("filled.db");
    let url = format!("sqlite://{}", file.display());
    Store::open(&url).await.unwrap().close().await;
    let columns = columns(&file).await;
    let mut statements = String::new();
    for of_table in columns.chunk_by(|one, other| one.table == other.table) {
        let table = &of_table[0].table;
        if table == "_sqlx_migrations" {
            continue;
        }
        for row in 1..4 {
            let values: Vec<String> = of_table.iter().map(|column| value(column, row)).collect();
            statements += &format!("insert or ignore into {table} values ({});", values.join(", "));
        }
    }
    run(&file, &statements).await;
    if engine() == Engine::Sqlite {
        return url;
    }
    let target = vellum_test_database::address(folder.path());
    copy::copy(&url, &target, |_| {}).await.unwrap();
    target
}

/// A backup of such a database.
async fn backup_in(folder: &TempDir) -> PathBuf {
    let file = folder.path().join("back up?#%20.db");
    backup::create(&filled(folder).await, &file).await.unwrap();
    file
}

/// What is said of the backup after a change of its copy.
async fn told(file: &Path, changed: &Path) -> String {
    match backup::verify(changed).await {
        Ok(_) => panic!("the changed copy of {} is called whole", file.display()),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_value_in_any_column_is_found_and_its_table_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = backup_in(&folder).await;
    let contents = backup::verify(&file).await.unwrap();
    let tables: Vec<String> =
        contents.tables.unwrap().into_iter().map(|TableDigest { table, .. }| table).collect();
    let changed = folder.path().join("changed.db");
    for column in columns(&file).await {
        let Column { table, name, .. } = &column;
        if table == "backup_digests" {
            // A change there is one of the table that it is about.
            continue;
        }
        assert!(tables.contains(table), "{table} has no digest");
        let change = "case typeof(%) when 'integer' then % + 7 when 'text' then 'z' || substr(%, 2)
                      when 'blob' then cast(x'7a' || substr(%, 2) as blob) end";
        let mut changes = vec![format!(
            "{} where rowid = (select max(rowid) from {table} where {name} is not null)",
            change.replace('%', name)
        )];
        if !column.required {
            let nothing = match column.kind.as_str() {
                "text" => "''",
                "blob" => "x''",
                _ => "0",
            };
            changes.push(format!("{nothing} where {name} is null"));
        }
        for change in changes {
            fs::copy(&file, &changed).unwrap();
            let statement = format!("update {table} set {name} = {change}");
            run(&changed, &statement).await;
            assert_ne!(fs::read(&changed).unwrap(), fs::read(&file).unwrap(), "no change: {statement}");
            let said = told(&file, &changed).await;
            assert!(said.contains(&format!("the table {table} differs")), "{statement}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_columns_and_tables_that_are_missing_or_added_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = backup_in(&folder).await;
    let changed = folder.path().join("changed.db");
    for (change, expected) in [
        ("delete from audit where rowid = 1", "the table audit has 2 rows instead of 3"),
        (
            "create table t as select * from preferences limit 1; update t set user_id = 'aa';
             insert into preferences select * from t; drop table t",
            "the table preferences has 4 rows instead of 3",
        ),
        ("delete from epochs", "the table epochs has 0 rows instead of 3"),
        ("drop table epochs", "the table epochs is missing"),
        ("create table more (x)", "the table more was added"),
        ("alter table preferences add column more text", "the table preferences differs"),
        ("alter table preferences rename column user_id to owner", "the table preferences differs"),
        ("create index more on audit (event)", "the table sqlite_schema has"),
        ("update audit set event = 'abcx', user_id = 'bc' where rowid = 1", "the table audit differs"),
        // The same values, in other rows.
        (
            "update audit set event = case rowid when 1 then 'abcabc' when 2 then 'abc' else event end",
            "the table audit differs",
        ),
    ] {
        fs::copy(&file, &changed).unwrap();
        run(&changed, change).await;
        let said = told(&file, &changed).await;
        assert!(said.contains(expected), "{change}: expected {expected:?}, and it says {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_is_found_wherever_it_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = backup_in(&folder).await;
    let written = fs::read(&file).unwrap();
    let changed = folder.path().join("changed.db");
    let (end, page) = (written.len(), 4096);
    let places = (0..100).chain((100..end - 3000).step_by(page - 1)).chain((end - 3000..end).step_by(41));
    for place in places.chain([end - 1]) {
        let mut bytes = written.clone();
        bytes[place] ^= 1;
        fs::write(&changed, &bytes).unwrap();
        assert!(backup::verify(&changed).await.is_err(), "byte {place} of {end} was changed");
    }
    for length in [end - 1, end - 73, end - 3000, page * (end / page), page, 0] {
        fs::write(&changed, &written[..length]).unwrap();
        assert!(backup::verify(&changed).await.is_err(), "{length} of {end} bytes are left");
    }
    fs::write(&changed, [written.as_slice(), b"\n"].concat()).unwrap();
    assert!(backup::verify(&changed).await.is_err(), "a byte was added");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_back_to_either_engine_with_every_row_that_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let source = filled(&folder).await;
    let (first, second) = (folder.path().join("first.db"), folder.path().join("second.db"));
    let made = backup::create(&source, &first).await.unwrap();
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    let target = vellum_test_database::address(&other);
    let put_back = backup::restore(&target, &first).await.unwrap();
    assert_eq!(made, put_back);
    let again = backup::restore(&target, &first).await.unwrap_err().to_string();
    assert!(again.contains("is there already") || again.contains("not empty"), "{again}");
    let mode = fs::metadata(&first).unwrap().permissions().mode() & 0o777;
    assert_eq!(format!("{mode:o}"), "600", "who may read a backup");
    if engine() == Engine::Sqlite {
        let left = columns(&other.join("vellum.db")).await;
        assert!(left.iter().all(|column| column.table != "backup_digests"), "digests are left in it");
        assert_eq!(fs::read(other.join("vellum.db")).unwrap().len() % 4096, 0, "no digests are left in it");
    }
    let once_more = backup::create(&target, &second).await.unwrap();
    let differing: Vec<(TableDigest, TableDigest)> = made
        .tables
        .unwrap()
        .into_iter()
        .zip(once_more.tables.unwrap())
        .filter(|(one, other)| one != other && one.table != "_sqlx_migrations")
        .collect();
    assert!(differing.is_empty(), "{differing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_an_earlier_version_is_not_called_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (live, file) = (folder.path().join("live.db"), folder.path().join("earlier.db"));
    Store::open(&format!("sqlite://{}", live.display())).await.unwrap().close().await;
    // As versions up to 0.1 have made backups.
    run(&live, &format!("vacuum into '{}'", file.display())).await;
    let contents = backup::verify(&file).await.unwrap();
    assert_eq!(contents.tables, None, "it has no digests, and none are made up");
    let target = format!("sqlite://{}", folder.path().join("back.db").display());
    assert_eq!(backup::restore(&target, &file).await.unwrap(), contents);
}

/// An empty database as a backup of an earlier version, after this change.
async fn earlier_with(folder: &TempDir, change: &str) -> PathBuf {
    let (live, file) = (folder.path().join("live.db"), folder.path().join("changed.db"));
    Store::open(&format!("sqlite://{}", live.display())).await.unwrap().close().await;
    run(&live, change).await;
    run(&live, &format!("vacuum into '{}'", file.display())).await;
    file
}

/// Why a backup is not put back, with everything that is wrong with it.
async fn refusal(target: &str, file: &Path) -> String {
    match backup::restore(target, file).await {
        Ok(contents) => panic!("{} was put back: {contents:?}", file.display()),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_with_rows_that_refer_to_nothing_is_not_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let stray = "insert into preferences values ('nobody', 'en', 'metric')";
    let file = earlier_with(&folder, stray).await;
    let target = format!("sqlite://{}", folder.path().join("back.db").display());
    let said = refusal(&target, &file).await;
    assert!(said.contains("1 rows refer to nothing"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_newer_version_is_not_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                 values (9999, 'of tomorrow', 1, x'00', 0)";
    let file = earlier_with(&folder, newer).await;
    let target = format!("sqlite://{}", folder.path().join("back.db").display());
    let said = refusal(&target, &file).await;
    assert!(said.contains("step 9999, which a newer version made"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_an_earlier_schema_is_not_put_into_postgresql() {
    let Some(server) = shared_server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let last = "delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)";
    let file = earlier_with(&folder, last).await;
    let said = refusal(&server.new_database(), &file).await;
    assert!(said.contains("an earlier version made it"), "{said}");
}
