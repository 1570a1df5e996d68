//! The data folder: made with tight permissions at the first start, with the server's identity key in it,
//! and the lock that keeps a second node away from a database.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rand::RngExt;
use rustix::fs::OFlags;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use vellum_actors::wrapping::{Ring, WrappingKey, WrappingKeys};
use vellum_protocol::{SigningSecret, base64};
use zeroize::Zeroizing;

use crate::config::Settings;

/// Where the seed of the server's key lies, in base64.
pub const IDENTITY_FILE: &str = "server.key";
/// Where the keys lie that device wrap secrets are encrypted with.
pub const WRAPPING_FILE: &str = "wrap.keys";
/// Locked by whoever changes a file in the folder: the node, and commands beside it.
const LOCK_FILE: &str = "write.lock";

/// A node's folder.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Opens the folder; makes it with mode 0700 if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("making the data folder {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// A folder as it is: if it is not there, it is not made.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The folder that emails are written to where no SMTP server is set.
    #[must_use]
    pub fn outbox(&self) -> PathBuf {
        self.0.join("outbox")
    }

    /// The key that the node signs with: the one in the settings, else the one in the folder, which is
    /// made if it is not there.
    ///
    /// # Errors
    /// When the key is not base64 of 32 bytes, or the file cannot be read or made.
    pub fn identity(&self, configured: Option<&SecretString>) -> anyhow::Result<SigningSecret> {
        if let Some(found) = self.find_identity(configured)? {
            return Ok(found);
        }
        self.make(IDENTITY_FILE, || {
            let seed = Zeroizing::new(rand::rng().random::<[u8; 32]>());
            Zeroizing::new(base64::encode(seed.as_slice()))
        })
        .with_context(|| format!("writing the server key to {}", self.file(IDENTITY_FILE).display()))?;
        self.find_identity(None)?.context("the server key is gone")
    }

    /// The same; `None` if there is none.
    ///
    /// # Errors
    /// When the key is not base64 of 32 bytes, or the file cannot be read.
    pub fn find_identity(&self, configured: Option<&SecretString>) -> anyhow::Result<Option<SigningSecret>> {
        if let Some(text) = configured {
            return parse_seed(text.expose_secret()).context("the setting server.identity_key").map(Some);
        }
        let text = self.read_secret(IDENTITY_FILE)?;
        let parse = |text: Zeroizing<String>| {
            parse_seed(text.trim())
                .with_context(|| format!("the server key in {}", self.file(IDENTITY_FILE).display()))
        };
        text.map(parse).transpose()
    }

    /// The keys that device wrap secrets are encrypted with: those in the settings, else those in the folder,
    /// of which the first is made if there is none.
    ///
    /// # Errors
    /// When the file cannot be read or made, or a line of it or the setting is no key.
    pub fn wrapping_keys(&self, configured: Option<&SecretString>) -> anyhow::Result<WrappingKeys> {
        if let Some(found) = self.find_wrapping_keys(configured)? {
            return Ok(found);
        }
        self.make(WRAPPING_FILE, new_wrapping_key)
            .with_context(|| format!("writing {}", self.file(WRAPPING_FILE).display()))?;
        self.find_wrapping_keys(None)?.context("the wrapping keys are gone")
    }

    /// The same; `None` if there are none.
    ///
    /// # Errors
    /// When the file cannot be read, or a line of it or the setting is no key.
    pub fn find_wrapping_keys(
        &self,
        configured: Option<&SecretString>,
    ) -> anyhow::Result<Option<WrappingKeys>> {
        if let Some(text) = configured.cloned() {
            let read =
                move || parse_wrapping_keys(text.expose_secret()).map_err(|error| format!("{error:#}"));
            return WrappingKeys::new(Box::new(read))
                .map(Some)
                .map_err(|error| anyhow::anyhow!("the setting server.wrapping_keys: {error}"));
        }
        if self.read_secret(WRAPPING_FILE)?.is_none() {
            return Ok(None);
        }
        let folder = self.clone();
        let read = move || {
            let text = folder.read_secret(WRAPPING_FILE).map_err(|error| format!("{error:#}"))?;
            parse_wrapping_keys(&text.unwrap_or_default()).map_err(|error| format!("{error:#}"))
        };
        WrappingKeys::new(Box::new(read)).map(Some).map_err(|error| {
            anyhow::anyhow!("the wrapping keys in {}: {error}", self.file(WRAPPING_FILE).display())
        })
    }

    /// Copies of another folder's key files, checked, for [`Self::put_keys`]. Those that `settings`
    /// have are left out.
    ///
    /// # Errors
    /// When one is not there or holds no key, or this folder has another one.
    pub fn read_keys(&self, from: &Self, settings: &Settings) -> anyhow::Result<KeyFiles> {
        let mut files = Vec::new();
        if settings.identity_key.is_none() {
            from.find_identity(None)?;
            files.push(IDENTITY_FILE);
        }
        if settings.wrapping_keys.is_none() {
            from.find_wrapping_keys(None)?;
            files.push(WRAPPING_FILE);
        }
        let read = |name: &'static str| {
            let there = from.file(name);
            let text = from.read_secret(name)?.with_context(|| format!("{} is missing", there.display()))?;
            match self.read_secret(name)? {
                Some(own) if own != text => {
                    bail!(
                        "{} is there already, and differs from {}",
                        self.file(name).display(),
                        there.display()
                    )
                }
                _ => Ok((name, text)),
            }
        };
        files.into_iter().map(read).collect::<anyhow::Result<_>>().map(KeyFiles)
    }

    /// Writes the copies into this folder.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn put_keys(&self, keys: &KeyFiles) -> anyhow::Result<()> {
        for (name, text) in &keys.0 {
            self.write_new(name, text.as_bytes())
                .with_context(|| format!("writing {}", self.file(name).display()))?;
        }
        Ok(())
    }

    /// Makes a new wrapping key and puts it in front of those that are there.
    ///
    /// # Errors
    /// When the file cannot be read or written. It is as before then.
    pub fn add_wrapping_key(&self) -> anyhow::Result<()> {
        let writing = self.lock_files()?;
        let before = self.read_secret(WRAPPING_FILE)?.unwrap_or_default();
        let text = Zeroizing::new(new_wrapping_key().to_string() + before.as_str());
        writing.put(WRAPPING_FILE, text.as_bytes()).context("writing the wrapping keys")
    }

    /// Makes a file, unless another process has made it meanwhile.
    fn make(&self, name: &str, content: impl FnOnce() -> Zeroizing<String>) -> anyhow::Result<()> {
        let writing = self.lock_files()?;
        if self.read_secret(name)?.is_none() {
            writing.put(name, content().as_bytes())?;
        }
        Ok(())
    }

    fn read_secret(&self, name: &str) -> anyhow::Result<Option<Zeroizing<String>>> {
        let path = self.0.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Zeroizing::new(text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// The path of a file in the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file with mode 0600 so that after a crash it is there whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_new(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        self.lock_files()?.put(name, content)
    }

    /// Waits until nobody else changes files in the folder, and keeps others from it until the
    /// value is dropped.
    fn lock_files(&self) -> anyhow::Result<Writing<'_>> {
        let path = self.0.join(LOCK_FILE);
        let locked = open_lock(&path).and_then(|file| file.lock().map(|()| file));
        let lock = locked.with_context(|| format!("locking {}", path.display()))?;
        Ok(Writing { folder: self, _lock: lock })
    }
}

/// Names and contents of files with keys.
pub struct KeyFiles(Vec<(&'static str, Zeroizing<String>)>);

/// The right to change files in the folder.
struct Writing<'a> {
    folder: &'a DataDir,
    _lock: File,
}

impl Writing<'_> {
    /// Replaces a file by a new one with this content.
    fn put(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.folder.file(name);
        self.replace(name, content).with_context(|| format!("writing {}", path.display()))
    }

    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let folder = &self.folder.0;
        // What a crash has left behind: nobody else has a draft while the lock is held.
        let prefix = format!(".{name}.");
        for entry in fs::read_dir(folder)?.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
                fs::remove_file(entry.path())?;
            }
        }
        // A name of its own, made exclusively: nothing that is there is opened, and no link is
        // followed.
        let mut draft: NamedTempFile = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(folder)?;
        draft.write_all(content)?;
        draft.as_file().sync_all()?;
        draft.persist(folder.join(name))?;
        File::open(folder)?.sync_all()
    }
}

/// Opens a lock file, which is made if it is not there. A link in its place is refused.
fn open_lock(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).custom_flags(flags).open(path)
}

/// A line with a new key.
fn new_wrapping_key() -> Zeroizing<String> {
    let key = Zeroizing::new(rand::rng().random::<[u8; 32]>());
    let text = Zeroizing::new(base64::encode(key.as_slice()));
    Zeroizing::new(format!("{} {}\n", uuid::Uuid::now_v7(), text.as_str()))
}

/// One key a line (or between commas), the newest first: its name, a space, and base64 of 32 bytes.
fn parse_wrapping_keys(text: &str) -> anyhow::Result<Ring> {
    let lines = text.split(['\n', ',']).filter(|line| !line.trim().is_empty());
    let keys = lines.map(|line| {
        let (id, key) = line.trim().split_once(' ').context("a line is no name and key")?;
        let key =
            base64::decode_exact(key).map_err(|_| anyhow::anyhow!("a key is not base64 of 32 bytes"))?;
        Ok(WrappingKey { id: id.to_owned(), key: Zeroizing::new(key) })
    });
    keys.collect()
}

/// Locks a database file for one running node: two that deliver from one outbox would take each other's
/// work. A node on a shared database locks its folder instead, which names it among the others. The lock is
/// a file beside what it locks; it ends with the value, and with the process.
///
/// # Errors
/// When another node runs on this database or folder.
pub fn lock(locked: &Path) -> anyhow::Result<File> {
    let mut path = locked.as_os_str().to_owned();
    path.push(".lock");
    let file =
        open_lock(Path::new(&path)).with_context(|| format!("opening {}", Path::new(&path).display()))?;
    if file.try_lock().is_err() {
        bail!("another node is running on {}", locked.display());
    }
    Ok(file)
}

fn parse_seed(text: &str) -> anyhow::Result<SigningSecret> {
    match base64::decode_exact::<32>(text) {
        Ok(seed) => Ok(SigningSecret::from_seed(seed)),
        Err(_) => bail!("must be base64 of 32 bytes"),
    }
}

/// What hashes of one-time codes are keyed with: derived from the server's key, so that there is no
/// second secret to keep, and a stolen database alone does not yield codes.
#[must_use]
pub fn code_key(identity: &SigningSecret) -> SecretBox<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(b"vellum key of one-time codes v1\0");
    hash.update(identity.expose_seed().as_slice());
    SecretBox::new(Box::new(hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn folder_and_key_are_made_once_and_are_nobody_elses_business() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let first = DataDir::open(&path).unwrap().identity(None).unwrap();
        let again = DataDir::open(&path).unwrap().identity(None).unwrap();
        assert_eq!(first.public(), again.public());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(IDENTITY_FILE)), 0o600);
    }

    /// Runs `work` on many threads at the same moment.
    fn at_once<T: Send>(threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
        let start = std::sync::Barrier::new(threads);
        let one = || {
            start.wait();
            work()
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn first_starts_side_by_side_agree_on_the_keys() {
        for _ in 0..20 {
            let parent = tempfile::tempdir().unwrap();
            let keys = at_once(8, || {
                let folder = DataDir::open(&parent.path().join("data")).unwrap();
                (folder.identity(None).unwrap().public(), folder.wrapping_keys(None).unwrap().ids())
            });
            assert!(keys.iter().all(|one| *one == keys[0] && one.1.len() == 1), "they differ: {keys:?}");
        }
    }

    #[test]
    fn keys_added_side_by_side_are_all_kept_and_no_draft_is_left() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(parent.path()).unwrap();
        let victim = parent.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        // What a crash has left, with a mode and a place of its own.
        fs::write(parent.path().join(".wrap.keys.left"), "half a key").unwrap();
        std::os::unix::fs::symlink(&victim, parent.path().join("wrap.keys.new")).unwrap();
        at_once(16, || dir.add_wrapping_key().unwrap());
        let mut ids = dir.wrapping_keys(None).unwrap().ids();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 16, "a key was lost");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        let mut names: Vec<_> =
            fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["victim", "wrap.keys", "wrap.keys.new", "write.lock"]);
        let mode = fs::symlink_metadata(parent.path().join(WRAPPING_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_lock_file_that_is_a_link_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let (database, elsewhere) = (parent.path().join("vellum.db"), parent.path().join("elsewhere"));
        std::os::unix::fs::symlink(&elsewhere, parent.path().join("vellum.db.lock")).unwrap();
        assert!(lock(&database).is_err());
        assert!(!elsewhere.exists(), "nothing is made at the other end of the link");
    }

    #[test]
    fn a_configured_key_wins_and_a_bad_one_is_refused_without_being_shown() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(parent.path()).unwrap();
        let seed = SecretString::from(base64::encode(&[7; 32]));
        assert_eq!(dir.identity(Some(&seed)).unwrap().public(), SigningSecret::from_seed([7; 32]).public());
        let told = format!("{:#}", dir.identity(Some(&SecretString::from("c2VjcmV0"))).unwrap_err());
        assert!(told.contains("server.identity_key") && !told.contains("c2VjcmV0"));
    }

    #[test]
    fn two_nodes_do_not_run_on_one_database() {
        let parent = tempfile::tempdir().unwrap();
        let database = parent.path().join("vellum.db");
        let held = lock(&database).unwrap();
        assert!(lock(&database).is_err());
        drop(held);
        assert!(lock(&database).is_ok());
    }
}
