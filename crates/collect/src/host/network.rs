//! `/proc/net/dev`, under node_exporter's names.

use super::text::Exposition;

/// One device: sixteen counters in the order of the kernel, and packets nobody wanted.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct NetDevice {
    pub(super) device: String,
    pub(super) counters: [f64; 16],
    /// From `/sys/class/net/<device>/statistics/rx_nohandler`.
    pub(super) nohandler: Option<f64>,
}

const NAMES: [&str; 16] = [
    "receive_bytes",
    "receive_packets",
    "receive_errs",
    "receive_drop",
    "receive_fifo",
    "receive_frame",
    "receive_compressed",
    "receive_multicast",
    "transmit_bytes",
    "transmit_packets",
    "transmit_errs",
    "transmit_drop",
    "transmit_fifo",
    "transmit_colls",
    "transmit_carrier",
    "transmit_compressed",
];

/// Reads the file; lines of another shape are left out.
pub(super) fn parse_net_dev(text: &str) -> Vec<NetDevice> {
    let lines = text.lines().filter_map(|line| {
        let (device, rest) = line.rsplit_once(':')?;
        let mut counters = [0.0; 16];
        let mut words = rest.split_ascii_whitespace();
        for slot in &mut counters {
            *slot = words.next()?.parse().ok()?;
        }
        Some(NetDevice {
            device: device.trim().to_owned(),
            counters,
            nohandler: None,
        })
    });
    lines.collect()
}

pub(super) fn write_network(devices: &[NetDevice], out: &mut Exposition<'_>) {
    for (column, name) in NAMES.iter().enumerate() {
        let full = format!("node_network_{name}_total");
        out.family(&full, "counter", &format!("Network device statistic {name}."));
        for device in devices {
            out.sample(&[("device", &device.device)], device.counters[column]);
        }
    }
    if devices.iter().any(|device| device.nohandler.is_some()) {
        let help = "Network device statistic receive_nohandler.";
        out.family("node_network_receive_nohandler_total", "counter", help);
        for device in devices {
            if let Some(count) = device.nohandler {
                out.sample(&[("device", &device.device)], count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_also_when_their_name_holds_a_colon_or_touches_the_numbers() {
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
eth0:1:521391987 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
";
        let devices = parse_net_dev(text);
        assert_eq!(
            devices.iter().map(|d| d.device.as_str()).collect::<Vec<_>>(),
            ["lo", "eth0:1"]
        );
        assert_eq!((devices[0].counters[7], devices[0].counters[8]), (8.0, 9.0));
        assert_eq!(devices[1].counters[0], 521_391_987.0);
    }
}
