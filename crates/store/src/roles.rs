//! Roles and permissions: seeded by the migrations, given to users here.

use crate::conn::on;
use crate::{Conn, StoreError, Tx, UserId};

/// A role as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Role {
    /// The role's name in programs: `user`, `alpha`, `admin`.
    pub id: String,
    /// The role's name for people.
    pub name: String,
}

/// Gives the user a role.
///
/// # Errors
/// A database error when there is no such role.
pub async fn give(tx: &mut Tx, user: &UserId, role: &str) -> Result<(), StoreError> {
    on!(tx, c => sqlx::query("insert into user_roles (user_id, role_id) values ($1, $2) on conflict do nothing")
        .bind(user).bind(role).execute(c).await)?;
    Ok(())
}

/// The roles of a user, lowest first.
pub async fn of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<Role>, StoreError> {
    Ok(on!(conn, c => sqlx::query_as(
        "select r.id, r.name from roles r join user_roles u on u.role_id = r.id where u.user_id = $1 order by r.rank"
    )
    .bind(user).fetch_all(c).await)?)
}

/// The ids of every permission that the user's roles give, in alphabetical order.
pub async fn permissions_of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<String>, StoreError> {
    let rows: Vec<(String,)> = on!(conn, c => sqlx::query_as(
        "select distinct p.permission_id from role_permissions p join user_roles u on u.role_id = p.role_id
         where u.user_id = $1 order by p.permission_id"
    )
    .bind(user).fetch_all(c).await)?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}
