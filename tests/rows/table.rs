//! The table, a file for each part of the API.

pub mod accounts;
pub mod admin;
pub mod friends;
pub mod identity;
pub mod legacy_client;
pub mod public;
pub mod sealed;
pub mod sessions;
pub mod sharing;

use super::row::Row;

/// All of it.
pub fn all() -> Vec<Row> {
    let parts = [
        accounts::rows(),
        admin::rows(),
        sessions::rows(),
        identity::rows(),
        legacy_client::rows(),
        sealed::rows(),
        friends::rows(),
        sharing::rows(),
        public::rows(),
    ];
    parts.into_iter().flatten().collect()
}
