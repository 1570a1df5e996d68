//! What a piece of sealed data is bound to, and how that is written as bytes (wire protocol, section 8,
//! additional data). Bindings of the seed itself and of what friends share are made where they are used.

use crate::seal_error::SealError;

/// Label of the key of personal blobs, and the context of what it seals.
pub const PERSONAL_CONTEXT: &str = "parchment-personal-v1";
/// Label of the key of sealed profile fields, and the context of what it seals.
pub const METADATA_CONTEXT: &str = "parchment-metadata-v1";
/// The context of a collection's sealed metadata. It is *not* the label of the collection's key.
pub const COLLECTION_METADATA_CONTEXT: &str = "parchment-collection-metadata-v1";

/// What sealed data is bound to. It opens only when the reader names the same four texts, so whoever keeps
/// the ciphertext cannot pass one record off as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// Whose it is. Some records put another name here: see the functions that make a binding.
    pub user_id: &'a str,
    /// What kind of record.
    pub record_type: &'a str,
    /// Which record of that kind.
    pub record_id: &'a str,
    /// What the key is for.
    pub key_context: &'a str,
}

impl<'a> Binding<'a> {
    /// A personal blob, under [`MasterSeed::personal_key`](crate::MasterSeed::personal_key).
    #[must_use]
    pub fn personal_blob(user_id: &'a str, blob_type: &'a str) -> Self {
        Self { user_id, record_type: "personal-blob", record_id: blob_type, key_context: PERSONAL_CONTEXT }
    }

    /// A sealed field of the profile, under [`MasterSeed::metadata_key`](crate::MasterSeed::metadata_key).
    #[must_use]
    pub fn user_metadata(user_id: &'a str, field_name: &'a str) -> Self {
        Self { user_id, record_type: "user-metadata", record_id: field_name, key_context: METADATA_CONTEXT }
    }

    /// A collection's metadata, under [`MasterSeed::collection_key`](crate::MasterSeed::collection_key).
    #[must_use]
    pub fn collection_metadata(user_id: &'a str, collection_id: &'a str) -> Self {
        let key_context = COLLECTION_METADATA_CONTEXT;
        Self { user_id, record_type: "collection-metadata", record_id: collection_id, key_context }
    }

    /// The additional data as bytes: of each field its length as a big-endian 16-bit number, then its UTF-8.
    /// The lengths keep `("ab", "c")` and `("a", "bc")` apart.
    ///
    /// # Errors
    /// [`SealError::FieldTooLong`] beyond 65535 bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SealError> {
        let fields = [
            ("user_id", self.user_id),
            ("record_type", self.record_type),
            ("record_id", self.record_id),
            ("key_context", self.key_context),
        ];
        let mut bytes = Vec::with_capacity(fields.iter().map(|(_, text)| 2 + text.len()).sum());
        for (field, text) in fields {
            let length = u16::try_from(text.len())
                .map_err(|_| SealError::FieldTooLong { field, length: text.len() })?;
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        Ok(bytes)
    }
}
