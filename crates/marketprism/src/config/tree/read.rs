//! How a text becomes a tree: the parser's events put together, list by list and map by map.
//!
//! Aliases and merge keys are written out here, within one limit for the whole tree. What is broken is a fault, and
//! reading goes on behind it, so that all of a file is judged at once.

use std::collections::HashMap;

use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, ScanError};

use super::super::fault::Fault;
use super::super::fill;
use super::{NODES_MAX, Node, Pair, Place, Scalar, Value};

/// Lists and maps within each other.
const DEPTH_MAX: usize = 64;
/// Broken sections after which reading is not taken up again.
const RESTARTS_MAX: usize = 10;

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
        let reason = fill::unmasked(&error.info());
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
            frame.key = Some((fill::unmasked(&scalar.text), node.at));
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
