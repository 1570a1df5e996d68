//! A PostgreSQL server of one's own.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// For a server to start, also after a crash.
const START: Duration = Duration::from_secs(60);
/// Ends the server when the test process ends, however that happens: then its input ends.
const KEEPER: &str = r#"
"$@" & server=$!
trap 'kill -QUIT $server' TERM
while read -r word; do
    case $word in
        crash) kill -QUIT $server; wait $server; echo crashed;;
        start) "$@" & server=$!; echo started;;
    esac
done
kill -QUIT $server; wait $server
rm -rf "$(dirname "$PGDATA")"
"#;

/// A running server with its own folder and port.
#[derive(Debug)]
pub struct PostgresServer {
    port: u16,
    programs: PathBuf,
    keeper: Mutex<Child>,
    // Removed by the keeper, to whose user its content belongs.
    folder: TempDir,
}

impl PostgresServer {
    /// Starts a server. `None` where no PostgreSQL is installed.
    ///
    /// # Panics
    /// When it does not start, or when there is none although `TEST_POSTGRES=required`.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(
                std::env::var("TEST_POSTGRES").as_deref() != Ok("required"),
                "no PostgreSQL is installed, and TEST_POSTGRES=required"
            );
            // Written past the test harness, which keeps the words of tests that pass to itself.
            let words =
                "\n*** SKIPPED: no PostgreSQL is installed (initdb); what needs it was not tested ***\n";
            let _ = writeln!(std::io::stderr(), "{words}");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("vellum-postgres-").tempdir().unwrap();
        if is_root() {
            // PostgreSQL refuses to run as root; its own user has to reach the folder.
            run(Command::new("chown").arg("postgres").arg(folder.path()));
        }
        let data = folder.path().join("data");
        let made = "--username=postgres --auth=trust --no-sync --encoding=UTF8 --locale=C.UTF-8";
        run(as_its_user(&programs.join("initdb")).args(made.split(' ')).arg("--pgdata").arg(&data));
        // Held until the server is about to take it, so that no other test is given it.
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        drop(held);
        let keeper = keep(&programs, &data, port);
        let server = Self { port, programs, keeper: Mutex::new(keeper), folder };
        server.await_start();
        Some(server)
    }

    /// The address of a new, empty database.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new_database(&self) -> String {
        self.database_from("template1")
    }

    /// The address of a new database with all that is in another of this server, which nobody may be connected to.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn copy_of(&self, address: &str) -> String {
        self.database_from(address.rsplit('/').next().unwrap_or_default())
    }

    fn database_from(&self, template: &str) -> String {
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let mut create = Command::new(self.programs.join("createdb"));
        let port = self.port.to_string();
        run(create.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-T", template, &name]));
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// Stops it as a crash would: nothing is finished, nothing is written.
    ///
    /// # Panics
    /// When its keeper has gone.
    pub fn crash(&self) {
        self.tell("crash");
        let end = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            assert!(Instant::now() < end, "the server does not stop");
            pause();
        }
    }

    /// Starts it again after a crash.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&self) {
        self.tell("start");
        self.await_start();
    }

    /// Makes it a standby of nobody: it is read, and takes no changes.
    ///
    /// # Panics
    /// When it does not start again.
    #[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    pub fn demote(&self) {
        self.crash();
        fs::write(self.folder.path().join("data/standby.signal"), "").unwrap();
        self.restart();
    }

    /// Makes a standby take changes.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub fn promote(&self) {
        let mut ask = Command::new(self.programs.join("psql"));
        ask.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string()]);
        run(ask.args(["-qAtc", "select pg_promote(true, 60)", "postgres"]));
    }

    #[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    fn tell(&self, word: &str) {
        let mut keeper = self.keeper.lock().unwrap();
        writeln!(keeper.stdin.as_mut().unwrap(), "{word}").unwrap();
    }

    fn await_start(&self) {
        let end = Instant::now() + START;
        let ready = || {
            let mut ask = Command::new(self.programs.join("pg_isready"));
            ask.args(["-q", "-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string()]);
            ask.status().is_ok_and(|status| status.success())
        };
        while !ready() {
            assert!(Instant::now() < end, "PostgreSQL does not start");
            pause();
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Ok(keeper) = self.keeper.get_mut() {
            drop(keeper.stdin.take());
            // It ends by itself now; a server that hangs must not make a test hang.
            let _ = keeper.wait();
        }
    }
}

/// Starts the server under a shell that ends it when this process ends.
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
fn keep(programs: &Path, data: &Path, port: u16) -> Child {
    let log = fs::File::create(data.parent().unwrap().join("log")).unwrap();
    let mut keeper = as_its_user(Path::new("sh"));
    keeper
        .args(["-c", KEEPER, "keeper"])
        .arg(programs.join("postgres"))
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(["-c", "max_connections=400", "-c", "shared_buffers=64MB"])
        // The machine does not lose power during a test; a crash of the server loses nothing.
        .args(["-c", "fsync=off", "-c", "full_page_writes=off"])
        .env("PGDATA", data)
        .stdin(Stdio::piped())
        .stdout(Stdio::from(log.try_clone().unwrap()))
        .stderr(Stdio::from(log))
        // What a terminal's Ctrl-C is for is the test, not the server under it.
        .current_dir("/");
    keeper.spawn().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "there is no event to wait for, and no runtime here")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

fn is_root() -> bool {
    let asked = Command::new("id").arg("-u").output();
    asked.is_ok_and(|told| told.stdout.starts_with(b"0\n"))
}

fn as_its_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command.current_dir("/");
    command
}

/// The folder with the installed programs of the newest version.
fn programs() -> Option<PathBuf> {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = installed
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    let on_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let places = versions.into_iter().rev().map(|(_, place)| place).chain(on_path);
    places.into_iter().find(|place| place.join("initdb").is_file() && place.join("postgres").is_file())
}

fn run(command: &mut Command) {
    let done = command.output();
    match done {
        Ok(done) if done.status.success() => {}
        other => panic!("{command:?}: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_comes_back_after_a_crash_with_its_databases() {
        let Some(server) = PostgresServer::start() else { return };
        let address = server.new_database();
        server.crash();
        server.restart();
        let mut ask = Command::new(server.programs.join("psql"));
        let told = ask.arg(&address).args(["-Atc", "select 1"]).output().unwrap();
        assert_eq!(told.stdout, b"1\n");
    }
}
