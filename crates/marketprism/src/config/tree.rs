//! YAML as a tree in which every key and value knows its place.
//!
//! The tree stands between the text and the rooms' structures so that everything that is said about a file can
//! name line, column and path, so that a faulty entry can be taken out and the rest be judged too, and so that
//! variables are filled into values and never into structure.
//! Aliases and merge keys are written out here, within one limit for the whole tree.
//! Deliberately absent: what any key means.

use std::collections::HashMap;
use std::fmt::Write as _;

use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, ScanError};

use super::fault::Fault;

/// Values and keys together, aliases written out.
pub const NODES_MAX: usize = 1_000_000;
/// Lists and maps within each other.
const DEPTH_MAX: usize = 64;
/// Broken sections after which reading is not taken up again.
const RESTARTS_MAX: usize = 10;

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

/// A text that has been read as far as it could be.
pub struct Read {
    /// The keys; a map, however broken the text is.
    pub root: Node,
    /// What is wrong with it as YAML.
    pub faults: Vec<Fault>,
}

/// Reads a text. After a broken section reading is taken up again at the next key of the outermost map.
pub fn read(text: &str) -> Read {
    let mut root = Frame::new(
        Place {
            file: 0,
            line: 1,
            column: 1,
        },
        true,
        0,
    );
    let mut faults = Vec::new();
    let mut budget = NODES_MAX;
    let (mut rest, mut lines_before) = (text.strip_prefix('\u{feff}').unwrap_or(text), 0);
    for _ in 0..=RESTARTS_MAX {
        let mut builder = Builder {
            root,
            stack: Vec::new(),
            anchors: HashMap::new(),
            faults,
            budget,
            lines_before,
            key_line: lines_before + 1,
            is_document_over: false,
        };
        let outcome = builder.run(rest);
        (root, faults, budget) = (builder.root, builder.faults, builder.budget);
        let Err(fault) = outcome else { break };
        let is_final = fault.is_final;
        faults.push(fault);
        if is_final {
            break;
        }
        let Some((skipped, at)) = next_key(rest, builder.key_line.saturating_sub(lines_before)) else {
            break;
        };
        (rest, lines_before) = (&rest[at..], lines_before + skipped);
    }
    Read {
        root: root.finish(),
        faults,
    }
}

/// Finds the first line behind the first `lines` that begins with a key of the outermost map: its number of lines
/// before and its position.
fn next_key(text: &str, lines: usize) -> Option<(usize, usize)> {
    let mut position = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let is_word = line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '"');
        let key = line.split(':').next().unwrap_or("");
        let is_key = key.len() < line.trim_end().len()
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-\"".contains(&b));
        if number >= lines.max(1) && is_word && is_key {
            return Some((number, position));
        }
        position += line.len();
    }
    None
}

/// A list or map that is not complete yet.
struct Frame {
    at: Place,
    anchor: usize,
    is_map: bool,
    items: Vec<Option<Node>>,
    pairs: Vec<Pair>,
    /// Where each key stands, for keys that stand there twice.
    known: HashMap<String, Place>,
    key: Option<(String, Place)>,
    merged: Vec<Node>,
}

impl Frame {
    fn new(at: Place, is_map: bool, anchor: usize) -> Self {
        Frame {
            at,
            anchor,
            is_map,
            items: Vec::new(),
            pairs: Vec::new(),
            known: HashMap::new(),
            key: None,
            merged: Vec::new(),
        }
    }

    /// What is merged in gives way to what stands there.
    fn finish(mut self) -> Node {
        for source in std::mem::take(&mut self.merged) {
            if let Value::Map(pairs) = source.value {
                for pair in pairs {
                    if self.known.insert(pair.key.clone(), pair.at).is_none() {
                        self.pairs.push(pair);
                    }
                }
            }
        }
        Node {
            at: self.at,
            value: if self.is_map {
                Value::Map(self.pairs)
            } else {
                Value::List(self.items)
            },
        }
    }
}

/// Builds the tree from the parser's events.
struct Builder {
    /// The outermost map; sections of several attempts come together here.
    root: Frame,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    faults: Vec<Fault>,
    budget: usize,
    lines_before: usize,
    /// The line of the last key of the outermost map.
    key_line: usize,
    is_document_over: bool,
}

impl Builder {
    fn place(&self, marker: Marker) -> Place {
        Place {
            file: 0,
            line: marker.line() + self.lines_before,
            column: marker.col() + 1,
        }
    }

    fn run(&mut self, text: &str) -> Result<(), Fault> {
        let mut options = Options::default();
        options.set_emit_comments(false);
        options.flow_nesting_limit = DEPTH_MAX;
        options.block_nesting_limit = DEPTH_MAX;
        let mut parser = Parser::new_from_str_with_options(text, options);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.scan_fault(&error))?;
            let at = self.place(span.start);
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(..) if self.is_document_over => {
                    return Err(Fault::final_at(
                        at,
                        "a second document begins here; a configuration is one document",
                    ));
                }
                Event::DocumentEnd => self.is_document_over = true,
                Event::Scalar(text, style, anchor, tag) => {
                    let is_text = tag.is_some_and(|tag| tag.suffix().ends_with("str"));
                    let scalar = Scalar {
                        text: text.into_owned(),
                        is_plain: style == ScalarStyle::Plain && !is_text,
                        is_filled: false,
                    };
                    let node = Node {
                        at,
                        value: Value::Scalar(scalar),
                    };
                    self.take(node, anchor)?;
                }
                Event::MappingStart(_, anchor, _) => self.open(at, true, anchor)?,
                Event::SequenceStart(_, anchor, _) => self.open(at, false, anchor)?,
                Event::MappingEnd | Event::SequenceEnd => self.close()?,
                Event::Alias(anchor) => {
                    let Some(node) = self.anchors.get(&anchor) else {
                        return Err(Fault::at(at, "an alias stands inside of its own anchor"));
                    };
                    let node = node.clone();
                    self.spend(size(&node), at)?;
                    self.take(node, 0)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn scan_fault(&self, error: &ScanError) -> Fault {
        let reason = super::fill::unmasked(&error.info());
        Fault::at(self.place(*error.marker()), format!("is no YAML: {reason}"))
    }

    fn spend(&mut self, nodes: usize, at: Place) -> Result<(), Fault> {
        match self.budget.checked_sub(nodes) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err(Fault::final_at(
                at,
                format!("more than {NODES_MAX} values, aliases written out"),
            )),
        }
    }

    fn open(&mut self, at: Place, is_map: bool, anchor: usize) -> Result<(), Fault> {
        self.spend(1, at)?;
        // The outermost map is the root itself.
        if self.stack.is_empty() && !is_map {
            return Err(Fault::final_at(at, "a list stands where keys are expected"));
        }
        if self.stack.len() >= DEPTH_MAX {
            return Err(Fault::at(at, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.stack.push(Frame::new(at, is_map, anchor));
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(frame) = self.stack.pop() else {
            return Ok(());
        };
        let anchor = frame.anchor;
        if self.stack.is_empty() {
            // Its pairs went into the root as they came; what is left is what was merged in.
            self.root.merged.extend(frame.merged);
            return Ok(());
        }
        let at = frame.at;
        let node = frame.finish();
        let _ = at;
        self.put(node, anchor)
    }

    /// Takes a scalar or an alias, which may be a key.
    fn take(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        self.spend(1, node.at)?;
        if self.stack.is_empty() {
            if node.is_null() {
                return Ok(());
            }
            return Err(Fault::at(
                node.at,
                "a single value stands where keys are expected",
            ));
        }
        self.put(node, anchor)
    }

    /// Puts a complete value into the list or map around it.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor > 0 {
            self.spend(size(&node), node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        let is_outermost = self.stack.len() == 1;
        let frame = self
            .stack
            .last_mut()
            .expect("a value inside of the outermost map");
        if !frame.is_map {
            frame.items.push(Some(node));
            return Ok(());
        }
        let Some((key, at)) = frame.key.take() else {
            let Value::Scalar(scalar) = node.value else {
                return Err(Fault::at(node.at, "a list or a map cannot be a key"));
            };
            if is_outermost {
                self.key_line = self.key_line.max(node.at.line);
            }
            frame.key = Some((super::fill::unmasked(&scalar.text), node.at));
            return Ok(());
        };
        if key == "<<" {
            return merge(node, frame);
        }
        let frame = if is_outermost { &mut self.root } else { frame };
        match frame.known.get(&key) {
            Some(first) => {
                let reason = format!("{key:?} stands there already, at line {}", first.line);
                self.faults.push(Fault::at(at, reason));
            }
            None => {
                frame.known.insert(key.clone(), at);
                frame.pairs.push(Pair { key, at, value: node });
            }
        }
        Ok(())
    }
}

fn merge(node: Node, frame: &mut Frame) -> Result<(), Fault> {
    let at = node.at;
    match node.value {
        Value::Map(_) => frame.merged.push(node),
        Value::List(items) => {
            for item in items.into_iter().flatten() {
                if !matches!(item.value, Value::Map(_)) {
                    return Err(Fault::at(item.at, "only maps can be merged with <<"));
                }
                frame.merged.push(item);
            }
        }
        Value::Scalar(_) => return Err(Fault::at(at, "only maps can be merged with <<")),
    }
    Ok(())
}

/// Counts the values inside, itself included.
fn size(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) => 1,
        Value::List(items) => 1 + items.iter().flatten().map(size).sum::<usize>(),
        Value::Map(pairs) => 1 + pairs.iter().map(|pair| size(&pair.value)).sum::<usize>(),
    }
}
