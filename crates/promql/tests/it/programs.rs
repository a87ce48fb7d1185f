//! Expressions made at random that calculate: no panic, no answer that hangs on how it was asked, no memory over
//! the limit.

use std::collections::BTreeSet;
use std::time::Duration;

use marketprism_model::{Chance, Timestamp};
use marketprism_promql::{Engine, EngineConfig, Function, QueryError, Uninterrupted, fuzz, parse};
use marketprism_testkit::SeededChance;
use proptest::prelude::*;

use crate::allocations::most_held;
use crate::coverage::names;
use crate::scale;

fn bytes(chance: &SeededChance) -> Vec<u8> {
    (0..96).map(|_| (chance.next_u64() >> 13) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500 * scale() as u32))]

    #[test]
    fn each_step_and_each_session_answers_alike(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
        fuzz::program(&bytes);
    }

    #[test]
    fn no_mutated_expression_makes_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 8..96),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let text = fuzz::program_text(&bytes);
        let words: Vec<&str> = text.split_inclusive([' ', '(', ')', '[', ']', '{', '}', ',']).collect();
        let (from, to) = (from.index(words.len()), to.index(words.len()));
        let mut swapped = words.clone();
        swapped.swap(from, to);
        fuzz::evaluate(&swapped.concat());
        let mut lost = words.clone();
        lost.remove(from);
        fuzz::evaluate(&lost.concat());
        let mut doubled = words;
        doubled.insert(to, doubled[from]);
        fuzz::evaluate(&doubled.concat());
    }
}

/// What is made has all of the language in it, and most of it is answered.
#[test]
fn programs_have_everything_and_mostly_answer() {
    let (chance, engine, source) = (
        SeededChance::new(5),
        Engine::new(EngineConfig::default()),
        fuzz::series(),
    );
    let (mut seen, mut valid, mut answered) = (BTreeSet::new(), 0, 0);
    let total = 3_000;
    for _ in 0..total {
        let Ok(expr) = parse(&fuzz::program_text(&bytes(&chance))) else {
            continue;
        };
        valid += 1;
        seen.extend(names(&expr));
        let prepared = engine.prepare(&expr);
        let at = Timestamp::from_millis(500_000);
        answered += usize::from(engine.instant(source, &prepared, at, &Uninterrupted).is_ok());
    }
    assert!(valid * 2 > total, "only {valid} of {total} are valid");
    assert!(answered * 3 > total, "only {answered} of {total} are answered");
    let missing: Vec<&str> = Function::ALL
        .iter()
        .map(|function| function.signature().name)
        .filter(|name| !seen.contains(name))
        .collect();
    assert!(missing.is_empty(), "never made: {missing:?}");
}

/// The limits are kept by what is allocated, not only by what is counted.
#[test]
fn no_expression_holds_much_more_than_its_limit() {
    const BYTES_MAX: usize = 256 << 10;
    /// Plans, answers and what is held twice for a moment.
    const BESIDE: usize = 2 << 20;
    let config = EngineConfig {
        samples_max: BYTES_MAX as u64 / 8,
        bytes_max: BYTES_MAX as u64,
        table_bytes_max: BYTES_MAX,
        ..EngineConfig::default()
    };
    let (chance, source) = (SeededChance::new(6), fuzz::series());
    let (mut limited, mut most) = (0, (0, String::new()));
    for _ in 0..1_000 * scale() {
        let text = fuzz::program_text(&bytes(&chance));
        let Ok(expr) = parse(&text) else {
            continue;
        };
        let (outcome, held) = most_held(|| {
            let engine = Engine::new(config.clone());
            let prepared = engine.prepare(&expr);
            let (start, end) = (Timestamp::from_millis(0), Timestamp::from_millis(600_000));
            engine.range(
                source,
                &prepared,
                start,
                end,
                Duration::from_millis(250),
                &Uninterrupted,
            )
        });
        limited += usize::from(matches!(
            outcome,
            Err(QueryError::TooManySamples { .. } | QueryError::TooManyBytes { .. })
        ));
        if held > most.0 {
            most = (held, text);
        }
    }
    println!(
        "{limited} were limited; the most held {} bytes: {}",
        most.0, most.1
    );
    assert!(limited > 20, "only {limited} met a limit");
    assert!(
        most.0 < BYTES_MAX + BESIDE,
        "{} bytes were held by {}",
        most.0,
        most.1
    );
}
