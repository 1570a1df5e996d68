//! `vellum demo`: two real nodes, a friendship, a reset, and a revocation that arrives.
//!
//! [`node_process`] starts and stops nodes, [`story`] is what happens, [`screen`] how it is shown. The
//! tests play the same story, and kill a node before each of its steps.

pub mod node_process;
mod screen;
pub mod story;

use std::path::PathBuf;

use anyhow::Context;
use vellum_actors::Clock;

use screen::Screen;
use story::{Step, Story};

/// Plays the whole story with nodes of this binary, in folders that are thrown away.
///
/// # Errors
/// The first step that did not hold.
pub async fn play(binary: PathBuf, json: bool) -> anyhow::Result<()> {
    let folder = Scratch::new()?;
    let screen = Screen::new(json);
    let mut story = Story::begin(binary, &folder.0, Clock::system()).await?;
    screen.title(&story);
    for (number, step) in Step::ALL.into_iter().enumerate() {
        let told =
            story.play(step).await.with_context(|| format!("step {}: {}", number + 1, step.title()))?;
        screen.step(number + 1, step, &told);
    }
    story.end().await;
    screen.end();
    Ok(())
}

/// A folder that goes when the demo ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("vellum-demo-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "the demo's folder could not be removed");
        }
    }
}
