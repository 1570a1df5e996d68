//! A node whose storage can be made to fail, and be mended, while it runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use vellum_test_database::{Engine, engine};

use crate::support::TestNode;

/// What a write to a disk can fail with (errno).
pub const NO_SPACE: i32 = 28;
pub const READ_ONLY: i32 = 30;
pub const IO_ERROR: i32 = 5;

/// The storage beneath a node.
pub enum Storage {
    /// A file with the errno of every write; none while it is not there.
    File(PathBuf),
    /// A connection that is not the node's.
    Postgres(Box<PgConnection>),
}

/// A node on storage of the suite's engine. `None`, said loudly, where there is no shim for SQLite.
pub async fn node(settings: &[(&str, &str)]) -> Option<(TestNode, Storage, TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let mut node = TestNode::prepared(settings);
    let storage = match engine() {
        Engine::Sqlite => {
            let (shim, fault) = (compile(folder.path())?, folder.path().join("fault"));
            // Its log lies beside the folder, with a name that begins with the same letters.
            let data = format!("{}/", node.process.folder().display());
            node.process.set("LD_PRELOAD", shim.to_str().unwrap());
            node.process.set("FAULT_FILE", fault.to_str().unwrap());
            node.process.set("FAULT_FOLDER", &data);
            Storage::File(fault)
        }
        Engine::Postgres => {
            let url = node.process.setting("VELLUM_DATABASE__URL").unwrap();
            Storage::Postgres(Box::new(PgConnection::connect(url).await.unwrap()))
        }
    };
    node.process.start().await.unwrap();
    Some((node, storage, folder))
}

impl Storage {
    /// Nothing can be written from now on: on SQLite by this errno, on PostgreSQL since the database is read-only.
    pub async fn fail(&mut self, errno: i32) {
        match self {
            Self::File(fault) => std::fs::write(fault, errno.to_string()).unwrap(),
            Self::Postgres(connection) => set_read_only(connection, "on").await,
        }
    }

    /// Everything can be written again.
    pub async fn mend(&mut self) {
        match self {
            Self::File(fault) => std::fs::remove_file(fault).unwrap(),
            Self::Postgres(connection) => set_read_only(connection, "off").await,
        }
    }
}

/// Has every connection but this one begin read-only transactions, or not any more.
async fn set_read_only(connection: &mut PgConnection, value: &str) {
    let (name,): (String,) =
        sqlx::query_as("select current_database()::text").fetch_one(&mut *connection).await.unwrap();
    let text = format!(
        "alter database {name} set default_transaction_read_only = {value};
         select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()"
    );
    sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.unwrap();
}

/// Builds the shim; `None`, said loudly, where it cannot run or there is no C compiler.
#[expect(clippy::print_stderr, reason = "a test that did not run has to say so")]
fn compile(folder: &Path) -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/database_failures/shim.c");
    let shim = folder.join("shim.so");
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        eprintln!("SKIPPED: no disk has failed, since the shim is one for Linux with glibc");
        return None;
    }
    let built = Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&shim).arg(source).status();
    match built {
        Ok(status) => assert!(status.success(), "the shim does not compile"),
        Err(error) => {
            eprintln!("SKIPPED: no disk has failed, since there is no C compiler (cc): {error}");
            return None;
        }
    }
    Some(shim)
}

/// A small file system of its own at a folder; gone with the value.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, said loudly, where nothing may be mounted.
    #[expect(clippy::print_stderr, reason = "a test that did not run has to say so")]
    pub fn at(folder: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let options = format!("size={size},mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(folder).output();
        match mounted {
            Ok(done) if done.status.success() => Some(Self(folder.to_owned())),
            other => {
                eprintln!("SKIPPED: no disk was filled, since nothing can be mounted here: {other:?}");
                None
            }
        }
    }

    pub fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the node may still hold files there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
