//! The two forms of a sign-in code: eight digits to type, and twenty letters that need no bound on
//! guessing.

use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use vellum_store::sign_in_codes::{CodeHash, CodeHashes, LiveCode};

use super::SignInSettings;
use super::bounds::MOST_LIVE_CODES;

/// Codes of eight digits.
const CODES: u32 = 100_000_000;
/// Letters of the long form: 94 bits.
const LETTERS: usize = 20;

/// A new code.
pub(super) struct NewCode {
    pub digits: SecretString,
    pub letters: SecretString,
}

impl NewCode {
    pub fn generate() -> Self {
        let mut random = rand::rng();
        let digits = format!("{:08}", random.random_range(0..CODES));
        let letters: String = (0..LETTERS).map(|_| char::from(random.random_range(b'A'..=b'Z'))).collect();
        Self { digits: digits.into(), letters: letters.into() }
    }

    pub fn hashes(&self, settings: &SignInSettings, email_folded: &str) -> CodeHashes {
        CodeHashes {
            digits: code_hash(settings, email_folded, &self.digits),
            letters: code_hash(settings, email_folded, &self.letters),
        }
    }
}

/// What somebody presents as a code.
#[derive(Clone)]
pub(super) struct Presented {
    hash: CodeHash,
    /// Whether it has the form of twenty letters. Anything else counts as eight digits.
    pub is_letters: bool,
}

impl Presented {
    /// Reads a code. White space, hyphens and the case of letters do not matter.
    pub fn read(settings: &SignInSettings, email_folded: &str, token: &SecretString) -> Self {
        let kept = token.expose_secret().chars().filter(|c| !c.is_whitespace() && *c != '-');
        let text = SecretString::from(kept.map(|c| c.to_ascii_uppercase()).collect::<String>());
        let is_letters = {
            let text = text.expose_secret();
            text.len() == LETTERS && text.bytes().all(|byte| byte.is_ascii_uppercase())
        };
        Self { hash: code_hash(settings, email_folded, &text), is_letters }
    }

    /// The live code that equals this one. It is compared with as many codes as there can be,
    /// always.
    pub fn find_in<'a>(&self, live: &'a [LiveCode]) -> Option<&'a LiveCode> {
        let places = live.len().max(usize::try_from(MOST_LIVE_CODES).unwrap_or(0));
        let mut found = None;
        for n in 0..places {
            let code = live.get(n);
            let stored = match (code, self.is_letters) {
                (Some(code), true) => &code.hashes.letters,
                (Some(code), false) => &code.hashes.digits,
                (None, _) => &[0; 32],
            };
            if bool::from(stored.ct_eq(&self.hash)) {
                found = code;
            }
        }
        found
    }
}

/// The keyed hash of a code that was sent to an address. `email` is folded (`users::fold_email`).
#[must_use]
pub fn code_hash(settings: &SignInSettings, email: &str, code: &SecretString) -> CodeHash {
    keyed_hash(settings, "vellum one-time code v1", &[email, code.expose_secret()])
}

/// A hash that cannot be made without the node's key. `purpose` keeps hashes of different kinds
/// apart.
pub(super) fn keyed_hash(settings: &SignInSettings, purpose: &str, parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(purpose.as_bytes());
    hash.update(b"\0");
    hash.update(settings.code_key.expose_secret());
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            hash.update(b"\0");
        }
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use secrecy::SecretBox;

    use super::super::CodeBounds;
    use super::*;

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let settings = SignInSettings {
            open_registration: false,
            code_key: Arc::new(SecretBox::new(Box::new([7; 32]))),
            bounds: CodeBounds::default(),
        };
        let read = |typed: &str| {
            let read = Presented::read(&settings, "a@example.org", &SecretString::from(typed.to_owned()));
            (read.hash, read.is_letters)
        };
        let letters = read("ABCDEFGHIJKLMNOPQRST");
        assert!(letters.1, "twenty letters are read as eight digits");
        for typed in ["abcdefghijklmnopqrst", "abcde-fghij-KLMNO-pqrst", " ABCDE FGHIJ\u{a0}KLMNO\tPQRST\n"] {
            assert_eq!(read(typed), letters, "{typed:?}");
        }
        let digits = read("12345678");
        assert!(!digits.1, "eight digits are read as twenty letters");
        assert_eq!(read("1234-5678 "), digits);
        for other in ["ABCDEFGHIJKLMNOPQRS", "ABCDEFGHIJKLMNOPQRSTU", "ABCDEFGHIJKLMNOPQRS1"] {
            assert!(!read(other).1, "{other} is no twenty letters");
        }
    }
}
