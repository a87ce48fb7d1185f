//! The whole room as a plain function for fuzzing: any text, no panic, bounded work.

mod grammar;

use std::time::Duration;

use marketprism_model::{Labels, Timestamp, sample};

use crate::ast::Expr;
use crate::engine::{Engine, EngineConfig, Uninterrupted};
use crate::memory::Memory;
use crate::parse::parse;
use crate::tree::tree_json;

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

/// Makes a sentence of the language of some bytes, and reads it.
///
/// # Panics
/// When it is not read, or what is printed does not read back as the same expression.
pub fn sentence(bytes: &[u8]) {
    /// Longer sentences only repeat what shorter ones have.
    const BYTES_MAX: usize = 512;
    let text = grammar::sentence(&bytes[..bytes.len().min(BYTES_MAX)]);
    match parse(&text) {
        Ok(expr) => check_printed(&text, &expr),
        Err(error) => panic!("{text:?}: {error}"),
    }
}

/// The sentence that some bytes make.
#[cfg(test)]
pub(crate) fn text_of(bytes: &[u8]) -> String {
    grammar::sentence(bytes)
}

/// Reads what is printed, on one line and on many.
fn check_printed(text: &str, expr: &Expr) {
    for printed in [expr.to_string(), expr.pretty()] {
        match parse(&printed) {
            Ok(again) => assert!(
                again == *expr,
                "{text:?} prints as {printed:?}, which reads as {again}"
            ),
            Err(error) => panic!("{text:?} prints as {printed:?}: {error}"),
        }
    }
    let _ = tree_json(expr);
}

/// Parses a text and, when it is an expression, evaluates it over a few series: at an instant, over a
/// range, and twice in a session.
///
/// # Panics
/// When what is printed does not read back as the same expression, or a session answers otherwise than
/// an evaluation alone: then something has been found.
pub fn evaluate(text: &str) {
    let expr = match parse(text) {
        Ok(expr) => expr,
        Err(error) => {
            let start = error.span.start as usize;
            assert!(
                start <= text.len() && !error.to_string().is_empty(),
                "{text:?}: {error}"
            );
            return;
        }
    };
    check_printed(text, &expr);
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
