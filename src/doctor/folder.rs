//! The data folder: who may read it, and how much room there is.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Finding;
use crate::config::Settings;

/// Less room than this and the next backup or growth of the log may fail.
const LITTLE_ROOM: u64 = 1024 * 1024 * 1024;
/// Less than this and writes are about to fail.
const NO_ROOM: u64 = 64 * 1024 * 1024;
/// Files with keys in them.
const SECRET_FILES: [&str; 2] = ["server.key", "wrap.keys"];

pub fn check(settings: &Settings) -> Vec<Finding> {
    let folder = &settings.data_dir;
    if !folder.is_dir() {
        let says = format!("{} is not there", folder.display());
        return vec![Finding::broken(
            "data folder",
            says,
            "the first start of the node makes it; see data_dir",
        )];
    }
    let mut findings = vec![readers(folder)];
    findings.extend(SECRET_FILES.iter().filter_map(|name| secret(folder, name)));
    findings.push(room(folder));
    findings
}

fn readers(folder: &Path) -> Finding {
    match mode(folder) {
        Some(mode) if mode & 0o077 != 0 => Finding::doubtful(
            "data folder",
            format!("{} can be entered by others (mode {mode:o})", folder.display()),
            format!("chmod 700 {}", folder.display()),
        ),
        _ => Finding::well("data folder", format!("{} is the node's alone", folder.display())),
    }
}

/// Nothing to say of a file that is as it should be, or not there.
fn secret(folder: &Path, name: &'static str) -> Option<Finding> {
    let path = folder.join(name);
    let mode = mode(&path)?;
    (mode & 0o077 != 0).then(|| {
        let says = format!("{name} can be read by others (mode {mode:o})");
        Finding::broken(
            "keys",
            says,
            format!("chmod 600 {}; then think about who has read it", path.display()),
        )
    })
}

fn mode(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o777)
}

fn room(folder: &Path) -> Finding {
    let Ok(disk) = rustix::fs::statvfs(folder) else {
        return Finding::doubtful("disk", "the free space could not be read", "look at it by other means");
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let says = format!("{} MiB are free", free / (1024 * 1024));
    if free < NO_ROOM {
        Finding::broken("disk", says, "make room: writes are about to fail")
    } else if free < LITTLE_ROOM {
        Finding::doubtful("disk", says, "make room before it runs out")
    } else {
        Finding::well("disk", says)
    }
}
