//! The image, made from the Dockerfile by hand: a base from Debian's own archive, `RUN` in a chroot, `COPY` with
//! `.dockerignore`.
//!
//! Bases and what stands before the first `COPY` are kept as archives under `target/`, as a builder keeps layers. The
//! compiler's stage is not run: what it hands over is the program that this build has made. The stage before it, which
//! prepares the compiler's cache, is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::context;
use crate::dockerfile::{Stage, Step, parse};
use crate::files::{read, root};

/// The stage whose steps are left to the compiler.
const COMPILED: &str = "build";

/// A file system, and how a program is run in it.
#[derive(Debug, Default)]
pub struct Image {
    /// The top of the file system.
    pub root: PathBuf,
    /// `uid:gid`.
    pub user: String,
    /// Where the program starts.
    pub workdir: String,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub command: Vec<String>,
    /// `EXPOSE`.
    pub port: u16,
    /// The options of `HEALTHCHECK`.
    pub health_options: BTreeMap<String, String>,
    /// The command of `HEALTHCHECK`.
    pub health: Vec<String>,
}

/// Gives the image of our Dockerfile; made once a run.
pub fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        keep_to_ourselves();
        let stages = parse(&read("Dockerfile"));
        let last = stages.last().expect("a stage");
        build(&stages, last, &store().join("image"))
    })
}

/// Gives what the stage before the compiler hands over: the workspace without its code.
pub fn manifests() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        image();
        let stages = parse(&read("Dockerfile"));
        let stage = stages
            .iter()
            .find(|stage| stage.name.as_deref() == Some("manifests"));
        build(
            &stages,
            stage.expect("the Dockerfile has this stage"),
            &store().join("manifests"),
        )
    })
}

fn store() -> PathBuf {
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images");
    fs::create_dir_all(&store).expect("make a folder under target/");
    store
}

/// Takes the store for this process; another run of these tests waits until we have ended.
fn keep_to_ourselves() {
    assert!(
        rustix::process::getuid().is_root(),
        "a chroot, a network of its own and other users need root; run the tests as root"
    );
    let lock = File::create(store().join("lock")).expect("create the lock");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("take the lock");
    static LOCK: OnceLock<File> = OnceLock::new();
    LOCK.set(lock).expect("taken once");
}

fn build(stages: &[Stage], stage: &Stage, folder: &Path) -> Image {
    let mut image = Image {
        root: folder.to_owned(),
        workdir: "/".to_owned(),
        ..Image::default()
    };
    let early = stage
        .steps
        .iter()
        .take_while(|step| !matches!(step, Step::Copy { .. }));
    let early: Vec<&Step> = early.collect();
    let layer = archive_of_early(&stage.base, &early, folder);
    unpack(&layer, folder);
    for (index, step) in stage.steps.iter().enumerate() {
        let is_done = index < early.len() && matches!(step, Step::Run(_));
        if !is_done {
            take(&mut image, stages, step);
        }
    }
    image
}

/// Gives the archive of a base on which the steps before the first `COPY` were taken.
fn archive_of_early(base: &str, steps: &[&Step], folder: &Path) -> PathBuf {
    let base = base_archive(base);
    let runs: Vec<&str> = steps.iter().filter_map(|step| text_of_run(step)).collect();
    if runs.is_empty() {
        return base;
    }
    let name = base.file_stem().expect("it has a name").to_string_lossy();
    let archive = store().join(format!("{name}-{:08x}.tar", checksum(&runs.join("\n"))));
    if !archive.exists() {
        unpack(&base, folder);
        for run in runs {
            run_inside(folder, "/", run);
        }
        pack(folder, &archive);
    }
    archive
}

fn text_of_run(step: &Step) -> Option<&str> {
    match step {
        Step::Run(text) => Some(text),
        _ => None,
    }
}

/// FNV-1a, to name an archive after what was run.
fn checksum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Gives Debian's smallest system of the release that an image is made from. Images from Docker's library that bear the
/// name of a release are that release.
fn base_archive(base: &str) -> PathBuf {
    let (_, tag) = base
        .split_once(':')
        .unwrap_or_else(|| panic!("{base} has no tag"));
    let suite = tag.split('-').find(|part| *part == "bookworm");
    let suite = suite.unwrap_or_else(|| panic!("{base}: not of a release known here"));
    let archive = store().join(format!("{suite}.tar"));
    if !archive.exists() {
        let folder = store().join("debootstrap");
        remove(&folder);
        let mut command = Command::new("debootstrap");
        command
            .args(["--variant=minbase", suite])
            .arg(&folder)
            .arg(mirror(suite));
        let output = command
            .output()
            .expect("debootstrap is there; run: apt-get install debootstrap");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "debootstrap failed:\n{said}");
        pack(&folder, &archive);
        remove(&folder);
    }
    archive
}

/// Gives the archive that this machine takes Debian's packages from.
fn mirror(suite: &str) -> String {
    let mut texts = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    let listed = glob::glob("/etc/apt/sources.list.d/*")
        .expect("a good pattern")
        .flatten();
    let listed = listed.filter(|path| {
        path.extension()
            .is_some_and(|end| end == "sources" || end == "list")
    });
    texts.extend(listed.map(|path| fs::read_to_string(path).unwrap_or_default()));
    let one_line = |line: &str| {
        let rest = line.strip_prefix("deb ")?;
        let mut words = rest
            .split_whitespace()
            .skip_while(|word| word.starts_with('[') || word.ends_with(']'));
        let (address, release) = (words.next()?, words.next()?);
        (release == suite).then(|| address.to_owned())
    };
    let stanza = |text: &str| {
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value.map(|value| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        let has_suite = field("Suites:")?.iter().any(|found| found == suite);
        has_suite.then(|| field("URIs:")?.into_iter().next())?
    };
    let found = texts.iter().find_map(|text| {
        let in_lines = text.lines().find_map(one_line);
        in_lines.or_else(|| text.split("\n\n").find_map(stanza))
    });
    found.unwrap_or_else(|| "http://deb.debian.org/debian".to_owned())
}

fn take(image: &mut Image, stages: &[Stage], step: &Step) {
    match step {
        Step::Workdir(path) => {
            image.workdir.clone_from(path);
            fs::create_dir_all(inside(image, path)).expect("make the working folder");
        }
        Step::Run(text) => run_inside(&image.root, &image.workdir, text),
        Step::Copy {
            from: None,
            source,
            target,
        } => copy_from_context(image, source, target),
        Step::Copy {
            from: Some(stage),
            source,
            target,
        } => {
            assert_eq!(stage, COMPILED, "only what was compiled is copied from a stage");
            assert_eq!(
                source,
                &compiled_path(stages),
                "the stage leaves the program there"
            );
            let target = inside(image, target);
            fs::copy(env!("CARGO_BIN_EXE_marketprism"), target).expect("copy the program");
        }
        Step::User(user) => image.user.clone_from(user),
        Step::Expose(port) => image.port = *port,
        Step::Health(options, command) => {
            image.health_options.clone_from(options);
            image.health.clone_from(command);
        }
        Step::Entrypoint(words) => image.entrypoint.clone_from(words),
        Step::Command(words) => image.command.clone_from(words),
        Step::Label(_) | Step::Argument(..) => {}
    }
}

/// Says where the compiler's stage leaves the program.
fn compiled_path(stages: &[Stage]) -> String {
    let stage = stages
        .iter()
        .find(|stage| stage.name.as_deref() == Some(COMPILED));
    let steps = &stage.expect("the Dockerfile has a stage that compiles").steps;
    let is_built = steps
        .iter()
        .filter_map(text_of_run)
        .any(|run| run.contains("cargo build --release --locked -p marketprism"));
    assert!(is_built, "the stage compiles the release");
    let workdir = steps.iter().rev().find_map(|step| match step {
        Step::Workdir(path) => Some(path),
        _ => None,
    });
    format!(
        "{}/target/release/marketprism",
        workdir.expect("the stage says where")
    )
}

fn copy_from_context(image: &Image, source: &str, target: &str) {
    let source = Path::new(source.trim_end_matches('/'));
    let source = if source == Path::new(".") {
        Path::new("")
    } else {
        source
    };
    let target = inside(image, target);
    let mut copied = 0;
    for file in context::files().iter().filter(|file| file.starts_with(source)) {
        let below = file.strip_prefix(source).expect("filtered above");
        // A folder gives its content, a file itself.
        let path = if below.as_os_str().is_empty() {
            target.clone()
        } else {
            target.join(below)
        };
        fs::create_dir_all(path.parent().expect("below the target")).expect("make the folder");
        fs::copy(root().join(file), &path).unwrap_or_else(|error| panic!("copy {}: {error}", file.display()));
        copied += 1;
    }
    assert!(
        copied > 0,
        "COPY {}: the build is given no such file",
        source.display()
    );
}

/// Gives the path outside of a path inside.
fn inside(image: &Image, path: &str) -> PathBuf {
    let path = Path::new(&image.workdir).join(path);
    let below = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_)));
    image.root.join(below.collect::<PathBuf>())
}

/// Runs a shell's line in the chroot, with the machine's network.
fn run_inside(folder: &Path, workdir: &str, text: &str) {
    let script = "mount -t proc proc \"$1/proc\" && mount --bind /etc/resolv.conf \"$1/etc/resolv.conf\" \
                  && exec chroot \"$1\" /bin/sh -c 'cd \"$1\" && eval \"$2\"' sh \"$2\" \"$3\"";
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig=KILL",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
    ]);
    command
        .args(["/bin/sh", "-c", script, "sh"])
        .arg(folder)
        .args([workdir, text]);
    command.env_clear();
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    command.env("DEBIAN_FRONTEND", "noninteractive");
    let resolver = folder.join("etc/resolv.conf");
    if !resolver.exists() {
        File::create(&resolver).expect("a place to lay the machine's resolver on");
    }
    let output = command
        .output()
        .expect("setpriv is there; run: apt-get install util-linux");
    let (said, complained) = (&output.stdout, &output.stderr);
    assert!(
        output.status.success(),
        "RUN {text}\n{}\n{}",
        String::from_utf8_lossy(said),
        String::from_utf8_lossy(complained)
    );
}

fn unpack(archive: &Path, folder: &Path) {
    remove(folder);
    fs::create_dir_all(folder).expect("make the folder");
    tar(&["-xpf"], archive, folder, &[]);
}

/// Packs into a file of its own name only when whole, so that a broken run leaves no half of one.
fn pack(folder: &Path, archive: &Path) {
    let unfinished = archive.with_extension("unfinished");
    tar(
        &["-cf"],
        &unfinished,
        folder,
        &["--exclude=./var/cache/apt/archives/*.deb", "."],
    );
    fs::rename(unfinished, archive).expect("give the archive its name");
}

fn tar(what: &[&str], archive: &Path, folder: &Path, rest: &[&str]) {
    let mut command = Command::new("tar");
    command
        .args(what)
        .arg(archive)
        .arg("-C")
        .arg(folder)
        .arg("--numeric-owner")
        .args(rest);
    assert!(
        command.status().expect("tar is there").success(),
        "tar {}",
        archive.display()
    );
}

fn remove(folder: &Path) {
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap_or_else(|error| panic!("remove {}: {error}", folder.display()));
    }
}

/// Writes a file that everyone may read.
pub fn lay(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a file stands in a folder")).expect("make the folder");
    let mut file = File::create(path).expect("create the file");
    file.write_all(text.as_bytes()).expect("write the file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("let everyone read");
}

#[test]
fn the_image_is_what_the_guide_expects() {
    let image = image();
    assert_eq!(image.port, 8082);
    assert_eq!(image.workdir, "/app");
    let (user, group) = image.user.split_once(':').expect("user and group");
    let numbers: Vec<u32> = [user, group].map(|id| id.parse().expect("a number")).into();
    assert!(numbers.iter().all(|id| *id > 0), "not root: {}", image.user);
    let guide = crate::guide::yaml("healthcheck:");
    let health = &guide["services"]["monitoring-alerting"]["healthcheck"];
    let told = std::iter::once("CMD").chain(image.health.iter().map(String::as_str));
    assert_eq!(health["test"], serde_json::json!(told.collect::<Vec<_>>()));
    for (option, key) in [
        ("interval", "interval"),
        ("timeout", "timeout"),
        ("start-period", "start_period"),
    ] {
        assert_eq!(health[key], image.health_options[option], "{option}");
    }
    assert_eq!(health["retries"].to_string(), image.health_options["retries"]);
}

#[test]
fn the_workspace_without_its_code_still_resolves() {
    let source = manifests().root.join("source");
    // Packages of other systems are not on this machine.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["fetch", "--locked", "--offline", "--target"])
        .arg(platform)
        .current_dir(&source)
        .output()
        .expect("cargo is there");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let left = glob::glob(source.join("**/*.rs").to_str().expect("UTF-8")).expect("a good pattern");
    for file in left.flatten() {
        let text = fs::read_to_string(&file).expect("readable");
        assert!(
            text.is_empty() || text == "fn main() {}\n",
            "{} holds code",
            file.display()
        );
    }
}

#[test]
fn the_compiler_is_the_one_that_the_workspace_asks_for() {
    let stages = parse(&read("Dockerfile"));
    let wanted = read("Cargo.toml");
    let wanted = wanted
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "));
    let wanted = wanted
        .expect("the workspace names its compiler")
        .trim_matches('"');
    let compiled = stages.iter().filter(|stage| stage.name.is_some());
    for stage in compiled {
        assert_eq!(stage.base, format!("rust:{wanted}-bookworm"));
    }
}
