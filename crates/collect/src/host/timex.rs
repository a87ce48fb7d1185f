//! How well the kernel's clock is disciplined: `adjtimex(2)` in read mode, under node_exporter's names.

use super::text::Exposition;
use super::{HostCollector, PartError};

/// The kernel's clock is not synchronised.
const TIME_ERROR: i32 = 5;
/// `offset` and `jitter` are in nanoseconds rather than microseconds.
const STA_NANO: i32 = 0x2000;
/// Frequencies are in millionths with a 16-bit fraction.
const PPM_16: f64 = 1_000_000.0 * 65_536.0;
const MICROS: f64 = 1_000_000.0;

impl HostCollector {
    /// Writes the state of the kernel's clock. In a container it is the host's.
    pub(super) fn timex(&self, out: &mut Exposition<'_>) -> Result<(), PartError> {
        let (state, timex) = read().ok_or_else(|| PartError::Form {
            path: "adjtimex(2)".to_owned(),
        })?;
        let per_second = if timex.status & STA_NANO != 0 { 1e9 } else { MICROS };
        let mut gauge = |name: &str, help: &str, value: f64| out.single(name, "gauge", help, value);
        gauge(
            "node_timex_sync_status",
            "Is clock synchronized to a reliable server (1 = yes, 0 = no).",
            f64::from(u8::from(state != TIME_ERROR)),
        );
        gauge(
            "node_timex_offset_seconds",
            "Time offset in between local system and reference clock.",
            timex.offset as f64 / per_second,
        );
        gauge(
            "node_timex_frequency_adjustment_ratio",
            "Local clock frequency adjustment.",
            1.0 + timex.freq as f64 / PPM_16,
        );
        gauge(
            "node_timex_maxerror_seconds",
            "Maximum error in seconds.",
            timex.maxerror as f64 / MICROS,
        );
        gauge(
            "node_timex_estimated_error_seconds",
            "Estimated error in seconds.",
            timex.esterror as f64 / MICROS,
        );
        gauge(
            "node_timex_status",
            "Value of the status array bits.",
            f64::from(timex.status),
        );
        gauge(
            "node_timex_loop_time_constant",
            "Phase-locked loop time constant.",
            timex.constant as f64,
        );
        gauge(
            "node_timex_tick_seconds",
            "Seconds between clock ticks.",
            timex.tick as f64 / MICROS,
        );
        gauge(
            "node_timex_tai_offset_seconds",
            "International Atomic Time (TAI) offset.",
            f64::from(timex.tai),
        );
        gauge(
            "node_timex_pps_frequency_hertz",
            "Pulse per second frequency.",
            timex.ppsfreq as f64 / PPM_16,
        );
        gauge(
            "node_timex_pps_jitter_seconds",
            "Pulse per second jitter.",
            timex.jitter as f64 / per_second,
        );
        gauge(
            "node_timex_pps_shift_seconds",
            "Pulse per second interval duration.",
            f64::from(timex.shift),
        );
        gauge(
            "node_timex_pps_stability_hertz",
            "Pulse per second stability, average of recent frequency changes.",
            timex.stabil as f64 / PPM_16,
        );
        let mut counter = |name: &str, help: &str, value: f64| out.single(name, "counter", help, value);
        counter(
            "node_timex_pps_jitter_total",
            "Pulse per second count of jitter limit exceeded events.",
            timex.jitcnt as f64,
        );
        counter(
            "node_timex_pps_calibration_total",
            "Pulse per second count of calibration intervals.",
            timex.calcnt as f64,
        );
        counter(
            "node_timex_pps_error_total",
            "Pulse per second count of calibration errors.",
            timex.errcnt as f64,
        );
        counter(
            "node_timex_pps_stability_exceeded_total",
            "Pulse per second count of stability limit exceeded events.",
            timex.stbcnt as f64,
        );
        Ok(())
    }
}

/// Asks the kernel; changes nothing, for no mode bit is set.
fn read() -> Option<(i32, libc::timex)> {
    // SAFETY: `timex` is plain integers, for which all zeroes are valid; `adjtimex` writes nothing but this one
    // struct, which lives on our stack until it returns.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    (state >= 0).then_some((state, timex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers_with_a_tick_of_about_a_hundredth_of_a_second() {
        // A tick is 10,000 µs, which adjtimex(8) lets an administrator change by a tenth.
        let (_, timex) = read().expect("the kernel answers");
        assert!((9_000..=11_000).contains(&timex.tick), "{}", timex.tick);
    }
}
