//! A file of settings, as bytes. It is read or refused, the same way each time, with a reason that says none of its secrets.

#![no_main]

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use vellum::config::{Flags, Settings};

/// The secret of the corpus's files.
const SECRET: &str = "hunter2hunter2";
/// Where secrets are. An input that has it in another place, such as a name, may be told what it has there.
const PLACES: [&str; 4] = ["identity_key", "wrapping_keys", "smtp_url", "url"];

/// Whether the line is `PLACE = …` and names the secret after the sign only.
fn in_its_place(line: &str) -> bool {
    let Some((name, _)) = line.split_once('=') else { return false };
    PLACES.contains(&name.trim())
}

thread_local! {
    static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.with(|folder| {
        folder.get_or_init(|| tempfile::tempdir().expect("a folder")).path().join("vellum.toml")
    });
    std::fs::write(&path, bytes).expect("a file");
    let flags = Flags { config: Some(path), data_dir: None };
    let read = || Settings::load_from(&flags, Vec::new());
    match (read(), read()) {
        (Ok(one), Ok(other)) => assert_eq!(format!("{one:?}"), format!("{other:?}")),
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        _ => panic!("read once and refused once"),
    }
    let text = String::from_utf8_lossy(bytes);
    let misplaced = text.lines().any(|line| line.contains(SECRET) && !in_its_place(line));
    if misplaced || text.contains(r#"""""#) || text.contains("'''") {
        return;
    }
    let said = match read() {
        Ok(settings) => format!("{settings:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!said.contains(SECRET), "a secret is said: {said}");
});
