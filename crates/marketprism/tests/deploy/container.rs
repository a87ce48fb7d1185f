//! A program run from an image as a container engine would run it: own root, own user, own network with the loopback
//! interface only, own process numbers, and a limit of memory.
//!
//! All of it hangs on namespaces that nobody else holds, so mounts and networks are gone with the program, however the
//! test ends. Memory is limited by a control group where this machine allows one, and otherwise by the limit of the data
//! segment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use marketprism_testkit::{ChildGuard, is_true_within};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::image::Image;
use crate::program::PATIENCE;

/// What the guide gives the service to live on.
pub const MEMORY_BYTES: u64 = 512 << 20;

/// How to run an image.
pub struct Plan<'a> {
    /// The image.
    pub image: &'a Image,
    /// Folders and files outside, and where they appear inside.
    pub volumes: Vec<(PathBuf, String)>,
    /// Whether the rest of the file system refuses writing.
    pub is_root_read_only: bool,
    /// Variables.
    pub environment: Vec<(String, String)>,
    /// What is run instead of the image's entry point and command.
    pub instead: Option<Vec<String>>,
    /// Names that mean this container, as in a compose network.
    pub names: Vec<String>,
    /// Whose network is used instead of an own one.
    pub network_of: Option<&'a Container>,
}

impl<'a> Plan<'a> {
    /// Runs the image as it is.
    pub fn of(image: &'a Image) -> Self {
        Plan {
            image,
            volumes: Vec::new(),
            is_root_read_only: false,
            environment: Vec::new(),
            instead: None,
            names: Vec::new(),
            network_of: None,
        }
    }

    /// Makes a folder or a file appear inside.
    pub fn volume(mut self, outside: &Path, inside: &str) -> Self {
        self.volumes.push((outside.to_owned(), inside.to_owned()));
        self
    }

    /// Starts it.
    pub fn start(self) -> Container {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let home = tempfile::tempdir().expect("a temporary folder");
        let names = self
            .names
            .iter()
            .map(|name| format!("127.0.0.1 {name}\n"))
            .collect::<String>();
        let hosts = home.path().join("hosts");
        crate::image::lay(&hosts, &format!("127.0.0.1 localhost\n::1 localhost\n{names}"));
        let memory = Memory::limit(number);
        let script = self.script(&memory, &hosts);
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=KILL");
        match self.network_of {
            Some(other) => command
                .args(["nsenter", "--net"])
                .args(["--target", &other.id().to_string()]),
            None => command.args(["unshare", "--net"]),
        };
        command.args([
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "/bin/sh",
            "-c",
            &script,
        ]);
        let guard =
            ChildGuard::spawn(&mut command).expect("setpriv is there; run: apt-get install util-linux");
        let data = self.volumes.iter().find(|(_, inside)| inside == "/app/data");
        let mut container = Container {
            data: data.map(|(outside, _)| outside.clone()),
            first: None,
            user: self.image.user.clone(),
            workdir: self.image.workdir.clone(),
            guard,
            memory,
            _home: home,
        };
        container.find_first();
        container
    }

    fn script(&self, memory: &Memory, hosts: &Path) -> String {
        let root = quoted(&self.image.root.display().to_string());
        let mut lines = vec!["set -eu".to_owned(), memory.enter()];
        lines.push("ip link set lo up".to_owned());
        lines.push(format!("mount --bind {root} {root}"));
        lines.push(format!("mount -t proc proc {root}/proc"));
        lines.push(format!("mount -t tmpfs -o mode=755 dev {root}/dev"));
        for (name, minor) in [
            ("null", 3),
            ("zero", 5),
            ("full", 7),
            ("random", 8),
            ("urandom", 9),
        ] {
            lines.push(format!("mknod -m 666 {root}/dev/{name} c 1 {minor}"));
        }
        lines.push(format!("ln -s /proc/self/fd {root}/dev/fd"));
        let hosts = quoted(&hosts.display().to_string());
        lines.push(format!("touch {root}/etc/hosts"));
        lines.push(format!("mount --bind {hosts} {root}/etc/hosts"));
        for (outside, inside) in &self.volumes {
            let place = if outside.is_dir() {
                "mkdir -p"
            } else {
                "install -D /dev/null"
            };
            let (outside, inside) = (quoted(&outside.display().to_string()), quoted(inside));
            lines.push(format!("{place} {root}{inside}"));
            lines.push(format!("mount --bind {outside} {root}{inside}"));
        }
        if self.is_root_read_only {
            lines.push(format!("mount -o remount,bind,ro {root}"));
        }
        let image = self.image;
        let command = self
            .instead
            .clone()
            .unwrap_or_else(|| [&image.entrypoint[..], &image.command].concat());
        let words = inner_command(&image.user, &image.workdir, &self.environment, &command);
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        lines.push(format!("exec chroot {root} {}", words.join(" ")));
        lines.join("\n")
    }
}

/// Becomes the image's user without any capability, in a clean environment.
fn inner_command(
    user: &str,
    workdir: &str,
    environment: &[(String, String)],
    command: &[String],
) -> Vec<String> {
    let (uid, gid) = user.split_once(':').expect("the image names user and group");
    let mut words: Vec<String> = [
        "setpriv",
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ]
    .map(str::to_owned)
    .into();
    words.extend([
        format!("--reuid={uid}"),
        format!("--regid={gid}"),
        "--pdeathsig=KILL".to_owned(),
    ]);
    words.extend(["env", "-i", "-C", workdir].map(str::to_owned));
    words.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    words.extend(environment.iter().map(|(name, value)| format!("{name}={value}")));
    words.extend_from_slice(command);
    words
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A program that runs from an image; it is gone when this is dropped.
pub struct Container {
    first: Option<u32>,
    user: String,
    workdir: String,
    guard: ChildGuard,
    memory: Memory,
    /// What stands at `/app/data`.
    data: Option<PathBuf>,
    _home: tempfile::TempDir,
}

impl Container {
    /// Notes which process is the first of the new numbers.
    fn find_first(&mut self) {
        let starter = self.guard.id();
        let children = format!("/proc/{starter}/task/{starter}/children");
        is_true_within(PATIENCE, || {
            let child = fs::read_to_string(&children).unwrap_or_default();
            self.first = child.split_whitespace().next().and_then(|id| id.parse().ok());
            self.first.is_some() || !self.guard.is_running()
        });
        assert!(self.first.is_some(), "not started:\n{}", self.guard.output());
    }

    /// Gives the number, out here, of the process that is number 1 in there.
    pub fn id(&self) -> u32 {
        self.first.expect("found at the start")
    }

    /// Waits until the program says that it is ready.
    pub fn wait_until_ready(&mut self) {
        self.guard.wait_for_line(PATIENCE, "\"message\":\"ready\"");
    }

    /// Waits for a line of the log.
    pub fn wait_for_line(&mut self, text: &str) -> String {
        self.guard.wait_for_line(PATIENCE, text)
    }

    /// Gives what was printed.
    pub fn log(&self) -> String {
        self.guard.output()
    }

    /// Runs a command inside, as `docker exec` does.
    pub fn exec(&self, command: &[&str]) -> Output {
        let words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &self.id().to_string()]);
        enter.args(["--net", "--mount", "--pid", "--root", "--wd", "--"]);
        enter.args(inner_command(&self.user, &self.workdir, &[], &words));
        enter
            .output()
            .expect("nsenter is there; run: apt-get install util-linux")
    }

    /// Asks the program over HTTP from inside, as the administrator that its first start has made; fails the test
    /// unless it answers well.
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        let password = self
            .data
            .as_ref()
            .map(|data| fs::read_to_string(data.join("admin_password")));
        let password = password.and_then(Result::ok).unwrap_or_default();
        let user = format!("admin:{}", password.trim_end());
        let url = format!("http://localhost:8082{path}");
        let output = self.exec(&["curl", "-fsS", "-u", &user, &url]);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "GET {path}: {complaint}\n{}", self.log());
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// As [`Container::get`], for JSON.
    #[track_caller]
    pub fn get_json(&self, path: &str) -> Value {
        let text = self.get(path);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("GET {path}: {error}: {text}"))
    }

    /// Sends a signal to the first process.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).expect("process numbers are small");
        let id = Pid::from_raw(id).expect("not 0");
        rustix::process::kill_process(id, signal).expect("our own child can be told");
    }

    /// Tells the first process to stop, as `docker stop` does, and waits for its end.
    pub fn stop(&mut self, patience: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        let status = self.guard.wait_for_exit(patience);
        self.first = None;
        status
    }

    /// Waits until the program ends by itself.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let status = self.guard.wait_for_exit(PATIENCE);
        self.first = None;
        status
    }

    /// Gives a field of the first process's status.
    pub fn status(&self, field: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let start = format!("{field}:");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no {field}")).trim().to_owned()
    }

    /// Says how memory is limited and how much was used at most: by the program, and with files read and written.
    pub fn memory(&self) -> String {
        format!(
            "{}; resident at most {}",
            self.memory.peak(),
            self.status("VmHWM")
        )
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The first process takes everything inside with it; its starter then ends by itself.
        if let Some(id) = self
            .first
            .take()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
        {
            let _ = rustix::process::kill_process(id, Signal::KILL);
        }
        is_true_within(PATIENCE, || !self.guard.is_running());
        self.memory.lift();
    }
}

/// How memory is limited.
enum Memory {
    /// A control group of version 2.
    Unified(PathBuf),
    /// A control group of version 1.
    Separate(PathBuf),
    /// No control group may be made here.
    DataSegment,
}

impl Memory {
    fn limit(number: u32) -> Self {
        let name = format!("marketprism-test-{}-{number}", std::process::id());
        let unified = Path::new("/sys/fs/cgroup").join(&name);
        let separate = Path::new("/sys/fs/cgroup/memory").join(&name);
        let limited = |group: &Path, file: &str| {
            let is_made = group.parent().is_some_and(Path::is_dir) && fs::create_dir(group).is_ok();
            let is_limited = is_made && fs::write(group.join(file), MEMORY_BYTES.to_string()).is_ok();
            if is_made && !is_limited {
                let _ = fs::remove_dir(group);
            }
            is_limited
        };
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() && limited(&unified, "memory.max") {
            Memory::Unified(unified)
        } else if limited(&separate, "memory.limit_in_bytes") {
            Memory::Separate(separate)
        } else {
            Memory::DataSegment
        }
    }

    /// Gives the shell's line that puts itself under the limit.
    fn enter(&self) -> String {
        match self {
            Memory::Unified(group) | Memory::Separate(group) => {
                let processes = quoted(&group.join("cgroup.procs").display().to_string());
                format!("echo 0 > {processes}")
            }
            Memory::DataSegment => format!("ulimit -d {}", MEMORY_BYTES >> 10),
        }
    }

    fn peak(&self) -> String {
        let (kind, file) = match self {
            Memory::Unified(group) => ("control group v2", group.join("memory.peak")),
            Memory::Separate(group) => ("control group v1", group.join("memory.max_usage_in_bytes")),
            Memory::DataSegment => return "limit of the data segment".to_owned(),
        };
        let bytes = fs::read_to_string(file).unwrap_or_default();
        format!(
            "{kind}, {} MiB at most",
            bytes.trim().parse::<u64>().unwrap_or(0) >> 20
        )
    }

    fn lift(&self) {
        if let Memory::Unified(group) | Memory::Separate(group) = self {
            // The kernel forgets ended processes a moment later.
            is_true_within(Duration::from_secs(5), || fs::remove_dir(group).is_ok());
        }
    }
}
