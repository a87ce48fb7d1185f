//! The whole room as a plain function for fuzzing: any text, no panic, bounded work.

use std::time::Duration;

use marketprism_model::{Labels, Timestamp, sample};

use crate::engine::{Engine, EngineConfig, Uninterrupted};
use crate::memory::Memory;
use crate::parse::parse;

/// The samples of every series, one each 15 s; some series end, some hold NaN and infinities.
const STEP_MS: i64 = 15_000;
const SAMPLES: usize = 40;

/// A few series with which most expressions find something to do.
fn series() -> Memory {
    let shapes: [fn(usize) -> f64; 4] = [
        |at| at as f64 * 3.5,
        |at| (at % 7) as f64 - 3.0,
        |at| if at % 5 == 0 { f64::NAN } else { f64::INFINITY },
        |at| if at > 20 { sample::stale_nan() } else { 1.0 },
    ];
    let memory = Memory::new();
    let names = [
        ("a", ""),
        ("b_total", ""),
        ("c_bucket", "0.5"),
        ("c_bucket", "+Inf"),
    ];
    for (place, shape) in shapes.iter().enumerate() {
        for (name, le) in names {
            let instance = place.to_string();
            let labels = Labels::from_pairs([
                ("__name__", name),
                ("job", "j"),
                ("instance", &instance),
                ("le", le),
            ]);
            for at in 0..SAMPLES {
                memory.append(&labels, Timestamp::from_millis(at as i64 * STEP_MS), shape(at));
            }
        }
    }
    memory
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
    let (engine, source) = (Engine::new(config), series());
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
