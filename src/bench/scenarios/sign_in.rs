//! `signin`: a code is changed into a session. The codes are written into the database beforehand,
//! as if emails with them had been sent; each works once, so the run ends when they are used up.

use futures_util::FutureExt;
use secrecy::{SecretBox, SecretString};
use std::sync::Arc;
use vellum_actors::Clock;
use vellum_actors::sign_in::{CODE_MILLIS, CodeBounds, SignInSettings, code_hash};
use vellum_store::StoreError;
use vellum_store::sign_in_codes::{self, CodeHashes};

use super::{Bench, BenchEnv, Figures, Scenario, Script, driven, share_of};
use crate::bench::connection::{Answer, write_request};
use crate::bench::limits::Statements;
use crate::data_dir::code_key;

/// The code that everybody was sent.
const CODE: &str = "12345678";

struct SigningIn {
    emails: Vec<String>,
}

impl Script for SigningIn {
    fn write_next(&mut self, request: &mut Vec<u8>) -> bool {
        let Some(email) = self.emails.pop() else { return false };
        let body = format!(r#"{{"method":"otp","email":"{email}","token":"{CODE}"}}"#);
        write_request(request, "POST /auth/sessions", &[], body.as_bytes());
        true
    }

    fn check(&mut self, answer: Answer<'_>) -> Result<(), String> {
        answer.expect(201, r#""token":""#)
    }
}

/// Writes a code for every account, and makes scripts, one per connection.
pub(super) async fn prepare(env: &BenchEnv, connections: usize) -> anyhow::Result<Vec<Box<dyn Script>>> {
    let key: SecretBox<[u8; 32]> = code_key(&BenchEnv::identity());
    let settings =
        SignInSettings { open_registration: false, code_key: Arc::new(key), bounds: CodeBounds::default() };
    let code = SecretString::from(CODE);
    let hashes: Vec<_> = env
        .accounts
        .iter()
        .map(|account| {
            let digits = code_hash(&settings, &account.email, &code);
            (account.email.clone(), CodeHashes { digits, letters: [0; 32] })
        })
        .collect();
    let (store, now) = (env.store().await?, Clock::system().now());
    let written: Result<(), StoreError> = store
        .write(move |tx| {
            async move {
                for (email, hash) in &hashes {
                    sign_in_codes::insert(tx, email, hash, 1, now, now.plus_millis(CODE_MILLIS)).await?;
                }
                Ok(())
            }
            .boxed()
        })
        .await;
    written?;
    store.close().await;
    let script = |connection| -> Box<dyn Script> {
        let emails = share_of(&env.accounts, connection, connections);
        Box::new(SigningIn { emails: emails.into_iter().map(|account| account.email).collect() })
    };
    // No two with the same code.
    Ok((0..connections.min(env.accounts.len())).map(script).collect())
}

/// Measures the store first, then the nodes.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Figures> {
    let bare = super::writing::store_limits(bench, Statements::Keys).await?;
    let (mut figures, _) = driven(Scenario::Signin, bench).await?;
    for (name, rate) in bare {
        figures = figures.limit(&format!("{name} as keys"), rate);
    }
    Ok(figures)
}
