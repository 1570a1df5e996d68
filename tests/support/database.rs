//! A node's database file, read and written beside the running node: to see that nothing changed, and to
//! put there what needs more than HTTP.

use std::collections::BTreeMap;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Row};

use super::{Person, TestNode, now};

/// The database of a node.
pub struct Database(SqlitePool);

/// Every row of every table, as text. Two are equal when nothing changed in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, Vec<String>>);

/// What changes without anybody changing it: when a session was last used.
const PASSING: [(&str, &str); 2] = [("sessions", "last_used_at"), ("sessions", "expires_at")];

impl Database {
    /// Opens the file of a node that runs or has run.
    pub async fn of(node: &TestNode) -> Self {
        let options = SqliteConnectOptions::new().filename(node.process.folder().join("vellum.db"));
        Self(SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap())
    }

    /// Registers a credential without an authenticator; passkeys have tests of their own.
    pub async fn add_passkey(&self, person: &Person, credential_id: &str) {
        sqlx::query(
            "insert into passkeys (credential_id, user_id, credential, counter, device_type, backed_up,
                 transports, created_at)
             values ($1, $2, '{}', 0, 'singleDevice', 0, '[]', $3)",
        )
        .bind(credential_id)
        .bind(id_of(person).await)
        .bind(now().0)
        .execute(&self.0)
        .await
        .unwrap();
    }

    /// A message of somebody's that waits for a node whose messages an operator lets wait; gives the row's id.
    pub async fn add_waiting_message(&self, person: &Person) -> String {
        let id = uuid::Uuid::now_v7().to_string();
        sqlx::query("insert into peers (domain, paused) values ('paused.example', 1) on conflict do nothing")
            .execute(&self.0)
            .await
            .unwrap();
        sqlx::query(
            "insert into outbox (id, user_id, peer_handle, peer_domain, message_type, subject, state, envelope,
                 envelope_at, expires_at, next_attempt_at, created_at)
             values ($1, $2, $3, 'paused.example', 'RELATIONSHIP_REVOKE', '', 'queued', '{}', $4, $5, $5, $4)",
        )
        .bind(&id)
        .bind(id_of(person).await)
        .bind(format!("a{}@paused.example", &id[24..]))
        .bind(now().0)
        .bind(now().plus_millis(86_400_000).0)
        .execute(&self.0)
        .await
        .unwrap();
        id
    }

    /// Puts so many messages to people on a node into the queue, due at once and for a day.
    pub async fn add_messages(&self, person: &Person, domain: &str, count: usize) {
        let (user, from, at) = (id_of(person).await, person.handle(), now());
        let mut tx = self.0.begin().await.unwrap();
        for n in 0..count {
            let to = format!("user{n}@{domain}");
            let signed = person.signer().revoke(&to.parse().unwrap(), at, &mut rand::rng());
            let envelope = serde_json::json!({
                "protocol_version": 2, "message_type": "RELATIONSHIP_REVOKE", "message_version": 1, "from": from,
                "to": to, "nonce": signed.nonce, "timestamp": signed.timestamp, "payload": {},
                "signature": signed.signature,
            });
            sqlx::query(
                "insert into outbox (id, user_id, peer_handle, peer_domain, message_type, subject, state, envelope,
                     envelope_at, expires_at, next_attempt_at, created_at)
                 values ($1, $2, $3, $4, 'RELATIONSHIP_REVOKE', '', 'queued', $5, $6, $7, $6, $6)",
            )
            .bind(uuid::Uuid::now_v7().to_string())
            .bind(&user)
            .bind(&to)
            .bind(domain)
            .bind(envelope.to_string())
            .bind(at.0)
            .bind(at.plus_millis(86_400_000).0)
            .execute(&mut *tx)
            .await
            .unwrap();
        }
        tx.commit().await.unwrap();
    }

    /// How many messages are in the queue.
    pub async fn count_messages(&self) -> u64 {
        let (count,): (i64,) =
            sqlx::query_as("select count(*) from outbox").fetch_one(&self.0).await.unwrap();
        u64::try_from(count).unwrap()
    }

    /// A node that was met once.
    pub async fn add_peer(&self, domain: &str, key: &str) {
        sqlx::query("insert into peers (domain, public_key) values ($1, $2)")
            .bind(domain)
            .bind(key)
            .execute(&self.0)
            .await
            .unwrap();
    }

    /// A node that was met shows another key now.
    pub async fn offer_key(&self, domain: &str, key: &str) {
        sqlx::query("update peers set offered_key = $2 where domain = $1")
            .bind(domain)
            .bind(key)
            .execute(&self.0)
            .await
            .unwrap();
    }

    /// Leaves somebody without any permission.
    pub async fn take_roles(&self, person: &Person) {
        let query = sqlx::query("delete from user_roles where user_id = $1");
        query.bind(id_of(person).await).execute(&self.0).await.unwrap();
    }

    /// All that is stored now.
    pub async fn snapshot(&self) -> Snapshot {
        let mut tables = BTreeMap::new();
        for table in self.texts("select name from sqlite_schema where type = 'table'").await {
            tables.insert(table.clone(), self.rows(&table).await);
        }
        Snapshot(tables)
    }

    async fn rows(&self, table: &str) -> Vec<String> {
        let columns = self.texts(&format!("select name from pragma_table_info('{table}')")).await;
        let shown: Vec<String> = columns
            .iter()
            .filter(|column| !PASSING.contains(&(table, column.as_str())))
            .map(|column| format!("'{column}=' || quote({column})"))
            .collect();
        self.texts(&format!("select {} from {table} order by 1", shown.join(" || ' ' || "))).await
    }

    async fn texts(&self, query: &str) -> Vec<String> {
        let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&self.0).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

async fn id_of(person: &Person) -> String {
    person.client.current_session().await.unwrap().unwrap().user.id
}

impl Snapshot {
    /// What is in one of the two and not in the other, for people to read.
    pub fn difference(&self, later: &Self) -> Vec<String> {
        let only = |one: &Self, other: &Self, sign: &str| -> Vec<String> {
            let rows = one.0.iter().flat_map(|(table, rows)| rows.iter().map(move |row| (table, row)));
            let gone = rows.filter(|(table, row)| !other.0.get(*table).is_some_and(|all| all.contains(row)));
            gone.map(|(table, row)| format!("{sign} {table}: {row}")).collect()
        };
        [only(self, later, "-"), only(later, self, "+")].concat()
    }
}
