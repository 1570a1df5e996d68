//! Roles and permissions: seeded by the migrations, given to users here.

use crate::row::columns;
use crate::statement::Statement;
use crate::{Conn, StoreError, Tx, UserId};

/// A role as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The role's name in programs: `user`, `alpha`, `admin`.
    pub id: String,
    /// The role's name for people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether a new user has it.
    pub is_default: bool,
    /// Its place: nobody gives a role above their own.
    pub rank: i64,
}

columns!("roles": Role { id, name, description, is_default, rank });

/// A permission as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// The permission's name in programs, such as `users:read`.
    pub id: String,
    /// The permission's name for people.
    pub name: String,
}

columns!("permissions": Permission { id, name });

/// Every role, lowest first.
pub async fn all(conn: &mut Conn) -> Result<Vec<Role>, StoreError> {
    conn.all(Statement::new("select id, name, description, is_default, rank from roles order by rank")).await
}

/// Every permission, in alphabetical order.
pub async fn all_permissions(conn: &mut Conn) -> Result<Vec<Permission>, StoreError> {
    conn.all(Statement::new("select id, name from permissions order by id")).await
}

/// Gives the user a role.
///
/// # Errors
/// A database error when there is no such role.
pub async fn give(tx: &mut Tx, user: &UserId, role: &str) -> Result<(), StoreError> {
    tx.change(
        Statement::new("insert into user_roles (user_id, role_id) values ($1, $2) on conflict do nothing")
            .bind(user)
            .bind(role),
    )
    .await?;
    Ok(())
}

/// The roles of a user, lowest first.
pub async fn of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<Role>, StoreError> {
    conn.all(
        Statement::new(
            "select r.id, r.name, r.description, r.is_default, r.rank
         from roles r join user_roles u on u.role_id = r.id where u.user_id = $1 order by r.rank",
        )
        .bind(user),
    )
    .await
}

/// The ids of every permission that the user's roles give, in alphabetical order.
pub async fn permissions_of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<String>, StoreError> {
    let rows: Vec<(String,)> = conn.all(Statement::new("select distinct p.permission_id from role_permissions p join user_roles u on u.role_id = p.role_id
         where u.user_id = $1 order by p.permission_id").bind(user)).await?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}
