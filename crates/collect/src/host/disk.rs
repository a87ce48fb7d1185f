//! `/proc/diskstats`: whole devices, no partitions.

use super::text::Exposition;

const SECTOR_BYTES: f64 = 512.0;
const MS: f64 = 0.001;

/// One device and its numbers, in the order of the kernel.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Disk {
    pub(super) device: String,
    pub(super) numbers: Vec<f64>,
}

/// Name, kind, help, and what one unit of the kernel's number is worth.
const FAMILIES: [(&str, &str, &str, f64); 17] = [
    (
        "reads_completed_total",
        "counter",
        "Reads that were completed.",
        1.0,
    ),
    ("reads_merged_total", "counter", "Reads that were merged.", 1.0),
    (
        "read_bytes_total",
        "counter",
        "Bytes that were read.",
        SECTOR_BYTES,
    ),
    (
        "read_time_seconds_total",
        "counter",
        "Seconds spent by all reads.",
        MS,
    ),
    (
        "writes_completed_total",
        "counter",
        "Writes that were completed.",
        1.0,
    ),
    ("writes_merged_total", "counter", "Writes that were merged.", 1.0),
    (
        "written_bytes_total",
        "counter",
        "Bytes that were written.",
        SECTOR_BYTES,
    ),
    (
        "write_time_seconds_total",
        "counter",
        "Seconds spent by all writes.",
        MS,
    ),
    ("io_now", "gauge", "Operations in progress.", 1.0),
    (
        "io_time_seconds_total",
        "counter",
        "Seconds with an operation in progress.",
        MS,
    ),
    (
        "io_time_weighted_seconds_total",
        "counter",
        "Seconds with operations in progress, weighted by their number.",
        MS,
    ),
    (
        "discards_completed_total",
        "counter",
        "Discards that were completed.",
        1.0,
    ),
    (
        "discards_merged_total",
        "counter",
        "Discards that were merged.",
        1.0,
    ),
    (
        "discarded_sectors_total",
        "counter",
        "Sectors that were discarded.",
        1.0,
    ),
    (
        "discard_time_seconds_total",
        "counter",
        "Seconds spent by all discards.",
        MS,
    ),
    (
        "flush_requests_total",
        "counter",
        "Flushes that were completed.",
        1.0,
    ),
    (
        "flush_requests_time_seconds_total",
        "counter",
        "Seconds spent by all flushes.",
        MS,
    ),
];

/// Reads the file; devices that are memory, loops, floppies or partitions are left out.
pub(super) fn parse_diskstats(text: &str) -> Vec<Disk> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(2);
        let device = words.next()?;
        let numbers: Vec<f64> = words.map_while(|word| word.parse().ok()).collect();
        (numbers.len() >= 11).then(|| Disk {
            device: device.to_owned(),
            numbers,
        })
    });
    lines.filter(|disk| !is_excluded(&disk.device)).collect()
}

/// node_exporter's default: `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`.
fn is_excluded(device: &str) -> bool {
    let stem = device.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == device.len() {
        return false;
    }
    let is_letter = |rest: &str| rest.len() == 1 && rest.as_bytes()[0].is_ascii_lowercase();
    let is_partition = ["hd", "sd", "vd", "xvd"]
        .iter()
        .any(|kind| stem.strip_prefix(kind).is_some_and(is_letter));
    matches!(stem, "ram" | "zram" | "loop" | "fd") || is_partition || is_nvme_partition(stem)
}

fn is_nvme_partition(stem: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    stem.strip_prefix("nvme")
        .and_then(|rest| rest.strip_suffix('p'))
        .and_then(|rest| rest.split_once('n'))
        .is_some_and(|(controller, namespace)| number(controller) && number(namespace))
}

pub(super) fn write_disks(disks: &[Disk], out: &mut Exposition<'_>) {
    for (column, (name, kind, help, unit)) in FAMILIES.iter().enumerate() {
        if !disks.iter().any(|disk| disk.numbers.len() > column) {
            continue;
        }
        out.family(&format!("node_disk_{name}"), kind, help);
        for disk in disks {
            if let Some(number) = disk.numbers.get(column) {
                out.sample(&[("device", &disk.device)], number * unit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_memory_are_left_out() {
        for device in [
            "ram0",
            "zram1",
            "loop7",
            "fd0",
            "sda1",
            "vdb12",
            "xvda1",
            "hdc3",
            "nvme0n1p2",
        ] {
            assert!(is_excluded(device), "{device}");
        }
        for device in [
            "sda", "vda", "nvme0n1", "dm-0", "md127", "mmcblk0", "sr0", "sdaa1",
        ] {
            assert!(!is_excluded(device), "{device}");
        }
    }

    #[test]
    fn old_and_new_kernels_are_read() {
        let text = "\
 254       0 vda 166177 14068 11648874 241648 811597 55510 31334392 1203094 0 33320 1447126 12014 25 8586184 2183 3697 199
   8       0 sda 1 2 3 4 5 6 7 8 9 10 11
   8       1 sda1 1 2 3 4 5 6 7 8 9 10 11
";
        let disks = parse_diskstats(text);
        assert_eq!(disks.len(), 2);
        assert_eq!((disks[0].numbers.len(), disks[1].numbers.len()), (17, 11));
        let mut written = String::new();
        write_disks(&disks, &mut Exposition::new(&mut written));
        assert!(written.contains("node_disk_read_bytes_total{device=\"vda\"} 5964223488\n"));
        assert!(written.contains("node_disk_io_time_seconds_total{device=\"sda\"} 0.01\n"));
        assert!(!written.contains("node_disk_flush_requests_total{device=\"sda\"}"));
    }
}
