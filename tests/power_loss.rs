//! What was acknowledged survives a power loss: a node works on a disk that notes every write and every sync, and
//! afterwards the disk is put together again as it could be at many moments in between. That a killed process leaves
//! nothing half done, on a disk that goes on, is in `rotation.rs`.

mod disk;
mod journal;
mod record;

use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use disk::Disk;
use journal::{Change, DATABASE, LOG};
use record::{Acknowledged, Fact, Recording, SEALED, mark};

/// Moments at which the power goes, of either kind: right at an acknowledgement, and anywhere.
const LOSSES: usize = 80;
const SEED: u64 = 7;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_power_loss_and_nothing_is_half_there() {
    let Some(recording) = Recording::make(16).await else { return };
    let journal = &recording.journal;
    let writes = |of: usize, at: usize| {
        let is_it = |change: &Change<'_>| matches!(change, Change::Write { file, offset, .. } if *file == of && *offset == at);
        journal.changes().filter(|(_, change)| is_it(change)).count()
    };
    assert!(writes(LOG, 0) > 1, "the log was begun anew");
    assert!(writes(DATABASE, 0) > 1, "the log was put into the database");
    let mut disk = Disk::empty();
    journal.changes().for_each(|(_, change)| disk.apply(change));
    for (file, bytes) in recording.files.iter().enumerate() {
        assert!(disk.read(file) == *bytes, "the journal has missed something of {}", journal::NAMES[file]);
    }
    let losses = lose_power(&recording, |_| true).await;
    assert!(losses.is_empty(), "{} of {} power losses: {losses:#?}", losses.len(), LOSSES * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_disk_that_does_not_sync_the_log_acknowledged_changes_are_lost() {
    let Some(recording) = Recording::make(2).await else { return };
    let losses = lose_power(&recording, |change| !matches!(change, Change::Sync { file: LOG })).await;
    assert!(!losses.is_empty(), "this test can fail: otherwise the one above says nothing");
}

/// Takes the power away at many moments, from a disk that carries out those changes that it `honours`. Gives what was
/// wrong afterwards.
async fn lose_power(recording: &Recording, honours: fn(&Change<'_>) -> bool) -> Vec<String> {
    let mut rng = StdRng::seed_from_u64(SEED);
    let (first, end) = (recording.acknowledged[0].at, recording.journal.len());
    let mut moments: Vec<u64> = (0..LOSSES).map(|_| rng.random_range(first..=end)).collect();
    let count = recording.acknowledged.len();
    moments.extend((0..LOSSES).map(|_| recording.acknowledged[rng.random_range(0..count)].at));
    moments.sort_unstable();

    let mut disk = Disk::empty();
    let mut changes = recording.journal.changes().filter(|(_, change)| honours(change)).peekable();
    let mut losses = Vec::new();
    for moment in moments {
        while let Some((_, change)) = changes.next_if(|(end, _)| *end <= moment) {
            disk.apply(change);
        }
        let folder = tempfile::tempdir().unwrap();
        disk.lose_power(&mut rng, folder.path());
        let known = recording.acknowledged.iter().filter(|acknowledged| acknowledged.at <= moment);
        if let Err(reason) = inspect(folder.path(), known, &recording.people).await {
            losses.push(format!("at byte {moment} of the journal: {reason}"));
        }
    }
    losses
}

/// Opens what is left as a node would find it, and looks for what must be there.
async fn inspect(
    folder: &Path,
    known: impl Iterator<Item = &Acknowledged>,
    people: &[String],
) -> Result<(), String> {
    let options = SqliteConnectOptions::new()
        .filename(folder.join(journal::NAMES[DATABASE]))
        // The folder is thrown away.
        .synchronous(SqliteSynchronous::Off);
    let mut database = options.connect().await.map_err(|error| error.to_string())?;
    let outcome = look_for(&mut database, known, people).await;
    // An error here is one of the database that was just found to be broken, or of nothing.
    let _ = database.close().await;
    outcome
}

async fn look_for(
    database: &mut SqliteConnection,
    known: impl Iterator<Item = &Acknowledged>,
    people: &[String],
) -> Result<(), String> {
    for check in
        ["pragma integrity_check", "select 'no account for ' || \"table\" from pragma_foreign_key_check"]
    {
        let found = texts(database, check, "").await?;
        if found.iter().any(|text| text != "ok") {
            return Err(format!("{found:?}"));
        }
    }
    for person in people {
        is_whole(database, person).await?;
    }
    for Acknowledged { fact, .. } in known {
        let (query, of, at_least) = match fact {
            Fact::Account { email } => ("select '1' from users where email = $1", email, 1),
            Fact::Collection { id } => ("select '1' from collections where id = $1", id, 1),
            Fact::Rotation { person, version } => {
                ("select cast(km_version as text) from users where alias = $1", person, *version)
            }
            Fact::Note { person, number } => (
                "select encrypted_blob from blobs join users on user_id = id where alias = $1 and blob_type = 'note'",
                person,
                *number,
            ),
        };
        let found = texts(database, query, of).await?;
        if !found.first().is_some_and(|number| number.parse().is_ok_and(|number: i64| number >= at_least)) {
            return Err(format!("{fact:?} was acknowledged, and there is {found:?}"));
        }
    }
    Ok(())
}

/// Whether all that a rotation changes is of one rotation.
async fn is_whole(database: &mut SqliteConnection, person: &str) -> Result<(), String> {
    let query = "select km_version || ' ' || text || ' ' || count(*) from (
            select km_version, signing_key as text from users where alias = $1
            union all select b.km_version, encrypted_blob from blobs b join users u on user_id = u.id
                where alias = $1 and blob_type <> 'note'
            union all select c.km_version, metadata_encrypted from collections c join users u on user_id = u.id
                where alias = $1 and metadata_encrypted <> '')
        group by km_version, text";
    let found = texts(database, query, person).await?;
    let Some(version) = found.first().and_then(|text| text.split(' ').next()?.parse::<i64>().ok()) else {
        return Ok(());
    };
    if version == 1 {
        return if found.len() == 1 { Ok(()) } else { Err(format!("half of a first rotation: {found:?}")) };
    }
    let key = record::keys(person, version)["signingKey"].as_str().unwrap_or_default().to_owned();
    let mut expected =
        vec![format!("{version} {key} 1"), format!("{version} {} {SEALED}", mark(person, version))];
    expected.sort();
    if found == expected {
        Ok(())
    } else {
        Err(format!("{person} has keys or ciphertexts of several rotations"))
    }
}

/// One column of text; in order, so that two answers can be compared.
async fn texts(
    database: &mut SqliteConnection,
    query: &'static str,
    of: &str,
) -> Result<Vec<String>, String> {
    let rows = sqlx::query_scalar(query).bind(of).fetch_all(database).await;
    let mut rows: Vec<String> = rows.map_err(|error| format!("{query}: {error}"))?;
    rows.sort();
    Ok(rows)
}
