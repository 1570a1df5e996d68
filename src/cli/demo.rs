//! `vellum demo`: the two-node story.

use super::Context;
use super::block_on;
use super::serve::install_tls;

/// Plays the story with nodes of this very binary.
pub fn run(context: &Context) -> anyhow::Result<()> {
    install_tls();
    block_on(async { crate::demo::play(std::env::current_exe()?, context.json).await })
}
