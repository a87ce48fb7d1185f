//! `/proc/meminfo`, under the names that node_exporter makes of its keys.

use super::text::Exposition;

/// Reads the file into metric names (without `node_memory_`) and values; kilobytes become bytes.
pub(super) fn parse_meminfo(text: &str) -> Vec<(String, f64)> {
    let lines = text.lines().filter_map(|line| {
        let (key, rest) = line.split_once(':')?;
        let mut words = rest.split_ascii_whitespace();
        let value: f64 = words.next()?.parse().ok()?;
        let mut name = key.replace('(', "_").replace(')', "");
        match words.next() {
            None => Some((name, value)),
            Some("kB") => {
                name.push_str("_bytes");
                Some((name, value * 1024.0))
            }
            Some(_) => None,
        }
    });
    lines
        .filter(|(name, _)| marketprism_model::labels::is_legacy_label_name(name))
        .collect()
}

pub(super) fn write_memory(fields: &[(String, f64)], out: &mut Exposition<'_>) {
    for (name, value) in fields {
        let full = format!("node_memory_{name}");
        out.single(
            &full,
            "gauge",
            &format!("Memory information field {name}."),
            *value,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_keys_become_node_exporters_names() {
        let text =
            "MemTotal:       24684096 kB\nActive(anon):       1624 kB\nHugePages_Total:       3\nOdd: x kB\n";
        let expected = [
            ("MemTotal_bytes".to_owned(), 25_276_514_304.0),
            ("Active_anon_bytes".to_owned(), 1_662_976.0),
            ("HugePages_Total".to_owned(), 3.0),
        ];
        assert_eq!(parse_meminfo(text), expected);
    }
}
