//! `notification_manager.alertmanager_config`: an `alertmanager.yml` beside the configuration, as it is.
//!
//! Its sections take their place below `notification_manager` before anything is read, so that they are judged by the
//! same rules as if they stood there, and every fault of them names that file and its line. Paths in it start from its
//! own folder. Nothing is taken twice: what stands in both files is a fault.

use std::path::PathBuf;

use super::fault::{Fault, Included};
use super::fill::{self, Filling};
use super::tree::{self, Node, Pair, Place, Step, Value};
use super::{Source, paths, words};

const SECTION: &str = "notification_manager";
const KEY: &str = "alertmanager_config";

/// The sections of such a file.
const SECTIONS: [&str; 9] = [
    "global",
    "route",
    "receivers",
    "inhibit_rules",
    "time_intervals",
    "mute_time_intervals",
    "templates",
    "tracing",
    "event_recorder",
];

/// What was included.
#[derive(Default)]
pub struct Inclusion {
    /// The files, as places count them.
    pub names: Vec<Included>,
    /// The files with what was read in them.
    pub texts: Vec<(PathBuf, String)>,
    /// Files to look at for changes.
    pub files: Vec<PathBuf>,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Values that cannot be filled in, to be taken out.
    pub unfilled: Vec<Fault>,
}

/// Puts the sections of the file that is named, if one is, below `notification_manager`.
pub fn include(root: &mut Node, source: &Source<'_>) -> Inclusion {
    let mut inclusion = Inclusion::default();
    let Some(manager) = root.get(SECTION).map(|pair| &pair.value) else {
        return inclusion;
    };
    let Some(pair) = manager.get(KEY).filter(|pair| !pair.value.is_null()) else {
        return inclusion;
    };
    let Some(named) = pair.value.as_text().filter(|text| !text.is_empty()) else {
        // The reader says that it is no text.
        return inclusion;
    };
    let at = pair.value.at;
    let path = source.folder.join(named);
    let shown = path.display().to_string();
    inclusion.files.push(path.clone());
    let text = match (source.read_text)(&path) {
        Ok(text) => text,
        Err(reason) => {
            let key = format!("{SECTION}.{KEY}");
            inclusion
                .faults
                .push(Fault::of_key(at, key, format!("{shown}: {reason}")));
            // What the section says beside it speaks of receivers that are not known now.
            root.remove(&[Step::Key(SECTION.to_owned())]);
            return inclusion;
        }
    };
    inclusion.names.push(Included {
        name: shown,
        section: SECTION,
    });
    let file = inclusion.names.len();
    let tree::Read {
        root: mut theirs,
        faults,
    } = tree::read(&fill::masked(&text));
    theirs.set_file(file);
    inclusion.faults.extend(faults.into_iter().map(|mut fault| {
        fault.at = fault.at.map(|at| Place { file, ..at });
        fault
    }));
    if theirs.get("route").is_none() {
        let place = Place {
            file,
            line: 1,
            column: 1,
        };
        let fault = Fault::of_key(place, format!("{SECTION}.route"), "is missing");
        inclusion.faults.push(fault);
    }
    let is_named = theirs
        .get("receivers")
        .is_some_and(|pair| match &pair.value.value {
            Value::List(items) => !items.is_empty(),
            // What is no list is told by whoever reads it.
            _ => !pair.value.is_null(),
        });
    if let Some(route) = theirs.get("route").filter(|_| !is_named) {
        // Here that would mean one receiver of all channels; in that file it is an oversight.
        let fault = Fault::of_key(route.at, format!("{SECTION}.receivers"), "is missing");
        inclusion.faults.push(fault);
    }
    let mut ours = wrapped(theirs);
    let folder = path.parent().unwrap_or(source.folder);
    let mut filling = Filling {
        variable: source.variable,
        read_secret: source.read_secret,
        folder,
        faults: Vec::new(),
        files: Vec::new(),
    };
    filling.fill(&mut ours);
    inclusion.unfilled.append(&mut filling.faults);
    inclusion.files.append(&mut filling.files);
    paths::resolve(&mut ours, folder);
    graft(root, ours, &mut inclusion.faults);
    inclusion.texts.push((path, text));
    inclusion
}

/// Puts a tree below the section that it is a part of.
fn wrapped(theirs: Node) -> Node {
    let at = theirs.at;
    Node {
        at,
        value: Value::Map(vec![Pair {
            key: SECTION.to_owned(),
            at,
            value: theirs,
        }]),
    }
}

/// Moves the sections over; what is none, and what stands there already, is a fault.
fn graft(root: &mut Node, ours: Node, faults: &mut Vec<Fault>) {
    let (Value::Map(outer), Value::Map(sections)) = (ours.value, &mut root.value) else {
        return;
    };
    let Some(manager) = sections.iter_mut().find(|pair| pair.key == SECTION) else {
        return;
    };
    let Value::Map(known) = &mut manager.value.value else {
        return;
    };
    let theirs = outer.into_iter().flat_map(|pair| match pair.value.value {
        Value::Map(pairs) => pairs,
        _ => Vec::new(),
    });
    for pair in theirs {
        let path = format!("{SECTION}.{}", pair.key);
        if !SECTIONS.contains(&pair.key.as_str()) {
            let hint = words::hint_of_key(&pair.key, &SECTIONS);
            faults.push(Fault::of_key(pair.at, path, format!("unknown key{hint}")));
        } else if let Some(already) = known.iter_mut().find(|known| known.key == pair.key) {
            let line = pair.at.line;
            let reason = format!("stands in the file of {KEY} too, at line {line}; keep one of them");
            faults.push(Fault::of_key(already.at, path, reason));
            // The rest is judged by one of them, and not found wanting for the lack of both.
            *already = pair;
        } else {
            known.push(pair);
        }
    }
}
