//! `label_replace` and `label_join`: new labels, the same values.

use std::collections::HashMap;
use std::sync::Arc;

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::{Labels, matcher};
use regex_automata::meta::Regex;
use regex_automata::util::interpolate;

use crate::answer::QueryError;
use crate::assemble::same_labels;
use crate::column::{Batch, Names, Rows};
use crate::evaluate::{Inputs, Output, Run};
use crate::plan::Kind;
use crate::quote::{is_text, lenient};

/// No label value may become longer: nested calls could double it at each level.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// The interrupt is asked after so many new sets of labels.
const INTERRUPT_EVERY: usize = 4096;

/// New labels of rows, made from the old ones alone.
pub(crate) struct Relabelled {
    rows: Arc<Rows>,
    /// Rows that were given a metric name, which therefore stays.
    named: Vec<bool>,
    /// Whether two rows came to have the same labels.
    has_twins: bool,
}

/// Gives rows new labels, as `kind` says.
pub(crate) fn relabel(run: &mut Run<'_>, kind: &Kind, inputs: &mut Inputs) -> Result<Output, QueryError> {
    let batch = inputs.take_batch(0);
    let relabelled = match batch.rows.id() {
        None => Arc::new(build(run, kind, &batch.rows)?),
        Some(id) => {
            let key = (id, kind.clone());
            let known = run.tables.relabelled.get(&key);
            match known.filter(|known| known.rows.len() == batch.rows.len()) {
                Some(known) => known,
                None => {
                    let built = Arc::new(build(run, kind, &batch.rows)?);
                    run.tables
                        .relabelled
                        .put(key, Arc::clone(&built), built.rows.bytes() + built.rows.len());
                    built
                }
            }
        }
    };
    let flags = |row: usize| batch.names.is_dropped(row) && !relabelled.named[row];
    let names = Names::from_flags((0..batch.rows.len()).map(flags).collect());
    let changed = Batch {
        rows: Arc::clone(&relabelled.rows),
        names,
        ..batch
    };
    if relabelled.has_twins {
        check_twins(&changed)?;
    }
    Ok(Output::vector(changed))
}

/// Refuses rows of the same labels that have values at the same step.
fn check_twins(batch: &Batch) -> Result<(), QueryError> {
    let mut rows_of: HashMap<&Labels, Vec<usize>> = HashMap::new();
    for (row, labels) in batch.rows.labels().iter().enumerate() {
        rows_of.entry(labels).or_default().push(row);
    }
    for rows in rows_of.values().filter(|rows| rows.len() > 1) {
        for step in 0..batch.steps {
            if rows
                .iter()
                .filter(|row| batch.is_present(**row * batch.steps + step))
                .count()
                > 1
            {
                return Err(same_labels());
            }
        }
    }
    Ok(())
}

fn with(labels: &Labels, name: &str, value: &str) -> Result<Labels, QueryError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(QueryError::Data(format!(
            "value of label {name:?} would have more than {VALUE_BYTES_MAX} bytes"
        )));
    }
    Ok(labels.with(name, &lenient(value)))
}

/// Any text may be a label's name, but for the empty one and what was written as no UTF-8.
pub(crate) fn is_label(name: &str) -> bool {
    !name.is_empty() && is_text(name)
}

fn check_label(which: &str, name: &str, function: &str) -> Result<(), QueryError> {
    match is_label(name) {
        true => Ok(()),
        false => Err(QueryError::Data(format!(
            "invalid {which} label name in {function}(): {}",
            lenient(name)
        ))),
    }
}

fn build(run: &Run<'_>, kind: &Kind, rows: &Rows) -> Result<Relabelled, QueryError> {
    let (mut bytes, mut made) = (0, 0usize);
    // Ends what would take too much memory or time while it is made.
    let mut counted = |(labels, named): (Labels, bool)| -> Result<(Labels, bool), QueryError> {
        bytes += labels.bytes_held() as u64;
        run.check_bytes(bytes)?;
        made += 1;
        if made.is_multiple_of(INTERRUPT_EVERY) {
            run.check_interrupt()?;
        }
        Ok((labels, named))
    };
    let relabelled: Vec<(Labels, bool)> = match kind {
        Kind::LabelReplace {
            target,
            replacement,
            source,
            pattern,
        } => {
            let regex = matcher::anchored(pattern).map_err(|reason| {
                QueryError::Data(format!(
                    "invalid regular expression in label_replace(): {pattern}: {reason}"
                ))
            })?;
            check_label("destination", target, "label_replace")?;
            let replace = |labels: &Labels| -> Result<(Labels, bool), QueryError> {
                let value = labels.get(source).unwrap_or("");
                match expand(&regex, value, replacement) {
                    Some(new) => Ok((with(labels, target, &new)?, &**target == METRIC_NAME)),
                    None => Ok((labels.clone(), false)),
                }
            };
            let rows = rows.labels().iter();
            rows.map(|labels| counted(replace(labels)?))
                .collect::<Result<_, _>>()?
        }
        Kind::LabelJoin {
            target,
            separator,
            sources,
        } => {
            for source in sources.iter() {
                check_label("source", source, "label_join")?;
            }
            check_label("destination", target, "label_join")?;
            let join = |labels: &Labels| -> Result<(Labels, bool), QueryError> {
                let parts = sources.iter().map(|name| labels.get(name).unwrap_or(""));
                let new = with(labels, target, &join_parts(parts, separator))?;
                Ok((new, &**target == METRIC_NAME))
            };
            let rows = rows.labels().iter();
            rows.map(|labels| counted(join(labels)?))
                .collect::<Result<_, _>>()?
        }
        _ => unreachable!("only label_replace and label_join give rows new labels"),
    };
    let mut sorted: Vec<&Labels> = relabelled.iter().map(|(labels, _)| labels).collect();
    sorted.sort_unstable();
    let has_twins = sorted.windows(2).any(|pair| pair[0] == pair[1]);
    let named = relabelled.iter().map(|(_, named)| *named).collect();
    let rows = Rows::lasting(relabelled.into_iter().map(|(labels, _)| labels).collect());
    Ok(Relabelled {
        rows: Arc::new(rows),
        named,
        has_twins,
    })
}

/// Replaces `$1`, `${1}`, `$name` and `${name}` by what the pattern caught; `None` when it does not match.
///
/// Source: Go's `regexp.Expand`: `$name` takes the longest run of letters, digits and underscores, an
/// unknown name is empty, `$$` is a dollar. Nothing is caught any more once the text is too long to be a value.
fn expand(regex: &Regex, value: &str, replacement: &str) -> Option<String> {
    let mut captures = regex.create_captures();
    regex.captures(value, &mut captures);
    if !captures.is_match() {
        return None;
    }
    let mut text = String::new();
    interpolate::string(
        replacement,
        |group, text: &mut String| {
            if text.len() <= VALUE_BYTES_MAX
                && let Some(span) = captures.get_group(group)
            {
                text.push_str(&value[span]);
            }
        },
        |name| captures.group_info().to_index(captures.pattern()?, name),
        &mut text,
    );
    Some(text)
}

/// Joins parts, as far as the text is not too long to be a value.
fn join_parts<'a>(parts: impl Iterator<Item = &'a str>, separator: &str) -> String {
    let mut text = String::new();
    for (position, part) in parts.enumerate() {
        if text.len() > VALUE_BYTES_MAX {
            break;
        }
        if position > 0 {
            text.push_str(separator);
        }
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_made_much_longer_than_may_be() {
        let value = "x".repeat(VALUE_BYTES_MAX);
        let regex = matcher::anchored("(?P<all>.*)").expect("a pattern");
        for replacement in ["$1", "${all}-"] {
            let made = expand(&regex, &value, &replacement.repeat(500)).expect("a match");
            let length = made.len();
            assert!(
                VALUE_BYTES_MAX < length && length < 3 * VALUE_BYTES_MAX,
                "{length}"
            );
        }
        let length = join_parts(std::iter::repeat_n(&*value, 500), "-").len();
        assert!(
            VALUE_BYTES_MAX < length && length < 3 * VALUE_BYTES_MAX,
            "{length}"
        );
        assert_eq!(join_parts(["a", "", "b"].into_iter(), "--"), "a----b");
        assert_eq!(expand(&regex, "v", "$1$all${none}$$").as_deref(), Some("vv$"));
    }
}
