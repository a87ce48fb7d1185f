//! From OpenMetrics text to Prometheus' text format 0.0.4.
//!
//! The two differ in a few places only: a counter's family has the name of its series, an info is a gauge, what is
//! unknown is untyped, and neither units nor an end are written. So one encoder serves both.
//!
//! Source: prometheus.io, "Exposition formats"; OpenMetrics 1.0.

/// Rewrites a text. A text that already has the older form stays as it is.
pub fn plain(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    // The help stands above the type, which says how the family is called.
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
            continue;
        }
        let Some(rest) = line.strip_prefix("# TYPE ") else {
            if !line.starts_with("# UNIT ") && line != "# EOF" {
                out.push_str(line);
                out.push('\n');
            }
            continue;
        };
        let (family, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
        let (suffix, kind) = match kind {
            "counter" if !family.ends_with("_total") => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            "unknown" => ("", "untyped"),
            kind => ("", kind),
        };
        if let Some((_, text)) = help.take().filter(|(name, _)| *name == family) {
            out.push_str(&format!("# HELP {family}{suffix} {text}\n"));
        }
        out.push_str(&format!("# TYPE {family}{suffix} {kind}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_get_the_names_and_types_of_the_older_format() {
        let open = "# HELP a_build Who.\n# TYPE a_build info\na_build_info{v=\"1\"} 1\n# HELP a How many.\n\
                    # TYPE a counter\na_total{x=\"# TYPE y counter\"} 0\n# HELP b_seconds How long.\n\
                    # TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 1.0\n# TYPE c unknown\nc 3\n# EOF\n";
        let older = "# HELP a_build_info Who.\n# TYPE a_build_info gauge\na_build_info{v=\"1\"} 1\n\
                     # HELP a_total How many.\n# TYPE a_total counter\na_total{x=\"# TYPE y counter\"} 0\n\
                     # HELP b_seconds How long.\n# TYPE b_seconds gauge\nb_seconds 1.0\n# TYPE c untyped\nc 3\n";
        assert_eq!(plain(open), older);
        assert_eq!(plain(older), older);
    }
}
