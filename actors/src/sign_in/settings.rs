//! How signing in works on a node.

use std::sync::Arc;

use secrecy::SecretBox;

use super::CodeBounds;

/// How signing in works on a node.
#[derive(Clone)]
pub struct SignInSettings {
    /// Whether a code for an unknown address makes an account.
    pub open_registration: bool,
    /// What the hashes of codes are keyed with: eight digits alone would be found by trying them
    /// all.
    pub code_key: Arc<SecretBox<[u8; 32]>>,
    /// How often codes are sent and may be wrong.
    pub bounds: CodeBounds,
}

impl std::fmt::Debug for SignInSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignInSettings")
            .field("open_registration", &self.open_registration)
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}
