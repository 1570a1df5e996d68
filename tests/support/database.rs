//! A node's database, on whichever engine, read and written beside the running node: to see that nothing changed, and to
//! put there what needs more than HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Row};

use super::{Person, TestNode, now, wait_for};

/// The database of a node.
pub enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Runs one body on the pool of whichever engine it is.
macro_rules! on {
    ($database:expr, $pool:ident => $body:expr) => {
        match $database {
            Database::Sqlite($pool) => $body,
            Database::Postgres($pool) => $body,
        }
    };
}

/// Every row of every table, as text. Two are equal when nothing changed in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, Vec<String>>);

/// What changes without a request: when a session was last used, and the name of a run.
const PASSING: [(&str, &str); 3] =
    [("sessions", "last_used_at"), ("sessions", "expires_at"), ("epochs", "epoch")];

impl Database {
    /// Opens the database of a node that runs or has run.
    pub async fn of(node: &TestNode) -> Self {
        match node.process.setting("VELLUM_DATABASE__URL") {
            Some(url) if url.starts_with("postgres:") => {
                Self::Postgres(PgPoolOptions::new().max_connections(1).connect(url).await.unwrap())
            }
            _ => {
                let options = SqliteConnectOptions::new().filename(node.process.folder().join("vellum.db"));
                let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
                Self::Sqlite(pool.unwrap())
            }
        }
    }

    /// Registers a credential without an authenticator; passkeys have tests of their own.
    pub async fn add_passkey(&self, person: &Person, credential_id: &str) {
        on!(self, pool => sqlx::query(
            "insert into passkeys (credential_id, user_id, credential, counter, device_type, backed_up,
                 transports, created_at)
             values ($1, $2, '{}', 0, 'singleDevice', 0, '[]', $3)",
        )
        .bind(credential_id)
        .bind(id_of(person).await)
        .bind(now().0)
        .execute(pool).await.map(drop).unwrap());
    }

    /// A message of somebody's that waits for a node whose messages an operator lets wait; gives the row's id.
    pub async fn add_waiting_message(&self, person: &Person) -> String {
        let id = uuid::Uuid::now_v7().to_string();
        on!(self, pool => sqlx::query("insert into peers (domain, paused) values ('paused.example', 1) on conflict do nothing")
            .execute(pool).await.map(drop).unwrap());
        on!(self, pool => sqlx::query(
            "insert into outbox (id, user_id, peer_handle, peer_domain, message_type, subject, state, envelope,
                 envelope_at, expires_at, next_attempt_at, created_at)
             values ($1, $2, $3, 'paused.example', 'RELATIONSHIP_REVOKE', '', 'queued', '{}', $4, $5, $6, $4)",
        )
        .bind(&id)
        .bind(id_of(person).await)
        .bind(format!("a{}@paused.example", &id[24..]))
        .bind(now().0)
        .bind(now().plus_millis(86_400_000).0)
        // Not further ahead than a node puts anything off: that would be a wrong clock's.
        .bind(now().plus_millis(60_000).0)
        .execute(pool).await.map(drop).unwrap());
        id
    }

    /// Puts so many messages to people on a node into the queue, due at once and for a day.
    pub async fn add_messages(&self, person: &Person, domain: &str, count: usize) {
        let (user, from, at) = (id_of(person).await, person.handle(), now());
        on!(self, pool => {
        let mut tx = pool.begin().await.unwrap();
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
        });
    }

    /// How many messages are in the queue.
    pub async fn count_messages(&self) -> u64 {
        let (count,): (i64,) =
            on!(self, pool => sqlx::query_as("select count(*) from outbox").fetch_one(pool).await.unwrap());
        u64::try_from(count).unwrap()
    }

    /// How many other nodes there is a record of.
    pub async fn count_peers(&self) -> u64 {
        let (count,): (i64,) =
            on!(self, pool => sqlx::query_as("select count(*) from peers").fetch_one(pool).await.unwrap());
        u64::try_from(count).unwrap()
    }

    /// Every row of a table, as text.
    pub async fn rows_of(&self, table: &str) -> Vec<String> {
        self.rows(table).await
    }

    /// Makes every invitation this much older.
    pub async fn age_invitations(&self, millis: i64) {
        on!(self, pool => sqlx::query("update invitations set created_at = created_at - $1")
            .bind(millis)
            .execute(pool).await.map(drop).unwrap());
    }

    /// How many wrong sign-in codes were counted for an account, whatever the source.
    pub async fn count_wrong_codes(&self, account: &str) -> i64 {
        let sum = "select cast(coalesce(sum(tries), 0) as bigint) from wrong_codes where account = $1";
        let (count,): (i64,) =
            on!(self, pool => sqlx::query_as(sum).bind(account).fetch_one(pool).await.unwrap());
        count
    }

    /// Has no sign-in code be live.
    pub async fn forget_codes(&self) {
        on!(self, pool => sqlx::query("delete from sign_in_codes").execute(pool).await.map(drop).unwrap());
    }

    /// How many emails wait to be sent.
    pub async fn count_emails(&self) -> i64 {
        let (count,): (i64,) = on!(self, pool => sqlx::query_as("select count(*) from mail_queue")
            .fetch_one(pool).await.unwrap());
        count
    }

    /// Has every email be due that waits after so many failed attempts. Returns how many these are.
    pub async fn hasten_emails(&self, attempts: i64) -> u64 {
        let hasten = "update mail_queue set next_attempt_at = 0 where attempts = $1 and lease_until is null";
        on!(self, pool => sqlx::query(hasten).bind(attempts).execute(pool).await.unwrap().rows_affected())
    }

    /// Whether an email of which so many attempts have failed waits for the next one.
    #[cfg(debug_assertions)]
    pub async fn has_idle_emails(&self, attempts: i64) -> bool {
        let count = "select count(*) from mail_queue where attempts = $1 and lease_until is null";
        let count: i64 =
            on!(self, pool => sqlx::query_scalar(count).bind(attempts).fetch_one(pool).await.unwrap());
        count > 0
    }

    /// Has every lease of an email be over.
    pub async fn end_email_leases(&self) {
        on!(self, pool => sqlx::query("update mail_queue set lease_until = 0 where lease_until is not null")
            .execute(pool).await.map(drop).unwrap());
    }

    /// Waits until no email waits any more: what the node goes on with after its answer is over.
    async fn settle(&self) {
        wait_for("no email waits to be sent", || self.count_emails(), |emails| *emails == 0).await;
    }

    /// Has every lease be over.
    pub async fn age_leases(&self) {
        on!(self, pool => sqlx::query("update outbox set lease_until = 0 where state = 'delivering'")
            .execute(pool).await.map(drop).unwrap());
    }

    /// Has somebody's sessions be so old that their next use prolongs them; gives when they end
    /// then.
    pub async fn age_sessions(&self, person: &Person) -> i64 {
        let (id, end) = (id_of(person).await, now().plus_millis(86_400_000).0);
        on!(self, pool => sqlx::query("update sessions set expires_at = $2 where user_id = $1")
            .bind(id).bind(end).execute(pool).await.map(drop).unwrap());
        // A node notices within a second what another program does to its database.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        end
    }

    /// When the last of all sessions ends.
    pub async fn last_session_end(&self) -> i64 {
        let (end,): (i64,) = on!(self, pool => sqlx::query_as("select max(expires_at) from sessions")
            .fetch_one(pool).await.unwrap());
        end
    }

    /// Has every device have read its secret so long ago.
    pub async fn age_devices(&self, millis: i64) {
        on!(self, pool => sqlx::query("update wrap_secrets set last_used_at = last_used_at - $1")
            .bind(millis).execute(pool).await.map(drop).unwrap());
    }

    /// Has no alias be known as one that was shown, as in the database of an earlier version.
    pub async fn forget_shown_aliases(&self) {
        on!(self, pool => sqlx::query("delete from published_aliases")
            .execute(pool).await.map(drop).unwrap());
    }

    /// A node that was met once.
    pub async fn add_peer(&self, domain: &str, key: &str) {
        on!(self, pool => sqlx::query("insert into peers (domain, public_key) values ($1, $2)")
            .bind(domain)
            .bind(key)
            .execute(pool).await.map(drop).unwrap());
    }

    /// A node that was met shows another key now.
    pub async fn offer_key(&self, domain: &str, key: &str) {
        on!(self, pool => sqlx::query("update peers set offered_key = $2 where domain = $1")
            .bind(domain)
            .bind(key)
            .execute(pool).await.map(drop).unwrap());
    }

    /// Leaves somebody without any permission.
    pub async fn take_roles(&self, person: &Person) {
        let id = id_of(person).await;
        on!(self, pool => sqlx::query("delete from user_roles where user_id = $1")
            .bind(id).execute(pool).await.map(drop).unwrap());
        // A node notices within a second what another program does to its database.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }

    /// All that is stored now.
    pub async fn snapshot(&self) -> Snapshot {
        self.settle().await;
        let mut tables = BTreeMap::new();
        let names = match self {
            Self::Sqlite(_) => "select name from sqlite_schema where type = 'table'",
            // Marks are the engine's own: every transaction leaves one.
            Self::Postgres(_) => {
                "select tablename::text from pg_tables where schemaname = 'public' and tablename <> 'commit_marks'"
            }
        };
        for table in self.texts(names).await {
            tables.insert(table.clone(), self.rows(&table).await);
        }
        Snapshot(tables)
    }

    async fn rows(&self, table: &str) -> Vec<String> {
        if matches!(self, Self::Postgres(_)) {
            let passing: String =
                PASSING.iter().filter(|(of, _)| *of == table).map(|(_, c)| format!(" - '{c}'")).collect();
            return self
                .texts(&format!("select (to_jsonb(t){passing})::text from {table} t order by 1"))
                .await;
        }
        let columns = self.texts(&format!("select name from pragma_table_info('{table}')")).await;
        let shown: Vec<String> = columns
            .iter()
            .filter(|column| !PASSING.contains(&(table, column.as_str())))
            .map(|column| format!("'{column}=' || quote({column})"))
            .collect();
        self.texts(&format!("select {} from {table} order by 1", shown.join(" || ' ' || "))).await
    }

    async fn texts(&self, query: &str) -> Vec<String> {
        on!(self, pool => {
            let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(pool).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        })
    }
}

async fn id_of(person: &Person) -> String {
    person.client.current_session().await.unwrap().unwrap().user.id
}

impl Snapshot {
    /// Rows with more characters than that.
    pub fn longer_than(&self, characters: usize) -> Vec<&String> {
        self.0.values().flatten().filter(|row| row.chars().count() > characters).collect()
    }

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
