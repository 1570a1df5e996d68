//! Signing in with a code, out of the letters that a node writes into a folder.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use vellum_client::NodeClient;

use crate::world::World;

/// Signs in by a code out of a letter, and gives the user's id.
pub async fn sign_in(
    world: &World,
    node: usize,
    letters: &std::path::Path,
    client: &mut NodeClient,
    email: &str,
) -> anyhow::Result<String> {
    client.request_code(email).await?;
    let code = code_for(world, node, letters, email).await?;
    Ok(client.sign_in_with_code(email, &code).await?.id)
}

/// Waits for the email; older ones to the same address go with it.
async fn code_for(
    world: &World,
    node: usize,
    folder: &std::path::Path,
    email: &str,
) -> anyhow::Result<String> {
    for _ in 0..200 {
        let taken = {
            let _one_at_a_time = world.letters[node].lock().await;
            take_letters(folder, email)
        };
        if let Some(letter) = taken.last() {
            let is_code = |line: &&str| line.len() == 8 && line.bytes().all(|byte| byte.is_ascii_digit());
            return letter.lines().find(is_code).map(str::to_owned).context("a code in the letter");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("no letter has come for {email}")
}

/// Takes the letters to an address out of the folder, the oldest first.
fn take_letters(folder: &std::path::Path, email: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "eml"))
        .collect();
    paths.sort();
    let mut letters = Vec::new();
    for path in paths {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if text.lines().take_while(|line| !line.trim().is_empty()).any(|line| line.contains(email)) {
            // Somebody else's process may not take it; nothing rests on its being gone.
            let _ = std::fs::remove_file(&path);
            letters.push(text);
        }
    }
    letters
}
