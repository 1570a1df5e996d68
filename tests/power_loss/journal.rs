//! What the shim has noted (`shim.c`): every change of the database's files in order, and every sync. What of it
//! a power loss leaves is not here but in `disk.rs`.

use std::path::Path;

/// How many files the names of are kept in the folder: the database, its log, its rollback journal.
pub const FILES: usize = 3;
/// Their names, by the shim's numbers.
pub const NAMES: [&str; FILES] = ["vellum.db", "vellum.db-wal", "vellum.db-journal"];
/// The number of the database itself.
pub const DATABASE: usize = 0;
/// The number of its write-ahead log.
pub const LOG: usize = 1;
/// The number of the folder, which has names in it and no content.
const FOLDER: usize = 3;
/// Four numbers of 64 bits: kind, file, place, length.
const HEADER: usize = 32;

/// One thing that the node did to a file.
#[derive(Debug, Clone, Copy)]
pub enum Change<'j> {
    Create { file: usize },
    Write { file: usize, offset: usize, data: &'j [u8] },
    Truncate { file: usize, length: usize },
    Sync { file: usize },
    SyncFolder,
    Unlink { file: usize },
}

/// All of it, each with the journal's length after it.
pub struct Journal(Vec<u8>);

impl Journal {
    pub fn read(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap())
    }

    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    pub fn changes(&self) -> impl Iterator<Item = (u64, Change<'_>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let header = self.0.get(at..at + HEADER)?;
            let number = |n: usize| {
                let bytes = header[n * 8..][..8].try_into().unwrap();
                usize::try_from(u64::from_ne_bytes(bytes)).unwrap()
            };
            let (kind, file, place, length) = (number(0), number(1), number(2), number(3));
            let data = &self.0[at + HEADER..][..length];
            at += HEADER + length;
            let change = match (kind, file) {
                (0, _) => Change::Create { file },
                (1, _) => Change::Write { file, offset: place, data },
                (2, _) => Change::Truncate { file, length: place },
                (3, FOLDER) => Change::SyncFolder,
                (3, _) => Change::Sync { file },
                (4, _) => Change::Unlink { file },
                _ => panic!("a kind that the shim does not know: {kind}"),
            };
            Some((at as u64, change))
        })
    }
}
