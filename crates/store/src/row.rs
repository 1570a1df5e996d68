//! From stored text to typed values. A value that cannot be read names its column, never its content.

use std::fmt::Display;

use vellum_protocol::{EncryptionKey, KmVersion, SigningKey};

use crate::StoreError;

/// How many rows one statement writes: every one of them is a few parameters, of which the engines allow some ten thousand.
pub(crate) const ROWS_A_STATEMENT: usize = 500;

/// Reads one stored value with `parse`.
pub(crate) fn read<T, V, E: Display>(
    column: &'static str,
    value: V,
    parse: impl FnOnce(V) -> Result<T, E>,
) -> Result<T, StoreError> {
    parse(value).map_err(|error| StoreError::Unreadable { column, reason: error.to_string() })
}

/// Reads a stored value that was not there as well as one that was.
pub(crate) fn read_optional<T, V, E: Display>(
    column: &'static str,
    value: Option<V>,
    parse: impl FnOnce(V) -> Result<T, E>,
) -> Result<Option<T>, StoreError> {
    value.map(|value| read(column, value, parse)).transpose()
}

/// Reads a state or kind that is kept as a fixed word.
pub(crate) fn read_word<T>(
    column: &'static str,
    word: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, StoreError> {
    parse(word).ok_or_else(|| StoreError::Unreadable { column, reason: "an unknown word".into() })
}

pub(crate) fn km_version(column: &'static str, version: i64) -> Result<KmVersion, StoreError> {
    read(column, version, |version| KmVersion::new(version).ok_or("below 1"))
}

pub(crate) fn signing_key(column: &'static str, text: &str) -> Result<SigningKey, StoreError> {
    read(column, text, SigningKey::parse)
}

pub(crate) fn encryption_key(column: &'static str, text: &str) -> Result<EncryptionKey, StoreError> {
    read(column, text, EncryptionKey::parse)
}
