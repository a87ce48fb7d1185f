//! The lines of a script, as commands.

use marketprism_model::duration;
use marketprism_promql::notation::parse_series;

use super::expect::Expected;
use super::load::Load;

/// One command of a script.
pub enum Command {
    Clear,
    Load(Load),
    Eval(Eval),
}

/// A query, when it is asked, and what it must give.
pub struct Eval {
    pub line: usize,
    pub query: String,
    pub when: When,
    pub expected: Expected,
}

/// When a query is asked; milliseconds.
#[derive(Clone, Copy, Debug)]
pub enum When {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

impl When {
    /// The first moment.
    pub fn first(self) -> i64 {
        match self {
            When::Instant(at) => at,
            When::Range { start, .. } => start,
        }
    }
}

/// Reads a script; `Err` says which line is none of the language.
pub fn commands(script: &str) -> Result<Vec<Command>, String> {
    let lines: Vec<&str> = script.lines().map(str::trim).collect();
    let lines: Vec<&str> = lines
        .into_iter()
        .map(|line| if line.starts_with('#') { "" } else { line })
        .collect();
    let (mut commands, mut at) = (Vec::new(), 0);
    while at < lines.len() {
        let line = lines[at];
        let block: Vec<&str> = lines[at + 1..]
            .iter()
            .copied()
            .take_while(|line| !line.is_empty() && !is_command(line))
            .collect();
        let fail = |why: String| format!("line {}: {line:?}: {why}", at + 1);
        let word = line.split_whitespace().next().unwrap_or("");
        let taken = match word.to_ascii_lowercase().as_str() {
            "" => 0,
            "clear" => {
                commands.push(Command::Clear);
                0
            }
            "load" | "load_with_nhcb" => {
                let load = Load::read(word.ends_with("nhcb"), line[word.len()..].trim(), &block);
                commands.push(Command::Load(load.map_err(fail)?));
                block.len()
            }
            word if word.starts_with("eval") => {
                commands.push(Command::Eval(eval(at + 1, word, line, &block).map_err(fail)?));
                block.len()
            }
            _ => return Err(fail("is no command".to_owned())),
        };
        at += 1 + taken;
    }
    Ok(commands)
}

/// Prometheus wants an empty line between commands; a block that a command ends is read all the same.
fn is_command(line: &str) -> bool {
    line == "clear"
        || ["load ", "load_with_nhcb ", "eval "]
            .iter()
            .any(|start| line.starts_with(start))
}

fn eval(number: usize, word: &str, line: &str, block: &[&str]) -> Result<Eval, String> {
    let (kind, rest) = next(line[word.len()..].trim());
    let (when, query) = match kind {
        "instant" => {
            let (at, rest) = named("at", rest)?;
            (When::Instant(millis(at)?), rest)
        }
        "range" => {
            let (start, rest) = named("from", rest)?;
            let (end, rest) = named("to", rest)?;
            let (step, rest) = named("step", rest)?;
            let (start, end, step) = (millis(start)?, millis(end)?, millis(step)?);
            if end < start {
                return Err("the range ends before it starts".to_owned());
            }
            (When::Range { start, end, step }, rest)
        }
        _ => return Err("eval is instant or range".to_owned()),
    };
    if query.is_empty() {
        return Err("there is no query".to_owned());
    }
    let mut expected = Expected::read(block, matches!(when, When::Instant(_)))?;
    match word.strip_prefix("eval_") {
        None if word == "eval" => {}
        Some(kind @ ("fail" | "warn" | "info" | "ordered")) => expected.demand(kind)?,
        _ => return Err("there is no such eval".to_owned()),
    }
    Ok(Eval {
        line: number,
        query: query.to_owned(),
        when,
        expected,
    })
}

/// The first word and the rest.
pub fn next(text: &str) -> (&str, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// The word behind a word that must stand first.
pub fn named<'a>(name: &str, text: &'a str) -> Result<(&'a str, &'a str), String> {
    match next(text) {
        (word, rest) if word == name => Ok(next(rest)),
        (other, _) => Err(format!("expected {name:?}, found {other:?}")),
    }
}

/// A duration in milliseconds.
pub fn millis(text: &str) -> Result<i64, String> {
    let duration = duration::parse(text).map_err(|error| error.to_string())?;
    Ok(duration.as_millis() as i64)
}

/// A series line, with what is wrong with it.
pub fn series(line: &str) -> Result<marketprism_promql::notation::NotedSeries, String> {
    parse_series(line).map_err(|error| format!("{line:?}: {error}"))
}
