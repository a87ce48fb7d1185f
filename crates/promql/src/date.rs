//! The calendar, in UTC.

/// A moment's parts. Weekdays count from Sunday, 0.
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: u16,
    pub(crate) day: u16,
    pub(crate) weekday: u16,
    pub(crate) day_of_year: u16,
    pub(crate) days_in_month: u16,
    pub(crate) hour: u16,
    pub(crate) minute: u16,
}

const MONTH_DAYS: [u16; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Civil {
    /// Takes seconds since the epoch, cut to whole ones towards zero; NaN and what no `i64` holds give
    /// some date or other, as they do in Prometheus.
    ///
    /// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    pub(crate) fn from_seconds(seconds: f64) -> Self {
        // A year beyond the age of the universe is as good as any, and all sums fit.
        let seconds = (seconds as i64).clamp(-1 << 58, 1 << 58);
        let (days, in_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_from_march + 2) / 153;
        let day = (day_from_march - (153 * month_from_march + 2) / 5 + 1) as u16;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        } as u16;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days_of = |month: usize| MONTH_DAYS[month] + u16::from(month == 1 && is_leap);
        Civil {
            year,
            month,
            day,
            weekday: (days + 4).rem_euclid(7) as u16,
            day_of_year: (0..usize::from(month) - 1).map(days_of).sum::<u16>() + day,
            days_in_month: days_of(usize::from(month) - 1),
            hour: (in_day / 3_600) as u16,
            minute: (in_day / 60 % 60) as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Values from `date -u -d @N '+%Y %m %d %w %j %H %M'`.
        let check = |seconds: f64, expected: [i64; 7]| {
            let c = Civil::from_seconds(seconds);
            let found = [c.month, c.day, c.weekday, c.day_of_year, c.hour, c.minute].map(i64::from);
            assert_eq!((c.year, &found[..]), (expected[0], &expected[1..]), "{seconds}");
        };
        check(0.0, [1970, 1, 1, 4, 1, 0, 0]);
        check(951_782_400.0, [2000, 2, 29, 2, 60, 0, 0]);
        check(1_709_210_096.9, [2024, 2, 29, 4, 60, 12, 34]);
        check(1_735_689_599.0, [2024, 12, 31, 2, 366, 23, 59]);
        check(-1.0, [1969, 12, 31, 3, 365, 23, 59]);
        assert_eq!(Civil::from_seconds(951_782_400.0).days_in_month, 29);
        Civil::from_seconds(f64::INFINITY);
        Civil::from_seconds(f64::NEG_INFINITY);
    }
}
