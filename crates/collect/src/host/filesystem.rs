//! Mounted file systems: which there are, and how full they are.
//!
//! Asking a file system whose server is away can take for ever, so a thread asks and the collector waits for a bounded
//! time. A mount that hangs is reported as an error and not asked again until the thread comes back.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;

use super::text::Exposition;

/// A mount that has not answered by then hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// More mounts are left out.
const MOUNTS_MAX: usize = 4_096;

/// node_exporter's default `fs-types-exclude`.
const TYPES_EXCLUDED: [&str; 25] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "erofs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];

/// One line of the mount table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Mount {
    pub(super) device: String,
    pub(super) mountpoint: String,
    pub(super) fstype: String,
    pub(super) is_readonly: bool,
}

/// Reads `/proc/<pid>/mountinfo`, without what node_exporter leaves out by default.
///
/// Source: proc(5), `/proc/pid/mountinfo`.
pub(super) fn parse_mountinfo(text: &str, root: &str) -> Vec<Mount> {
    let mut seen = HashSet::new();
    let mut mounts = Vec::new();
    for line in text.lines() {
        let Some(mount) = parse_line(line, root) else {
            continue;
        };
        let is_excluded =
            TYPES_EXCLUDED.contains(&mount.fstype.as_str()) || is_excluded_place(&mount.mountpoint);
        let label = (
            mount.device.clone(),
            mount.mountpoint.clone(),
            mount.fstype.clone(),
        );
        if !is_excluded && mounts.len() < MOUNTS_MAX && seen.insert(label) {
            mounts.push(mount);
        }
    }
    mounts
}

fn parse_line(line: &str, root: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(4);
    let (place, options) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let (fstype, device, super_options) = (after.next()?, after.next()?, after.next().unwrap_or(""));
    let place = unescape(place);
    let place = match place.strip_prefix(root.trim_end_matches('/')) {
        Some("") => "/".to_owned(),
        Some(stripped) if stripped.starts_with('/') => stripped.to_owned(),
        _ => place,
    };
    let is_readonly = options
        .split(',')
        .chain(super_options.split(','))
        .any(|option| option == "ro");
    Some(Mount {
        device: unescape(device),
        mountpoint: place,
        fstype: fstype.to_owned(),
        is_readonly,
    })
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        match rest
            .get(at + 1..at + 4)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok())
        {
            Some(byte) if byte.is_ascii() => {
                plain.push(byte as char);
                rest = &rest[at + 4..];
            }
            _ => {
                plain.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    plain + rest
}

/// node_exporter's default: `^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)`.
fn is_excluded_place(place: &str) -> bool {
    let is_at_or_below = |folder: &str| {
        place
            .strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let is_below = |folder: &str| {
        place
            .strip_prefix(folder)
            .is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
    };
    ["/dev", "/proc", "/sys"].into_iter().any(is_at_or_below)
        || [
            "/run/credentials",
            "/var/lib/docker",
            "/var/lib/containers/storage",
        ]
        .into_iter()
        .any(is_below)
}

/// Bytes and inodes of one mount.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Usage {
    pub(super) size: f64,
    pub(super) free: f64,
    pub(super) avail: f64,
    pub(super) files: f64,
    pub(super) files_free: f64,
}

/// Asks mounts for their usage, and remembers those that hang.
#[derive(Default)]
pub(super) struct UsageProbe {
    hanging: Arc<Mutex<HashSet<String>>>,
}

impl UsageProbe {
    /// Gives the usage of each mount, `None` for those that refuse or hang. Blocks for two seconds a hanging mount
    /// at most, and once only.
    pub(super) fn ask(&self, mounts: &[Mount], root: &Path) -> Vec<Option<Usage>> {
        let mut usages = vec![None; mounts.len()];
        let mut next = 0;
        while next < mounts.len() {
            next = self.ask_from(next, mounts, root, &mut usages);
        }
        usages
    }

    /// Asks from one mount on until one hangs; gives where to go on.
    fn ask_from(&self, first: usize, mounts: &[Mount], root: &Path, usages: &mut [Option<Usage>]) -> usize {
        let (sender, answers) = mpsc::channel();
        let hanging = Arc::clone(&self.hanging);
        let places: Vec<(usize, String, PathBuf)> = (first..mounts.len())
            .map(|at| {
                (
                    at,
                    mounts[at].mountpoint.clone(),
                    below(root, &mounts[at].mountpoint),
                )
            })
            .collect();
        let asked = std::thread::Builder::new()
            .name("filesystem".to_owned())
            .spawn(move || {
                for (at, place, path) in places {
                    // A mark in advance: whoever finds it later knows that somebody still waits there.
                    if !hanging.lock().insert(place.clone()) {
                        continue;
                    }
                    let usage = ask_one(&path);
                    hanging.lock().remove(&place);
                    if sender.send((at, usage)).is_err() {
                        return;
                    }
                }
            });
        if asked.is_err() {
            return mounts.len();
        }
        loop {
            match answers.recv_timeout(ANSWER_TIMEOUT) {
                Ok((at, usage)) => usages[at] = usage,
                Err(mpsc::RecvTimeoutError::Disconnected) => return mounts.len(),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let hanging = self.hanging.lock();
                    let stuck = (first..mounts.len())
                        .find(|at| hanging.contains(&mounts[*at].mountpoint) && usages[*at].is_none());
                    return stuck.map_or(mounts.len(), |at| at + 1);
                }
            }
        }
    }
}

fn below(root: &Path, place: &str) -> PathBuf {
    root.join(place.trim_start_matches('/'))
}

fn ask_one(path: &Path) -> Option<Usage> {
    let usage = rustix::fs::statfs(path).ok()?;
    let block = usage.f_bsize as f64;
    Some(Usage {
        size: usage.f_blocks as f64 * block,
        free: usage.f_bfree as f64 * block,
        avail: usage.f_bavail as f64 * block,
        files: usage.f_files as f64,
        files_free: usage.f_ffree as f64,
    })
}

pub(super) fn write_filesystems(mounts: &[Mount], usages: &[Option<Usage>], out: &mut Exposition<'_>) {
    type Column = fn(&Usage) -> f64;
    let columns: [(&str, &str, Column); 5] = [
        ("size_bytes", "File system size in bytes.", |usage| usage.size),
        (
            "free_bytes",
            "File system space that is free, in bytes.",
            |usage| usage.free,
        ),
        (
            "avail_bytes",
            "File system space that users other than root may take, in bytes.",
            |usage| usage.avail,
        ),
        ("files", "File system inodes.", |usage| usage.files),
        ("files_free", "File system inodes that are free.", |usage| {
            usage.files_free
        }),
    ];
    for (name, help, column) in columns {
        out.family(&format!("node_filesystem_{name}"), "gauge", help);
        for (mount, usage) in mounts.iter().zip(usages) {
            if let Some(usage) = usage {
                out.sample(&labels(mount), column(usage));
            }
        }
    }
    out.family(
        "node_filesystem_readonly",
        "gauge",
        "Whether the file system may only be read.",
    );
    for (mount, _) in mounts.iter().zip(usages).filter(|(_, usage)| usage.is_some()) {
        out.sample(&labels(mount), f64::from(u8::from(mount.is_readonly)));
    }
    out.family(
        "node_filesystem_device_error",
        "gauge",
        "Whether the file system could not be asked.",
    );
    for (mount, usage) in mounts.iter().zip(usages) {
        out.sample(&labels(mount), f64::from(u8::from(usage.is_none())));
    }
}

fn labels(mount: &Mount) -> [(&str, &str); 3] {
    [
        ("device", &mount.device),
        ("fstype", &mount.fstype),
        ("mountpoint", &mount.mountpoint),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24684096k
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
28 27 0:25 / /mnt/a\\040b ro,nosuid - tmpfs some\\134thing rw,size=4k
29 27 0:26 / /host rw shared:1 master:2 - xfs /dev/vdb ro,attr2
30 27 0:27 / /host/data rw - xfs /dev/vdc rw
31 27 0:28 / /var/lib/docker/overlay2/x rw - tmpfs tmpfs rw
32 27 0:29 / /merged rw - overlay overlay rw
33 27 0:30 / /devices rw - ext4 /dev/vdd rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
broken line
";

    fn places(root: &str) -> Vec<(String, bool)> {
        let mounts = parse_mountinfo(MOUNTINFO, root).into_iter();
        mounts
            .map(|mount| (mount.mountpoint, mount.is_readonly))
            .collect()
    }

    #[test]
    fn mounts_are_those_that_node_exporter_takes() {
        let expected = [
            ("/", false),
            ("/mnt/a b", true),
            ("/host", true),
            ("/host/data", false),
            ("/devices", false),
        ];
        assert_eq!(
            places("/"),
            expected.map(|(place, is_readonly)| (place.to_owned(), is_readonly))
        );
        assert_eq!(parse_mountinfo(MOUNTINFO, "/")[1].device, "some\\thing");
    }

    #[test]
    fn a_root_elsewhere_is_cut_off() {
        let names: Vec<_> = places("/host").into_iter().map(|(place, _)| place).collect();
        assert_eq!(names, ["/", "/mnt/a b", "/", "/data", "/devices"]);
    }

    #[test]
    fn a_mount_that_cannot_be_asked_is_an_error_and_has_no_size() {
        let mount = Mount {
            device: "x".to_owned(),
            mountpoint: "/no/such/place".to_owned(),
            fstype: "ext4".to_owned(),
            is_readonly: false,
        };
        let root = Mount {
            mountpoint: "/".to_owned(),
            ..mount.clone()
        };
        let mounts = [mount, root];
        let usages = UsageProbe::default().ask(&mounts, Path::new("/"));
        assert!(usages[0].is_none() && usages[1].is_some());
        let mut text = String::new();
        write_filesystems(&mounts, &usages, &mut Exposition::new(&mut text));
        assert!(
            text.contains("device_error{device=\"x\",fstype=\"ext4\",mountpoint=\"/no/such/place\"} 1\n")
        );
        assert!(!text.contains("size_bytes{device=\"x\",fstype=\"ext4\",mountpoint=\"/no/such/place\"}"));
    }

    #[test]
    fn a_mount_where_somebody_still_waits_is_not_asked_again() {
        let probe = UsageProbe::default();
        probe.hanging.lock().insert("/".to_owned());
        let root = Mount {
            device: "x".to_owned(),
            mountpoint: "/".to_owned(),
            fstype: "ext4".to_owned(),
            is_readonly: false,
        };
        assert_eq!(probe.ask(&[root], Path::new("/")), [None]);
    }
}
