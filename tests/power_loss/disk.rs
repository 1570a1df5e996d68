//! A disk that keeps what was synced, and of the rest what it likes.
//!
//! A write that is not synced may be on the disk or not, whatever happened to the writes before and after it, and a
//! sector of it without the next. A name in a folder is there after a power loss if the folder was synced since, and
//! may be there or not otherwise; the same with a name that was removed.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, seq::IndexedRandom};

use super::journal::{Change, FILES, NAMES};

/// What a disk writes in one piece.
const SECTOR: usize = 512;

/// What is on the disk, and what is on its way there.
pub struct Disk<'j> {
    /// Every file that was ever made, whether a name leads to it or not.
    contents: Vec<Content<'j>>,
    /// What each name may lead to after a power loss; the last one is what it leads to now.
    names: [Vec<Option<usize>>; FILES],
}

#[derive(Default)]
struct Content<'j> {
    synced: Vec<u8>,
    unsynced: Vec<Change<'j>>,
}

impl<'j> Disk<'j> {
    pub fn empty() -> Self {
        Self { contents: Vec::new(), names: std::array::from_fn(|_| vec![None]) }
    }

    pub fn apply(&mut self, change: Change<'j>) {
        match change {
            Change::Create { file } => {
                self.names[file].push(Some(self.contents.len()));
                self.contents.push(Content::default());
            }
            Change::Unlink { file } => self.names[file].push(None),
            Change::Write { file, .. } | Change::Truncate { file, .. } => {
                self.content(file).unsynced.push(change);
            }
            Change::Sync { file } => self.content(file).sync(),
            Change::SyncFolder => {
                for name in &mut self.names {
                    name.drain(..name.len() - 1);
                }
            }
        }
    }

    fn content(&mut self, file: usize) -> &mut Content<'j> {
        let number =
            self.names[file].last().copied().flatten().expect("SQLite writes to no file that is gone");
        &mut self.contents[number]
    }

    /// A file as the node sees it.
    pub fn read(&self, file: usize) -> Option<Vec<u8>> {
        let content = &self.contents[self.names[file].last().copied().flatten()?];
        Some(content.with(|_| true))
    }

    /// Puts the files into a folder as they could be after a power loss now.
    pub fn lose_power(&self, rng: &mut StdRng, folder: &Path) {
        let kept = *[0.0, 0.1, 0.5, 0.9, 1.0].choose(rng).unwrap();
        for (name, ways) in NAMES.iter().zip(&self.names) {
            if let Some(content) = ways.choose(rng).copied().flatten() {
                let left = self.contents[content].with(|_| rng.random_bool(kept));
                std::fs::write(folder.join(name), left).unwrap();
            }
        }
    }
}

impl Content<'_> {
    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            perform(&mut self.synced, change, |_| true);
        }
    }

    /// What was synced, and those sectors of the rest that `reaches` lets through.
    fn with(&self, mut reaches: impl FnMut(usize) -> bool) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for change in &self.unsynced {
            perform(&mut bytes, *change, &mut reaches);
        }
        bytes
    }
}

/// Makes a change, or those sectors of it that `reaches` lets through.
fn perform(bytes: &mut Vec<u8>, change: Change<'_>, mut reaches: impl FnMut(usize) -> bool) {
    match change {
        Change::Write { offset, data, .. } => {
            let mut at = offset;
            while at < offset + data.len() {
                let end = (at / SECTOR * SECTOR + SECTOR).min(offset + data.len());
                if reaches(at) {
                    bytes.resize(bytes.len().max(end), 0);
                    bytes[at..end].copy_from_slice(&data[at - offset..end - offset]);
                }
                at = end;
            }
        }
        Change::Truncate { length, .. } if reaches(length) => bytes.resize(length, 0),
        _ => {}
    }
}
