//! The tables that both engines have.

use std::collections::BTreeSet;

use crate::conn::per_engine;
use crate::statement::Statement;
use crate::{Conn, StoreError};

/// The table that marks the target of an unfinished copy.
pub(crate) const COPY_MARK: &str = "copy_under_way";

/// A table and what its rows are ordered by.
pub(crate) struct Table {
    pub name: &'static str,
    pub key: &'static [&'static str],
}

const fn table(name: &'static str, key: &'static [&'static str]) -> Table {
    Table { name, key }
}

/// Every table, after those that it refers to.
pub(crate) const TABLES: [Table; 32] = [
    table("users", &["id"]),
    table("published_aliases", &["alias_folded"]),
    table("preferences", &["user_id"]),
    table("permissions", &["id"]),
    table("roles", &["id"]),
    table("role_permissions", &["role_id", "permission_id"]),
    table("user_roles", &["user_id", "role_id"]),
    table("sessions", &["id"]),
    table("one_time_codes", &["email_folded"]),
    table("sign_in_codes", &["id"]),
    table("wrong_codes", &["account", "source", "hour"]),
    table("code_emails", &["account"]),
    table("mail_queue", &["id"]),
    table("known_sources", &["user_id", "source"]),
    table("passkeys", &["credential_id"]),
    table("passkey_ceremonies", &["challenge_hash"]),
    table("device_transfers", &["id"]),
    table("blobs", &["user_id", "blob_type"]),
    table("slots", &["user_id", "credential_id"]),
    table("collections", &["id"]),
    table("wrap_secrets", &["user_id", "device_id"]),
    table("audit", &["id"]),
    table("friendships", &["id"]),
    table("invitations", &["id"]),
    table("shares", &["id"]),
    table("peers", &["domain"]),
    table("outbox", &["id"]),
    table("transport_nonces", &["sender", "nonce"]),
    table("applied_envelopes", &["sender_handle", "nonce"]),
    table("node_state", &["name"]),
    table("node_facts", &["name"]),
    table("epochs", &["folder"]),
];

/// Tables that a new database has rows in already; a copy brings its own.
pub(crate) const SEEDED: [&str; 4] = ["role_permissions", "roles", "permissions", "node_state"];

/// The names of the tables that a database has.
pub(crate) async fn present(conn: &mut Conn) -> Result<BTreeSet<String>, StoreError> {
    let select = per_engine!(conn,
        sqlite: "select name from sqlite_schema where type = 'table'",
        postgres: "select tablename::text from pg_tables where schemaname = current_schema()"
    );
    let names: Vec<(String,)> = conn.all(Statement::new(select)).await?;
    Ok(names.into_iter().map(|(name,)| name).collect())
}

/// Refuses the target of a copy that was begun and not finished.
pub(crate) fn refuse_unfinished_copy(present: &BTreeSet<String>) -> Result<(), StoreError> {
    if present.contains(COPY_MARK) {
        let reason = "a copy to this database is not finished: run the same vellum db copy again";
        return Err(StoreError::Copy(reason.into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_table_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("v.db").display());
        let store = crate::Store::open(&url).await.unwrap();
        let mut there = present(&mut store.read().await.unwrap()).await.unwrap();
        there.retain(|name| !name.starts_with('_') && !name.starts_with("sqlite_"));
        assert_eq!(there, TABLES.iter().map(|table| table.name.to_owned()).collect());
    }
}
