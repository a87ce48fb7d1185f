//! The small files: load, pressure, virtual memory, open files, entropy, clock sources, the system's name.

use super::text::Exposition;

/// Reads the three averages of `/proc/loadavg`.
pub(super) fn parse_loadavg(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_ascii_whitespace();
    let mut next = || words.next()?.parse().ok();
    Some([next()?, next()?, next()?])
}

pub(super) fn write_load(load: [f64; 3], out: &mut Exposition<'_>) {
    for (value, minutes) in load.into_iter().zip(["1", "5", "15"]) {
        out.single(
            &format!("node_load{minutes}"),
            "gauge",
            &format!("Load average over {minutes} min."),
            value,
        );
    }
}

/// Seconds lost to a shortage: by some task, and by all of them at once.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Pressure {
    pub(super) some_s: Option<f64>,
    pub(super) full_s: Option<f64>,
}

/// Reads one file of `/proc/pressure`.
pub(super) fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let total = line
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix("total=")?.parse::<f64>().ok());
        let seconds = total.map(|micros| micros / 1e6);
        if line.starts_with("some ") {
            pressure.some_s = seconds;
        } else if line.starts_with("full ") {
            pressure.full_s = seconds;
        }
    }
    pressure
}

/// Writes one resource; the kernel's "full" of the processor means nothing, and interrupts have no "some".
pub(super) fn write_pressure(resource: &str, pressure: Pressure, out: &mut Exposition<'_>) {
    let some = pressure.some_s.filter(|_| resource != "irq");
    let full = pressure.full_s.filter(|_| resource != "cpu");
    if let Some(seconds) = some {
        let help = "Seconds in which some task waited for this resource.";
        out.single(
            &format!("node_pressure_{resource}_waiting_seconds_total"),
            "counter",
            help,
            seconds,
        );
    }
    if let Some(seconds) = full {
        let help = "Seconds in which no task could go on for want of this resource.";
        out.single(
            &format!("node_pressure_{resource}_stalled_seconds_total"),
            "counter",
            help,
            seconds,
        );
    }
}

/// Reads those fields of `/proc/vmstat` that node_exporter takes: `^(oom_kill|pgpg|pswp|pg.*fault).*`.
pub(super) fn parse_vmstat(text: &str) -> Vec<(&str, f64)> {
    let is_taken = |name: &str| {
        ["oom_kill", "pgpg", "pswp"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
            || (name.starts_with("pg") && name.contains("fault"))
    };
    let lines = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name, value.trim().parse().ok()?))
    });
    lines
        .filter(|(name, _)| is_taken(name) && marketprism_model::labels::is_legacy_label_name(name))
        .collect()
}

pub(super) fn write_vmstat(fields: &[(&str, f64)], out: &mut Exposition<'_>) {
    for (name, value) in fields {
        let help = format!("/proc/vmstat field {name}.");
        out.single(&format!("node_vmstat_{name}"), "untyped", &help, *value);
    }
}

/// Reads `/proc/sys/fs/file-nr`: open files, and as many as may be.
pub(super) fn parse_file_nr(text: &str) -> Option<(f64, f64)> {
    let mut words = text.split_ascii_whitespace();
    let allocated = words.next()?.parse().ok()?;
    let maximum = words.nth(1)?.parse().ok()?;
    Some((allocated, maximum))
}

pub(super) fn write_filefd((allocated, maximum): (f64, f64), out: &mut Exposition<'_>) {
    out.single(
        "node_filefd_allocated",
        "gauge",
        "File descriptors in use.",
        allocated,
    );
    out.single(
        "node_filefd_maximum",
        "gauge",
        "File descriptors that may be in use.",
        maximum,
    );
}

pub(super) fn write_entropy(available: f64, pool_size: Option<f64>, out: &mut Exposition<'_>) {
    out.single(
        "node_entropy_available_bits",
        "gauge",
        "Bits of entropy at hand.",
        available,
    );
    if let Some(bits) = pool_size {
        out.single(
            "node_entropy_pool_size_bits",
            "gauge",
            "Bits of entropy that the pool holds.",
            bits,
        );
    }
}

pub(super) fn write_clock_sources(available: &str, current: &str, out: &mut Exposition<'_>) {
    let name = "node_time_clocksource_available_info";
    out.family(name, "gauge", "Clock sources that the kernel could use.");
    for source in available.split_ascii_whitespace() {
        out.sample(&[("clocksource", source), ("device", "0")], 1.0);
    }
    out.family(
        "node_time_clocksource_current_info",
        "gauge",
        "The clock source that the kernel uses.",
    );
    out.sample(&[("clocksource", current.trim()), ("device", "0")], 1.0);
}

/// Writes the name of the system, asked of the kernel.
pub(super) fn write_uname(out: &mut Exposition<'_>) {
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    out.family(
        "node_uname_info",
        "gauge",
        "The system's name and version, as labels.",
    )
    .sample(
        &[
            ("domainname", &text(uname.domainname())),
            ("machine", &text(uname.machine())),
            ("nodename", &text(uname.nodename())),
            ("release", &text(uname.release())),
            ("sysname", &text(uname.sysname())),
            ("version", &text(uname.version())),
        ],
        1.0,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_read() {
        assert_eq!(
            parse_loadavg("2.37 1.85 1.41 9/146 5542\n"),
            Some([2.37, 1.85, 1.41])
        );
        assert_eq!(parse_loadavg("2.37 x"), None);
        assert_eq!(parse_file_nr("828\t0\t2466183\n"), Some((828.0, 2_466_183.0)));
        let text = "some avg10=1.12 avg60=0.96 avg300=0.48 total=13779477\nfull avg10=0.84 total=9476535\n";
        assert_eq!(
            parse_pressure(text),
            Pressure {
                some_s: Some(13.779_477),
                full_s: Some(9.476_535)
            }
        );
    }

    #[test]
    fn only_the_chosen_fields_of_vmstat_are_taken() {
        let text =
            "nr_free_pages 861587\npgpgin 1\npgfault 2\npgmajfault 3\npswpout 4\noom_kill 5\npgalloc_dma 6\n";
        let names: Vec<_> = parse_vmstat(text).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["pgpgin", "pgfault", "pgmajfault", "pswpout", "oom_kill"]);
    }
}
