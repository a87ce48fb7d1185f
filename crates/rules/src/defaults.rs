//! The rules inside the program, so that a fresh machine is watched at once.

/// Gives name and text of each file; texts of alerts in Chinese, and in English under `…_en`.
pub fn defaults() -> &'static [(&'static str, &'static str)] {
    &[
        (
            "default/host.yaml",
            include_str!("../../../config/rules/host.yaml"),
        ),
        (
            "default/marketprism.yaml",
            include_str!("../../../config/rules/marketprism.yaml"),
        ),
        (
            "default/watchdog.yaml",
            include_str!("../../../config/rules/watchdog.yaml"),
        ),
    ]
}
