//! A node at work above the shim: what it was asked, and how long the journal was when it had answered.

use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use vellum_client::MasterSeed;
use vellum_client::http::Method;

use super::journal::{FILES, Journal, NAMES};
use crate::support::{Person, TestNode};

const PEOPLE: usize = 4;
/// How many ciphertexts a rotation seals anew, and how long they are: a rotation fills some dozen pages.
const BLOBS: usize = 6;
const LENGTH: usize = 6000;
/// How many ciphertexts carry a rotation's mark: the blobs and the first collection.
pub const SEALED: usize = BLOBS + 1;

/// Something that the node has said is done.
#[derive(Debug)]
pub enum Fact {
    Account {
        email: String,
    },
    Collection {
        id: String,
    },
    /// The person's keys have this version or a later one.
    Rotation {
        person: String,
        version: i64,
    },
    /// The person's note has this number or a later one.
    Note {
        person: String,
        number: i64,
    },
}

pub struct Acknowledged {
    pub fact: Fact,
    /// The journal's length when the answer had arrived.
    pub at: u64,
}

pub struct Recording {
    pub journal: Journal,
    /// In the order of the journal.
    pub acknowledged: Vec<Acknowledged>,
    pub people: Vec<String>,
    /// The files as they lay there at the end.
    pub files: [Option<Vec<u8>>; FILES],
}

/// Public keys that say whose and of which version they are.
pub fn keys(person: &str, version: i64) -> Value {
    let mut bytes = [1; 32];
    bytes[..8].copy_from_slice(&version.to_le_bytes());
    bytes[8..][..person.len()].copy_from_slice(person.as_bytes());
    let seed = MasterSeed::from_bytes(bytes);
    json!({ "signingKey": seed.signing_secret().public(), "encryptionKey": seed.encryption_key() })
}

/// A ciphertext that says the same.
pub fn mark(person: &str, version: i64) -> String {
    format!("sealed by {person} {version} {}", "x".repeat(LENGTH))
}

impl Recording {
    /// Has people change what they have, all at once and `rounds` times each. `None` where there is no shim, and
    /// where the suite runs on PostgreSQL, whose disk is the server's business.
    pub async fn make(rounds: i64) -> Option<Self> {
        if vellum_test_database::engine() != vellum_test_database::Engine::Sqlite {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let shim = compile(folder.path())?;
        let mut desk = Desk::start(folder, &shim).await;
        let names: Vec<String> = (0..PEOPLE).map(|n| format!("person{n}")).collect();
        let people = join_all(names.iter().map(|name| desk.node.person(name))).await;
        let at_work = people.iter().zip(&names).map(|(person, name)| async {
            tokio::join!(
                desk.rotate(person, name, rounds * 3),
                desk.write_notes(person, name, rounds * 3),
                desk.add_collections(person, rounds),
            )
        });
        let (changes, accounts) = tokio::join!(join_all(at_work), desk.register(rounds));
        let mut acknowledged = accounts;
        for (rotations, notes, collections) in changes {
            acknowledged.extend(rotations.into_iter().chain(notes).chain(collections));
        }
        acknowledged.sort_by_key(|acknowledged| acknowledged.at);
        desk.node.process.stop().await.unwrap();
        let files = NAMES.map(|name| std::fs::read(desk.node.process.folder().join(name)).ok());
        Some(Self { journal: Journal::read(&desk.journal), acknowledged, people: names, files })
    }
}

/// Builds the shim; `None`, said loudly, where it cannot run or there is no C compiler. SQLite needs one too, so there is one
/// wherever the tests were built.
#[expect(clippy::print_stderr, reason = "a test that did not run has to say so")]
fn compile(folder: &Path) -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/power_loss/shim.c");
    let shim = folder.join("shim.so");
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        eprintln!("SKIPPED: no power was lost, since the shim is one for Linux with glibc");
        return None;
    }
    let built = Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&shim).arg(source).status();
    match built {
        Ok(status) => assert!(status.success(), "the shim does not compile"),
        Err(error) => {
            eprintln!("SKIPPED: no power was lost, since there is no C compiler (cc): {error}");
            return None;
        }
    }
    Some(shim)
}

/// The node, and the journal of its disk.
struct Desk {
    node: TestNode,
    journal: PathBuf,
    // Removed with the value; the shim's library lies there.
    _folder: TempDir,
}

impl Desk {
    async fn start(folder: TempDir, shim: &Path) -> Self {
        let journal = folder.path().join("journal");
        std::fs::write(&journal, "").unwrap();
        let mut node = TestNode::prepared(&[("VELLUM_AUTH__REGISTRATION", "open")]);
        let data = node.process.folder().to_str().unwrap().to_owned();
        node.process.set("LD_PRELOAD", shim.to_str().unwrap());
        node.process.set("POWER_LOSS_JOURNAL", journal.to_str().unwrap());
        node.process.set("POWER_LOSS_FOLDER", &data);
        node.process.start().await.unwrap();
        Self { node, journal, _folder: folder }
    }

    /// To be called when an answer has arrived.
    fn acknowledged(&self, fact: Fact) -> Acknowledged {
        Acknowledged { fact, at: std::fs::metadata(&self.journal).unwrap().len() }
    }

    async fn rotate(&self, person: &Person, name: &str, count: i64) -> Vec<Acknowledged> {
        let (_, collections) = person.ask(Method::GET, "/library/collections", Value::Null).await;
        let mut done = Vec::new();
        for version in 2..2 + count {
            let mark = mark(name, version);
            let blobs: Vec<Value> =
                (0..BLOBS).map(|n| json!({ "blobType": format!("t{n}"), "encryptedBlob": mark })).collect();
            let mut body = keys(name, version);
            body["expectedCurrent"] = json!(version - 1);
            body["blobs"] = json!(blobs);
            body["collections"] = json!([{ "id": collections[0]["id"], "metadataEncrypted": mark }]);
            body["slots"] = json!([]);
            let (status, answer) = person.ask(Method::POST, "/users/me/km-version/commit", body).await;
            assert_eq!(status, 200, "{answer}");
            done.push(self.acknowledged(Fact::Rotation { person: name.to_owned(), version }));
        }
        done
    }

    async fn write_notes(&self, person: &Person, name: &str, count: i64) -> Vec<Acknowledged> {
        let mut done = Vec::new();
        for number in 1..=count {
            let note = json!({ "encryptedBlob": number.to_string() });
            let (status, answer) = person.ask(Method::PUT, "/me/blobs/note", note).await;
            assert_eq!(status, 200, "{answer}");
            done.push(self.acknowledged(Fact::Note { person: name.to_owned(), number }));
        }
        done
    }

    async fn add_collections(&self, person: &Person, count: i64) -> Vec<Acknowledged> {
        let mut done = Vec::new();
        for _ in 0..count {
            let empty = json!({ "metadataEncrypted": "" });
            let (status, made) = person.ask(Method::POST, "/library/collections", empty).await;
            assert_eq!(status, 200, "{made}");
            let id = made["id"].as_str().unwrap().to_owned();
            done.push(self.acknowledged(Fact::Collection { id }));
        }
        done
    }

    async fn register(&self, count: i64) -> Vec<Acknowledged> {
        let mut done = Vec::new();
        for number in 0..count {
            let email = format!("new{number}@people.example");
            let known = self.node.process.letters().len();
            let mut client = self.node.client();
            client.request_code(&email).await.unwrap();
            let code = self.node.process.newest_code(known).await.unwrap();
            client.sign_in_with_code(&email, &code).await.unwrap();
            done.push(self.acknowledged(Fact::Account { email }));
        }
        done
    }
}
