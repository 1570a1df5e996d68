//! The attacker has an account on the operator's machine and may write into the folder that backups
//! go to, such as /tmp. He has put something there under the name that the backup or its draft will
//! have: a link to a file of the node's user, to have that overwritten, or a file that he can read,
//! to have the backup written into it. What stops him: a backup is made in a folder of its own that
//! nobody else can enter, and is given its name only if nothing has it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use vellum_test_database::{Engine, engine};

use crate::support::TestNode;

/// What is planted, and how: at the first path, aimed at the second.
type Plant = (&'static str, fn(&Path, &Path));

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A folder that everybody may write into, with a file of the operator's beside it.
fn planted() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let public = folder.path().join("public");
    fs::create_dir(&public).unwrap();
    fs::set_permissions(&public, fs::Permissions::from_mode(0o777)).unwrap();
    (folder, victim)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_written_into_nothing_that_is_there_already() {
    if engine() == Engine::Postgres {
        return;
    }
    let node = TestNode::start().await;
    let plants: [Plant; 5] = [
        ("a link", |at, victim| symlink(victim, at).unwrap()),
        ("a link that leads nowhere", |at, victim| symlink(victim.with_file_name("nobody"), at).unwrap()),
        ("a hard link", |at, victim| fs::hard_link(victim, at).unwrap()),
        ("a readable file", |at, _| fs::write(at, "").unwrap()),
        ("a pipe", |at, _| assert!(Command::new("mkfifo").arg(at).status().unwrap().success())),
    ];
    for (what, plant) in plants {
        let (folder, victim) = planted();
        let public = folder.path().join("public");
        let file = public.join("backup.db");
        plant(&file, &victim);
        let before = fs::symlink_metadata(&file).unwrap();
        let refused = node.process.run(&["backup", "create", file.to_str().unwrap()]).await;
        let error = refused.expect_err(&format!("{what} is refused")).to_string();
        assert!(error.contains("is there already"), "{what}: {error}");
        let after = fs::symlink_metadata(&file).unwrap();
        assert_eq!(
            (before.file_type(), before.len()),
            (after.file_type(), after.len()),
            "{what} is left alone"
        );
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{what}");
        assert_eq!(
            (names(&public), names(folder.path())),
            (vec!["backup.db".into()], vec!["public".into(), "victim".into()]),
            "{what}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_a_new_file_for_the_operator_alone_whatever_lies_where_its_draft_was_once_made() {
    if engine() == Engine::Postgres {
        return;
    }
    let node = TestNode::start().await;
    let plants: [Plant; 2] = [
        ("a link", |at, victim| symlink(victim, at).unwrap()),
        ("a file that everybody may read", |at, _| {
            fs::write(at, "").unwrap();
            fs::set_permissions(at, fs::Permissions::from_mode(0o644)).unwrap();
        }),
    ];
    for (what, plant) in plants {
        let (folder, victim) = planted();
        let public = folder.path().join("public");
        let (file, draft) = (public.join("backup.db"), public.join("backup.db.part"));
        plant(&draft, &victim);
        node.process.run(&["backup", "create", file.to_str().unwrap()]).await.unwrap();
        assert!(fs::symlink_metadata(&file).unwrap().is_file(), "{what}");
        assert_eq!(mode(&file), 0o600, "{what}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{what}");
        assert_eq!(names(&public), ["backup.db", "backup.db.part"], "{what}: nothing else is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_not_made_at_the_other_end_of_a_link_and_nor_is_its_lock() {
    let (folder, _) = planted();
    let public = folder.path().join("public");
    for (link, file) in [("vellum.db", "vellum.db"), ("locked.db.lock", "locked.db")] {
        let elsewhere = folder.path().join("elsewhere");
        symlink(&elsewhere, public.join(link)).unwrap();
        let url = format!("sqlite://{}", public.join(file).display());
        let mut node = TestNode::prepared(&[("VELLUM_DATABASE__URL", url.as_str())]);
        assert!(node.process.start().await.is_err(), "{link} is refused");
        let log = fs::read_to_string(node.process.log_path()).unwrap();
        assert!(log.contains(link), "the log names {link}: {log}");
        assert!(!elsewhere.exists(), "nothing is made at the end of {link}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_is_not_written_through_a_link() {
    if engine() == Engine::Postgres {
        return;
    }
    let mut node = TestNode::start().await;
    let backup = node.process.folder().join("backup.db");
    node.process.run(&["backup", "create", backup.to_str().unwrap()]).await.unwrap();
    node.process.stop().await.unwrap();
    for (link, target) in [("vellum.db-wal", None), ("vellum.db", Some("elsewhere"))] {
        let (folder, victim) = planted();
        let public = folder.path().join("public");
        let to = target.map_or(victim.clone(), |name| folder.path().join(name));
        symlink(&to, public.join(link)).unwrap();
        let url = format!("sqlite://{}", public.join("vellum.db").display());
        let other = TestNode::prepared(&[("VELLUM_DATABASE__URL", url.as_str())]);
        let refused = other.process.run(&["backup", "restore", backup.to_str().unwrap()]).await;
        assert!(refused.unwrap_err().to_string().contains("is there already"), "{link}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{link}");
        assert!(!folder.path().join("elsewhere").exists(), "{link}");
    }
}
