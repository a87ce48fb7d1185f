//! The whole room as a plain function for fuzzing: any text, no panic, bounded work.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::series::{ReadError, SeriesVisitor};
use marketprism_model::{Labels, Matcher, Samples, Selection, SeriesSource, TimeRange, Timestamp, sample};

use crate::engine::{Engine, EngineConfig, Uninterrupted};
use crate::parse::parse;

/// The samples of every series, one each 15 s; some series end, some hold NaN and infinities.
const STEP_MS: i64 = 15_000;
const SAMPLES: usize = 40;

type Column = (Labels, Vec<i64>, Vec<f64>);

struct Tiny {
    series: Arc<Vec<Column>>,
}

impl Tiny {
    fn new() -> Self {
        let shapes: [fn(usize) -> f64; 4] = [
            |at| at as f64 * 3.5,
            |at| (at % 7) as f64 - 3.0,
            |at| if at % 5 == 0 { f64::NAN } else { f64::INFINITY },
            |at| if at > 20 { sample::stale_nan() } else { 1.0 },
        ];
        let mut series = Vec::new();
        for (place, shape) in shapes.iter().enumerate() {
            for (name, le) in [
                ("a", ""),
                ("b_total", ""),
                ("c_bucket", "0.5"),
                ("c_bucket", "+Inf"),
            ] {
                let instance = place.to_string();
                let labels = [
                    ("__name__", name),
                    ("job", "j"),
                    ("instance", &instance),
                    ("le", le),
                ];
                let timestamps = (0..SAMPLES).map(|at| at as i64 * STEP_MS).collect();
                series.push((
                    Labels::from_pairs(labels),
                    timestamps,
                    (0..SAMPLES).map(shape).collect(),
                ));
            }
        }
        series.sort_by(|a, b| a.0.cmp(&b.0));
        Tiny {
            series: Arc::new(series),
        }
    }
}

struct Chosen {
    series: Arc<Vec<Column>>,
    labels: Vec<Labels>,
    places: Vec<usize>,
    id: u64,
}

impl SeriesSource for Tiny {
    fn select(&self, matchers: &[Matcher], _: TimeRange) -> Result<Arc<dyn Selection>, ReadError> {
        let keeps = |place: &usize| matchers.iter().all(|m| m.matches_labels(&self.series[*place].0));
        let places: Vec<usize> = (0..self.series.len()).filter(keeps).collect();
        let labels = places.iter().map(|place| self.series[*place].0.clone()).collect();
        // Which series are chosen names the choice.
        let id = places.iter().fold(0, |id, place| id | 1 << place);
        Ok(Arc::new(Chosen {
            series: Arc::clone(&self.series),
            labels,
            places,
            id,
        }))
    }

    fn label_names(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }
}

impl Selection for Chosen {
    fn id(&self) -> u64 {
        self.id
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn read(
        &self,
        positions: Range<usize>,
        range: TimeRange,
        visit: &mut SeriesVisitor<'_>,
    ) -> Result<(), ReadError> {
        for position in positions {
            let (_, timestamps, values) = &self.series[self.places[position]];
            let first = timestamps.partition_point(|at| *at < range.start.millis());
            let after_last = timestamps.partition_point(|at| *at <= range.end.millis());
            if first < after_last {
                let chosen = first..after_last;
                visit(
                    position,
                    Samples::numbers(&timestamps[chosen.clone()], &values[chosen]),
                )?;
            }
        }
        Ok(())
    }
}

/// Parses a text and, when it is an expression, evaluates it over a few series: at an instant, over a
/// range, and twice in a session.
///
/// # Panics
/// When what is printed does not read back as the same expression, or a session answers otherwise than
/// an evaluation alone: then something has been found.
pub fn evaluate(text: &str) {
    let Ok(expr) = parse(text) else {
        return;
    };
    let printed = expr.to_string();
    match parse(&printed) {
        Ok(again) => assert!(
            again == expr,
            "{text:?} prints as {printed:?}, which reads as {again}"
        ),
        Err(error) => panic!("{text:?} prints as {printed:?}: {error}"),
    }
    let config = EngineConfig {
        samples_max: 50_000,
        steps_max: 100,
        ..EngineConfig::default()
    };
    let (engine, source) = (Engine::new(config), Tiny::new());
    let prepared = engine.prepare(&expr);
    let at = Timestamp::from_millis(SAMPLES as i64 * STEP_MS);
    let alone = engine.instant(&source, &prepared, at, &Uninterrupted);
    let (start, step) = (Timestamp::from_millis(60_000), Duration::from_secs(60));
    let _ = engine.range(&source, &prepared, start, at, step, &Uninterrupted);
    let mut session = engine.session(&source, at, &Uninterrupted);
    for _ in 0..2 {
        let together = session.evaluate(&prepared);
        let (alone, together) = (format!("{alone:?}"), format!("{together:?}"));
        // A session that has calculated a part already reads less, and may succeed where one alone may not.
        let is_limited = alone.contains("TooMany") || together.contains("TooMany");
        assert!(
            is_limited || alone == together,
            "{text:?}: alone {alone}, in a session {together}"
        );
    }
}
