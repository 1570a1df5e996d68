//! The demo's story, with a node killed before each of its steps.

use futures_util::StreamExt;
use vellum::demo::story::{Step, Story, Whose};
use vellum_actors::Clock;

/// Stories played at once: more would only wait for the two cores.
const AT_ONCE: usize = 3;

async fn play_and_kill(whose: Whose, before: Step) {
    let folder = tempfile::tempdir().unwrap();
    let mut story =
        Story::begin(env!("CARGO_BIN_EXE_vellum").into(), folder.path(), Clock::system()).await.unwrap();
    for step in Step::ALL {
        if before == step {
            story.kill_and_restart(whose).await.unwrap();
        }
        if let Err(error) = story.play(step).await {
            panic!("{whose:?}'s node was killed before {before:?}; then {step:?}: {error:#}");
        }
    }
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_either_node_is_killed_before_any_step() {
    let kills = Step::ALL.into_iter().flat_map(|step| [(Whose::Alice, step), (Whose::Bob, step)]);
    let stories = kills.map(|(whose, step)| play_and_kill(whose, step));
    futures_util::stream::iter(stories).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}
