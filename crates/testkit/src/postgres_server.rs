//! A real database server, Debian's PostgreSQL, started by the test and gone with it.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::certificates::TestCertificate;
use crate::process::{ChildGuard, free_port, is_true_within};

const START_MAX: Duration = Duration::from_secs(60);
const PASSWORD: &str = "pass word/%";
const PASSWORD_IN_URL: &str = "pass%20word%2F%25";
/// Kills the server, and removes its folder, once the process that started it is gone: a server that tests share has no
/// last owner. What ends the tests with their whole process group must not end the watch.
const WATCH: &str = "trap '' INT TERM HUP; while [ -d /proc/$0 ]; do sleep 0.3; done; kill -QUIT $1; \
    while [ -d /proc/$1 ]; do sleep 0.1; done; rm -rf -- \"$2\"";

/// The running server. It listens on 127.0.0.1, knows the user `marketprism` by a password, and does not sync its files,
/// so it survives what kills it but not what kills the machine.
pub struct PostgresServer {
    child: Option<(ChildGuard, ChildGuard)>,
    folder: TempDir,
    port: u16,
    schemas: AtomicU64,
}

impl PostgresServer {
    /// Starts a server with no data and waits until it answers. A missing PostgreSQL fails the test with the install
    /// line.
    #[track_caller]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        hand_over(folder.path());
        let password_file = folder.path().join("password");
        fs::write(&password_file, PASSWORD).expect("write");
        hand_over(&password_file);
        let output = as_owner(&program("initdb"))
            .args([
                "--username=marketprism",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .arg(format!("--pwfile={}", password_file.display()))
            .arg(folder.path().join("data"))
            .output()
            .expect("initdb starts");
        assert!(
            output.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut server = PostgresServer {
            child: None,
            folder,
            port: free_port(),
            schemas: AtomicU64::new(0),
        };
        server.restart();
        server
    }

    /// Gives a server that all tests of this process share; each takes a schema of its own.
    #[track_caller]
    pub fn shared() -> &'static PostgresServer {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(PostgresServer::start)
    }

    /// Starts the server again, on the same data and port.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        // What a server that was killed leaves behind keeps the next one from starting.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
        let mut command = as_owner(&program("postgres"));
        command
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string(), "-k"])
            .arg(self.folder.path())
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "fsync=off",
                "-c",
                "max_connections=200",
            ]);
        let mut child = ChildGuard::spawn(&mut command).expect("postgres starts");
        child.wait_for_line(START_MAX, "ready to accept connections");
        let watch = ChildGuard::spawn(
            Command::new("/bin/sh")
                .args([
                    "-c",
                    WATCH,
                    &std::process::id().to_string(),
                    &child.id().to_string(),
                ])
                .arg(self.folder.path()),
        );
        self.child = Some((child, watch.expect("a shell is there")));
    }

    /// Kills the server as `kill -9` does, with all its connections.
    #[track_caller]
    pub fn kill(&mut self) {
        if let Some((mut child, watch)) = self.child.take() {
            drop(watch);
            child.kill();
            // The server's other processes notice that their parent is gone, and only then let go of its memory.
            let data = self.data();
            let is_gone = is_true_within(START_MAX, || !has_processes(&data));
            assert!(is_gone, "processes of the killed server remain");
        }
    }

    /// Lets the server speak TLS with this certificate from the next start on.
    pub fn set_certificate(&self, certificate: &TestCertificate) {
        for (from, name) in [
            (&certificate.cert_file, "server.crt"),
            (&certificate.key_file, "server.key"),
        ] {
            let to = self.data().join(name);
            fs::copy(from, &to).expect("copy");
            hand_over(&to);
            let only_owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&to, only_owner).expect("permissions");
        }
        let path = self.data().join("postgresql.conf");
        let settings = fs::read_to_string(&path).expect("read") + "\nssl = on\n";
        fs::write(&path, settings).expect("write");
    }

    /// Gives the address, as `DATABASE_URL` has it.
    pub fn url(&self) -> String {
        format!(
            "postgres://marketprism:{PASSWORD_IN_URL}@127.0.0.1:{}/postgres",
            self.port
        )
    }

    /// Makes a schema that nobody has used and gives an address that leads into it.
    #[track_caller]
    pub fn new_schema(&self) -> String {
        let name = format!("test_{}", self.schemas.fetch_add(1, Ordering::Relaxed));
        self.run(&format!("CREATE SCHEMA {name}"));
        format!("{}?options=-c%20search_path%3D{name}", self.url())
    }

    /// Runs statements through PostgreSQL's own client and gives what it printed, columns apart by `|`.
    #[track_caller]
    pub fn run(&self, sql: &str) -> String {
        let output = Command::new(program("psql"))
            .env("PGPASSWORD", PASSWORD)
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
                "-U",
                "marketprism",
                "-p",
            ])
            .args([&self.port.to_string(), "-d", "postgres", "-c", sql])
            .output()
            .expect("psql starts");
        assert!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Gives the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Gives the password, to look for where it must not be.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Finds one of PostgreSQL's programs, which Debian keeps apart by version.
#[track_caller]
fn program(name: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin").join(name)))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| {
        panic!("PostgreSQL's {name} is missing; install it with: apt-get install postgresql")
    })
}

/// Gives the user and group that the package made, when the test runs as root, as whom PostgreSQL refuses to run.
fn owner() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut numbers = line.split(':').skip(2).map_while(|field| field.parse().ok());
    Some((numbers.next()?, numbers.next()?)).filter(|_| is_root)
}

fn as_owner(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").current_dir("/");
    if let Some((user, group)) = owner() {
        command.uid(user).gid(group);
    }
    command
}

fn hand_over(path: &Path) {
    if let Some((user, group)) = owner() {
        chown(path, Some(user), Some(group)).expect("root may give files away");
    }
}

/// Says whether a process works in the folder, as all of a server's do.
fn has_processes(folder: &Path) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| fs::read_link(process.path().join("cwd")).ok())
        .any(|cwd| cwd == folder)
}
