//! YAML as a tree in which every key and value knows its place.
//!
//! The tree stands between the text and the rooms' structures so that everything that is said about a file can
//! name line, column and path, so that a faulty entry can be taken out and the rest be judged too, and so that
//! variables are filled into values and never into structure.
//! Deliberately absent: how the text is read (`read`), and what any key means.

mod read;

use std::fmt::Write as _;

pub use read::{Read, read};

/// Values and keys together, aliases written out.
pub const NODES_MAX: usize = 1_000_000;

/// Where something stands; line and column count from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Place {
    /// The file: 0 is the one that is read, others are those that it includes.
    pub file: usize,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub at: Place,
    /// What it is.
    pub value: Value,
}

/// What stands at a place.
#[derive(Clone, Debug)]
pub enum Value {
    /// A text, a number, a truth, nothing.
    Scalar(Scalar),
    /// A list. An item that was taken out leaves its place empty, so that the others keep their numbers.
    List(Vec<Option<Node>>),
    /// Keys and values, in the order of the file.
    Map(Vec<Pair>),
}

/// A single value as it was written.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// Its text, quotes and escapes undone.
    pub text: String,
    /// Whether it stood there without quotes, so that `5` is a number and `null` nothing.
    pub is_plain: bool,
    /// Whether a part came from a variable or a file; such a text is never shown.
    pub is_filled: bool,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub at: Place,
    /// The value.
    pub value: Node,
}

/// One step from a value to a value inside.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Step {
    /// To the value of a key.
    Key(String),
    /// To an item, counted from 0.
    Item(usize),
}

impl Node {
    /// Makes a text that was not in the file.
    pub fn text(at: Place, text: String) -> Self {
        Node {
            at,
            value: Value::Scalar(Scalar {
                text,
                is_plain: false,
                is_filled: false,
            }),
        }
    }

    /// Makes a map without keys.
    pub fn empty(at: Place) -> Self {
        Node {
            at,
            value: Value::Map(Vec::new()),
        }
    }

    /// Gives the value of a key.
    pub fn get(&self, key: &str) -> Option<&Pair> {
        match &self.value {
            Value::Map(pairs) => pairs.iter().find(|pair| pair.key == key),
            _ => None,
        }
    }

    /// Gives the text of a scalar.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Says whether nothing stands there: `~`, `null`, or no character at all.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// Goes along `steps`, as far as they lead: the node, the place of its key, and how many steps were taken.
    pub fn follow(&self, steps: &[Step]) -> (&Node, Place, usize) {
        let (mut node, mut at) = (self, self.at);
        for (taken, step) in steps.iter().enumerate() {
            let next = match (step, &node.value) {
                (Step::Key(key), Value::Map(_)) => node.get(key).map(|pair| (&pair.value, pair.at)),
                (Step::Item(index), Value::List(items)) => items
                    .get(*index)
                    .and_then(Option::as_ref)
                    .map(|item| (item, item.at)),
                _ => None,
            };
            match next {
                Some(next) => (node, at) = next,
                None => return (node, at, taken),
            }
        }
        (node, at, steps.len())
    }

    /// Takes out the value to which `steps` lead, with its key; says whether it was there.
    pub fn remove(&mut self, steps: &[Step]) -> bool {
        let Some((step, rest)) = steps.split_first() else {
            return false;
        };
        match (step, &mut self.value) {
            (Step::Key(key), Value::Map(pairs)) => {
                let Some(index) = pairs.iter().position(|pair| pair.key == *key) else {
                    return false;
                };
                if rest.is_empty() {
                    pairs.remove(index);
                    return true;
                }
                pairs[index].value.remove(rest)
            }
            (Step::Item(index), Value::List(items)) => match items.get_mut(*index) {
                Some(item) if rest.is_empty() => item.take().is_some(),
                Some(Some(item)) => item.remove(rest),
                _ => false,
            },
            _ => false,
        }
    }

    /// Says of everything in it that it stands in another file.
    pub fn set_file(&mut self, file: usize) {
        self.at.file = file;
        match &mut self.value {
            Value::Scalar(_) => {}
            Value::List(items) => items.iter_mut().flatten().for_each(|item| item.set_file(file)),
            Value::Map(pairs) => {
                for pair in pairs {
                    pair.at.file = file;
                    pair.value.set_file(file);
                }
            }
        }
    }

    /// Finds the way along a path as people write it, as far as it leads. Items are `[0]`, or the item's `job_name`
    /// or `name`.
    pub fn resolve(&self, path: &str) -> Vec<Step> {
        self.resolve_with_rest(path).0
    }

    /// Finds the way along a whole path.
    pub fn resolve_whole(&self, path: &str) -> Option<Vec<Step>> {
        let (steps, rest) = self.resolve_with_rest(path);
        rest.is_empty().then_some(steps)
    }

    fn resolve_with_rest<'a>(&self, path: &'a str) -> (Vec<Step>, &'a str) {
        let mut steps = Vec::new();
        let (mut node, mut rest) = (self, path);
        while !rest.is_empty() {
            let found = match &node.value {
                Value::Map(pairs) => pairs
                    .iter()
                    .filter_map(|pair| {
                        Some((Step::Key(pair.key.clone()), &pair.value, after(rest, &pair.key)?))
                    })
                    .min_by_key(|(_, _, rest)| rest.len()),
                Value::List(items) => {
                    let items = items.iter().enumerate();
                    items
                        .filter_map(|(index, item)| {
                            let item = item.as_ref()?;
                            let rest =
                                after(rest, &format!("[{index}]")).or_else(|| after(rest, item.name()?))?;
                            Some((Step::Item(index), item, rest))
                        })
                        .min_by_key(|(_, _, rest)| rest.len())
                }
                Value::Scalar(_) => None,
            };
            let Some((step, next, remaining)) = found else {
                break;
            };
            steps.push(step);
            (node, rest) = (next, remaining);
        }
        (steps, rest)
    }

    /// Gives what an item of a list is called by people.
    fn name(&self) -> Option<&str> {
        ["job_name", "name"]
            .iter()
            .find_map(|key| self.get(key)?.value.as_text())
            .filter(|name| !name.is_empty())
    }

    /// Writes a way as people do: `scrape_configs.node.scheme`, `rule_files[2]`.
    pub fn written(&self, steps: &[Step]) -> String {
        let mut text = String::new();
        for (index, step) in steps.iter().enumerate() {
            match step {
                Step::Key(key) => {
                    let dot = if text.is_empty() { "" } else { "." };
                    let _ = write!(text, "{dot}{key}");
                }
                Step::Item(item) => {
                    let (node, _, taken) = self.follow(&steps[..=index]);
                    match node.name() {
                        Some(name) if taken == index + 1 => {
                            let _ = write!(text, ".{name}");
                        }
                        _ => {
                            let _ = write!(text, "[{item}]");
                        }
                    }
                }
            }
        }
        text
    }
}

/// Gives what follows `name` at the start of a path.
fn after<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(name)?;
    match rest.as_bytes().first() {
        None | Some(b'[') => Some(rest),
        Some(b'.') => Some(&rest[1..]),
        _ => None,
    }
}

impl Scalar {
    /// Says whether it means nothing at all.
    pub fn is_null(&self) -> bool {
        self.is_plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}
