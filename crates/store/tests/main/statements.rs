//! Every query that stands in the sources as one text is one that both engines take.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqlSafeStr as _};
use vellum_store::Store;
use vellum_test_database::shared_server;

/// A text given to `Statement::new`, and where.
struct Text {
    place: String,
    sql: String,
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| sources(folder));
    let own = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    own.chain(below).collect()
}

/// Collects the literals that follow `Statement::new(`; texts that are put together run in the
/// tests of their functions.
fn collect(tokens: TokenStream, file: &Path, texts: &mut Vec<Text>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    for (n, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let before: String = tokens[n.saturating_sub(4)..n].iter().map(ToString::to_string).collect();
        if group.delimiter() == Delimiter::Parenthesis && before == "Statement::new" {
            texts.extend(literal(group).map(|sql| Text { place: file.display().to_string(), sql }));
        }
        collect(group.stream(), file, texts);
    }
}

fn literal(group: &Group) -> Option<String> {
    let TokenTree::Literal(literal) = group.stream().into_iter().next()? else { return None };
    syn::parse_str::<syn::LitStr>(&literal.to_string()).ok().map(|text| text.value())
}

/// What only PostgreSQL runs.
const POSTGRESQL_ONLY: &[&str] = &["postgres.rs", "signals.rs", "displaced_leases.rs"];

/// The texts of all files but `left_out`, and but those of copies, which make a table for
/// themselves.
fn texts(left_out: &[&str]) -> Vec<Text> {
    let mut texts = Vec::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in sources(&folder) {
        let source = std::fs::read_to_string(&file).unwrap().parse().unwrap();
        collect(source, file.strip_prefix(&folder).unwrap(), &mut texts);
    }
    texts.retain(|text| text.place != "copy.rs" && !left_out.contains(&text.place.as_str()));
    assert!(texts.len() > 100, "only {} texts were found", texts.len());
    texts
}

fn assert_none(refused: &[String], engine: &str) {
    assert!(refused.is_empty(), "{engine} does not take:\n{}", refused.join("\n"));
}

#[tokio::test]
async fn every_query_is_one_that_sqlite_takes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vellum.db");
    Store::open(&format!("sqlite://{}", file.display())).await.unwrap().close().await;
    let database = rusqlite::Connection::open(file).unwrap();
    let refused = |Text { place, sql }: Text| {
        let error = database.prepare(&sql.replace('$', "?")).err()?;
        Some(format!("{place}: {error}: {sql}"))
    };
    assert_none(&texts(POSTGRESQL_ONLY).into_iter().filter_map(refused).collect::<Vec<_>>(), "SQLite");
}

#[tokio::test]
async fn every_query_is_one_that_postgresql_takes() {
    let Some(server) = shared_server() else { return };
    let url = server.new_database();
    Store::open(&url).await.unwrap().close().await;
    let mut database = PgConnection::connect(&url).await.unwrap();
    let mut refused = Vec::new();
    for Text { place, sql } in texts(&[]) {
        if let Err(error) = database.prepare(AssertSqlSafe(sql.clone()).into_sql_str()).await {
            refused.push(format!("{place}: {error}: {sql}"));
        }
    }
    assert_none(&refused, "PostgreSQL");
}
