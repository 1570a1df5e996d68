//! The error of sealing. A binding and a sealing key both return it.

/// Why something could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A field of the binding is too long for its length to be written in 16 bits.
    #[error("{field} has {length} bytes; at most 65535 can be bound")]
    FieldTooLong {
        /// Name of the field.
        field: &'static str,
        /// Its length in bytes of UTF-8.
        length: usize,
    },
    /// The plaintext is longer than AES-GCM allows under one nonce (64 GiB).
    #[error("the plaintext is too long to be sealed in one piece")]
    PlaintextTooLong,
}
