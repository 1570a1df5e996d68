//! A node whose clocks a test steers; a release's clock cannot be put wrong.

use std::path::PathBuf;

use super::TestNode;

/// A node whose clocks a test steers.
pub struct Steered {
    pub node: TestNode,
    pub clock: PathBuf,
    _folder: tempfile::TempDir,
}

impl Steered {
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = folder.path().join("clock");
        std::fs::write(&clock, "0").unwrap();
        let path = clock.display().to_string();
        let node = TestNode::start_with(&[settings, &[("TEST_CLOCK_FILE", path.as_str())]].concat()).await;
        Self { node, clock, _folder: folder }
    }

    /// Sets the wall clock this far ahead, without time passing.
    pub fn set_ahead(&self, millis: i64) {
        std::fs::write(&self.clock, millis.to_string()).unwrap();
    }

    /// As if this time had passed since the start.
    pub fn after(&self, millis: i64) {
        std::fs::write(&self.clock, format!("{millis} {millis}")).unwrap();
    }
}
