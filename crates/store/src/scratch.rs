//! A PostgreSQL database for a measurement: created on a server, dropped afterwards.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use uuid::Uuid;

use crate::StoreError;

/// A database that nobody else uses.
pub struct ScratchDatabase {
    server: PgConnectOptions,
    name: String,
}

impl ScratchDatabase {
    /// Creates an empty database on the server of the database at `url`.
    ///
    /// # Errors
    /// [`StoreError::Address`] for an address that is not one of PostgreSQL. Otherwise what the
    /// server says, such as that the role may not create databases.
    pub async fn create(url: &str) -> Result<Self, StoreError> {
        let server = PgConnectOptions::from_str(url)
            // The reason would repeat the address, which carries a password.
            .map_err(|_| StoreError::Address("it must be postgres://…".into()))?;
        let database = Self { server, name: format!("vellum_bench_{}", Uuid::new_v4().simple()) };
        database.run(format!("create database {}", database.name)).await?;
        Ok(database)
    }

    /// The address of the database, with the user and the password of the server's.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.clone().database(&self.name).to_url_lossy().into()
    }

    /// Drops the database and ends every connection to it.
    ///
    /// # Errors
    /// What the server says.
    pub async fn remove(&self) -> Result<(), StoreError> {
        self.run(format!("drop database {} with (force)", self.name)).await
    }

    async fn run(&self, statement: String) -> Result<(), StoreError> {
        let mut connection = self.server.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }
}
