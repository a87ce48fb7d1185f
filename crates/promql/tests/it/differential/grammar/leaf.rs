//! Selectors, ranges, and what is rolled up from them.

use super::{Generator, Made, Place, Precision, Shift};

/// A metric of the generated data.
pub(super) struct Family {
    pub(super) name: &'static str,
    /// The label besides job and instance, and matchers for it.
    pub(super) extra: Option<(&'static str, &'static [&'static str])>,
    pub(super) is_counter: bool,
    pub(super) is_distinct: bool,
    /// Whether it holds numbers at the end of what can be.
    pub(super) is_odd: bool,
    /// Whether it is small enough that regressions and deviations of it are well conditioned.
    pub(super) is_gauge: bool,
    /// Whether it is never interrupted.
    pub(super) is_steady: bool,
}

const PLAIN: Family = Family {
    name: "",
    extra: None,
    is_counter: false,
    is_distinct: false,
    is_odd: false,
    is_gauge: false,
    is_steady: false,
};

const FAMILIES: [Family; 15] = [
    Family {
        name: "requests_total",
        extra: Some(("code", &["code=\"200\"", "code=~\"4..|5..\"", "code!=\"404\""])),
        is_counter: true,
        is_distinct: true,
        is_steady: true,
        ..PLAIN
    },
    Family {
        name: "cpu_seconds_total",
        extra: Some(("mode", &["mode=\"user\"", "mode!~\"u.*\""])),
        is_counter: true,
        is_distinct: true,
        is_steady: true,
        ..PLAIN
    },
    Family {
        name: "bytes_total",
        is_counter: true,
        is_distinct: true,
        ..PLAIN
    },
    Family {
        name: "jobs_total",
        is_counter: true,
        ..PLAIN
    },
    Family {
        name: "temperature",
        is_distinct: true,
        is_gauge: true,
        ..PLAIN
    },
    Family {
        name: "pressure",
        is_distinct: true,
        is_gauge: true,
        ..PLAIN
    },
    Family {
        name: "load",
        ..PLAIN
    },
    Family {
        name: "odd",
        is_steady: true,
        ..PLAIN
    },
    Family {
        name: "huge",
        is_odd: true,
        is_steady: true,
        ..PLAIN
    },
    Family {
        name: "level",
        is_gauge: true,
        is_steady: true,
        ..PLAIN
    },
    Family {
        name: "sparse",
        is_gauge: true,
        ..PLAIN
    },
    Family {
        name: "up",
        is_gauge: true,
        is_steady: true,
        ..PLAIN
    },
    Family {
        name: "build_info",
        extra: Some(("version", &["version=\"2.0\""])),
        is_gauge: true,
        is_steady: true,
        ..PLAIN
    },
    Family {
        name: "latency_bucket",
        extra: Some(("le", &["le=\"0.5\"", "le!=\"+Inf\""])),
        is_counter: true,
        is_steady: true,
        ..PLAIN
    },
    Family {
        name: "latency_sum",
        is_counter: true,
        is_steady: true,
        ..PLAIN
    },
];

impl Family {
    fn made(&self, text: String) -> Made {
        let mut identity = vec!["job", "instance"];
        identity.extend(self.extra.map(|(label, _)| label));
        Made {
            text,
            identity: Some(identity),
            // Numbers at the end of what can be overflow or not by the order in which they are added.
            precision: if self.is_odd {
                Precision::Exact
            } else {
                Precision::Summable
            },
            is_named: true,
            is_distinct: self.is_distinct,
            is_odd: self.is_odd,
        }
    }
}

impl Generator {
    pub(super) fn family(&mut self, is_fit: impl Fn(&Family) -> bool) -> &'static Family {
        loop {
            let family = &FAMILIES[self.below(FAMILIES.len())];
            if is_fit(family) {
                return family;
            }
        }
    }

    /// The metric and its matchers.
    pub(super) fn selector(&mut self, family: &Family) -> String {
        let mut all = Vec::new();
        if self.one_in(3) {
            all.push(self.pick(&[
                r#"job="api""#,
                r#"job!="db""#,
                r#"job=~"api|web""#,
                r#"job!~"w.*""#,
                r#"instance=~".+-[01]:9100""#,
                r#"instance!~"api-3.*""#,
                r#"instance=~"(?i:API)-\\d:9{1}1[0]+""#,
                r#"job=~"""#,
                r#"missing="""#,
                r#"missing!~".+""#,
                r#"job=~"""#,
            ]));
        }
        if let Some((_, matchers)) = family.extra
            && self.one_in(3)
        {
            all.push(self.pick(matchers));
        }
        let name = family.name;
        match (all.is_empty(), self.below(20)) {
            (true, 0) => format!("{{__name__=\"{name}\"}}"),
            (true, 1) => format!("{name}{{}}"),
            (true, _) => name.to_owned(),
            (false, 0) => format!("{{__name__=\"{name}\",{}}}", all.join(",")),
            (false, 1) => format!("{name}{{{},}}", all.join(" , ")),
            (false, _) => format!("{name}{{{}}}", all.join(",")),
        }
    }

    /// Samples as they are.
    pub(super) fn leaf(&mut self, place: Place) -> Made {
        let family = self.family(|_| true);
        let (selector, shift) = (self.selector(family), self.shift(place));
        family.made(format!("{selector}{}", shift.text))
    }

    /// Samples of a usual size as they are, each series of it told apart by job and instance.
    pub(super) fn plain(&mut self, place: Place) -> Made {
        let family = self.family(|family| family.is_gauge && family.extra.is_none());
        let (selector, shift) = (self.selector(family), self.shift(place));
        family.made(format!("{selector}{}", shift.text))
    }

    /// A length in minutes that the place has room for.
    fn range_min(&mut self, reach_min: i64) -> i64 {
        loop {
            let range = self.pick(&[1, 2, 5, 10, 30, 60]);
            if range <= reach_min.max(1) {
                return range;
            }
        }
    }

    fn length(&mut self, minutes: i64) -> String {
        match (minutes, self.below(6)) {
            (60, _) => "1h".to_owned(),
            (minutes, 0) => format!("{}s", minutes * 60),
            (minutes, 1) => format!("{}m60s", minutes - 1).replace("0m60s", "1m"),
            (minutes, _) => format!("{minutes}m"),
        }
    }

    /// A family over a range, and how long that is.
    fn range(&mut self, place: Place, is_fit: impl Fn(&Family) -> bool) -> (String, &'static Family) {
        let family = self.family(is_fit);
        let (selector, shift) = (self.selector(family), self.shift(place));
        let minutes = self.range_min(shift.reach_min);
        let length = self.length(minutes);
        (format!("{selector}[{length}]{}", shift.text), family)
    }

    /// A subquery over what `make` makes, and its modifiers.
    pub(super) fn subquery(
        &mut self,
        place: Place,
        make: impl FnOnce(&mut Self, Place) -> Made,
    ) -> (String, Made) {
        let mut shift = self.shift(place);
        if place.is_within && !shift.is_pinned {
            // Away from the steps around it, which lie at full and half minutes.
            shift = Shift {
                text: " offset 15s".to_owned(),
                reach_min: place.reach_min - 1,
                is_pinned: false,
            };
        }
        let range = self.range_min((shift.reach_min - 12).min(30)).max(2);
        // Where no step lies in the range, 2.42 may give series without points.
        let steps = ["1m", "30s", "", "2m", "5m"];
        let step = self.pick(&steps[..if range < 5 { 4 } else { 5 }]);
        let inner = make(
            self,
            Place {
                depth: place.depth.saturating_sub(1),
                reach_min: shift.reach_min - range - 1,
                is_within: true,
            },
        );
        let text = format!("({})[{range}m:{step}]{}", inner.text, shift.text);
        (text, inner)
    }

    /// A vector whose series are known to be told apart, at one step and at another: what is a union may have a
    /// name at some steps only, and whether these are one series hangs on when names are dropped.
    fn told_apart(&mut self, place: Place) -> Made {
        self.vector_that(place, |made| made.identity.is_some())
    }

    /// A range vector by itself.
    pub(super) fn range_vector(&mut self, place: Place) -> String {
        if self.one_in(2) {
            self.range(place, |_| true).0
        } else {
            self.subquery(place, Generator::told_apart).0
        }
    }

    /// Something over a range.
    pub(super) fn rollup(&mut self, place: Place) -> Made {
        let has_room = place.depth > 0 && place.reach_min > 20;
        match self.below(12) {
            0..=2 => {
                let function = self.pick(&["rate", "increase", "rate", "increase", "irate"]);
                let (range, family) = self.range(place, |family| family.is_counter);
                self.over(function, "", &range, "", family, Precision::Rounded)
            }
            3 => {
                let function = self.pick(&["resets", "changes", "count_over_time", "present_over_time"]);
                let (range, family) = self.range(place, |_| true);
                let counted = self.over(function, "", &range, "", family, Precision::Summable);
                Made {
                    is_odd: false,
                    precision: Precision::Summable,
                    is_distinct: false,
                    ..counted
                }
            }
            4 => {
                let function = self.pick(&["min_over_time", "max_over_time", "last_over_time"]);
                let (range, family) = self.range(place, |_| true);
                let made = self.over(function, "", &range, "", family, Precision::Summable);
                Made {
                    is_named: function == "last_over_time",
                    ..made
                }
            }
            5 => {
                let function =
                    self.pick(&["delta", "deriv", "idelta", "stddev_over_time", "stdvar_over_time"]);
                let (range, family) = self.range(place, |family| family.is_gauge);
                let mut made = self.over(function, "", &range, "", family, Precision::Rounded);
                made.is_distinct &= matches!(function, "deriv" | "stddev_over_time" | "stdvar_over_time");
                made
            }
            6 => {
                let (range, family) = self.range(place, |family| !family.is_odd);
                self.over("avg_over_time", "", &range, "", family, Precision::Rounded)
            }
            7 => {
                let (range, family) = self.range(place, |family| !family.is_odd);
                self.over("sum_over_time", "", &range, "", family, Precision::Summable)
            }
            8 => self.rollup_with_parameter(place),
            9 | 10 if has_room => self.rollup_of_subquery(place),
            _ => {
                let (range, family) = self.range(place, |family| family.is_distinct);
                self.over("avg_over_time", "", &range, "", family, Precision::Rounded)
            }
        }
    }

    fn over(
        &mut self,
        function: &str,
        before: &str,
        range: &str,
        after: &str,
        family: &Family,
        precision: Precision,
    ) -> Made {
        let made = family.made(format!("{function}({before}{range}{after})"));
        Made {
            precision: precision.max(made.precision),
            is_named: false,
            // Few samples may come to the same number.
            is_distinct: made.is_distinct && !matches!(function, "irate" | "idelta" | "delta"),
            ..made
        }
    }

    fn rollup_with_parameter(&mut self, place: Place) -> Made {
        match self.below(4) {
            0 => {
                // 2.42 loses what `@` pins under this one.
                let (range, family) = loop {
                    let (range, family) = self.range(place, |family| family.is_gauge);
                    if !range.contains('@') {
                        break (range, family);
                    }
                };
                let ahead = self.pick(&["60", "3600", "-600", "0"]);
                let after = format!(", {ahead}");
                self.over("predict_linear", "", &range, &after, family, Precision::Rounded)
            }
            1 => {
                let (range, family) = self.range(place, |family| family.is_gauge);
                let factors = self.pick(&["0.3, 0.6", "0.5, 0.1", "0.01, 0.99"]);
                let after = format!(", {factors}");
                self.over("holt_winters", "", &range, &after, family, Precision::Rounded)
            }
            _ => {
                let (range, family) = self.range(place, |family| !family.is_odd);
                let phi = self.pick(&["0", "0.25", "0.9", "1", "1.5", "-1", "NaN"]);
                let before = format!("{phi}, ");
                let mut made = self.over(
                    "quantile_over_time",
                    &before,
                    &range,
                    "",
                    family,
                    Precision::Rounded,
                );
                (made.is_odd, made.is_distinct) = (true, false);
                made
            }
        }
    }

    fn rollup_of_subquery(&mut self, place: Place) -> Made {
        match self.below(6) {
            0 => {
                // A counter without gaps, for zero is met otherwise in 2.42.
                let function = self.pick(&["rate", "increase", "resets", "changes", "irate"]);
                let (range, inner) = self.subquery(place, |generator, place| {
                    let family = generator.family(|family| family.is_counter && family.is_steady);
                    let selector = generator.selector(family);
                    let _ = place;
                    family.made(selector)
                });
                inner.becomes(format!("{function}({range})"), Precision::Rounded)
            }
            1 => {
                let function = self.pick(&["count_over_time", "present_over_time"]);
                let (range, inner) = self.subquery(place, Generator::told_apart);
                let mut made = inner.becomes(format!("{function}({range})"), Precision::Summable);
                (made.precision, made.is_odd) = (Precision::Summable, false);
                made
            }
            2 => {
                let function = self.pick(&["min_over_time", "max_over_time", "last_over_time"]);
                let (range, inner) = self.subquery(place, Generator::told_apart);
                let precision = inner.precision;
                let mut made = inner.becomes(format!("{function}({range})"), precision);
                made.is_named = inner.is_named && function == "last_over_time";
                made
            }
            3 => {
                let function = self.pick(&["changes", "resets"]);
                let (range, inner) = self.subquery(place, |generator, place| {
                    generator.vector_that(place, |made| {
                        made.precision <= Precision::Exact && made.identity.is_some()
                    })
                });
                let mut made = inner.becomes(format!("{function}({range})"), Precision::Summable);
                (made.precision, made.is_odd) = (Precision::Summable, false);
                made
            }
            4 => {
                let function =
                    self.pick(&["deriv", "delta", "stddev_over_time", "stdvar_over_time", "idelta"]);
                let (range, inner) = self.subquery(place, |generator, place| generator.plain(place));
                inner.becomes(format!("{function}({range})"), Precision::Rounded)
            }
            _ => {
                let function = self.pick(&["avg_over_time", "sum_over_time", "0.7"]);
                let (range, inner) = self.subquery(place, |generator, place| {
                    generator.vector_that(place, |made| !made.is_odd && made.identity.is_some())
                });
                let call = match function {
                    "0.7" => format!("quantile_over_time(0.7, {range})"),
                    function => format!("{function}({range})"),
                };
                inner.becomes(call, Precision::Rounded)
            }
        }
    }

    /// The quantile of a classic histogram.
    pub(super) fn quantile_of_buckets(&mut self, place: Place) -> Made {
        let phi = self.pick(&["0.5", "0.9", "0.99", "0", "1", "-0.1", "1.1", "NaN"]);
        let shift = self.shift(place);
        let minutes = self.range_min(shift.reach_min);
        let (by, identity): (&str, &[&'static str]) = match self.below(4) {
            0 => ("le", &[]),
            1 => ("le, job", &["job"]),
            2 => ("le, instance, job", &["instance", "job"]),
            _ => ("", &["instance", "job"]),
        };
        let buckets = match by {
            "" if self.one_in(2) => format!("latency_bucket{}", shift.text),
            "" => format!("rate(latency_bucket[{minutes}m]{})", shift.text),
            by => format!("sum by ({by}) (rate(latency_bucket[{minutes}m]{}))", shift.text),
        };
        Made {
            text: format!("histogram_quantile({phi}, {buckets})"),
            identity: Some(identity.to_vec()),
            precision: Precision::Rounded,
            is_named: false,
            is_distinct: false,
            is_odd: true,
        }
    }
}
