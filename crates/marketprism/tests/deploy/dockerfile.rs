//! A Dockerfile, read into stages and steps.
//!
//! Only what Docker 20.10's classic builder understands is known here, and of that only what our file uses; anything
//! else fails the test, so that nothing is passed over.
//! Source: "Dockerfile reference".

use std::collections::BTreeMap;

/// One step of a stage.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// `WORKDIR`.
    Workdir(String),
    /// `COPY`, from the context or from another stage.
    Copy {
        /// The stage; `None` is the context.
        from: Option<String>,
        /// What is copied.
        source: String,
        /// Where to.
        target: String,
    },
    /// `RUN` in the shell.
    Run(String),
    /// `ARG` with its default.
    Argument(String, String),
    /// `LABEL`.
    Label(String),
    /// `USER`.
    User(String),
    /// `EXPOSE`.
    Expose(u16),
    /// `HEALTHCHECK … CMD […]`: options, then the command.
    Health(BTreeMap<String, String>, Vec<String>),
    /// `ENTRYPOINT […]`.
    Entrypoint(Vec<String>),
    /// `CMD […]`.
    Command(Vec<String>),
}

/// A stage: what it begins with, and what is done then.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The image.
    pub base: String,
    /// The name after `AS`.
    pub name: Option<String>,
    /// What is done.
    pub steps: Vec<Step>,
}

/// Reads a Dockerfile; fails the test at what it does not know.
pub fn parse(text: &str) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for instruction in instructions(text) {
        let (word, rest) = instruction
            .split_once(' ')
            .expect("every instruction has an argument");
        let rest = rest.trim();
        if word == "FROM" {
            let (base, name) = match rest.split_once(" AS ") {
                Some((base, name)) => (base, Some(name.to_owned())),
                None => (rest, None),
            };
            stages.push(Stage {
                base: base.to_owned(),
                name,
                steps: Vec::new(),
            });
        } else {
            let stage = stages.last_mut().expect("FROM comes first");
            stage.steps.push(step(word, rest));
        }
    }
    stages
}

/// Joins continued lines; comment lines in between do not count.
fn instructions(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        match line.strip_suffix('\\') {
            Some(start) => open += start,
            None if open.is_empty() && line.trim().is_empty() => {}
            None => found.push(std::mem::take(&mut open) + line),
        }
    }
    assert!(open.is_empty(), "the last line is continued: {open}");
    found
}

fn step(word: &str, rest: &str) -> Step {
    let known = |is_known: bool| assert!(is_known, "this Dockerfile reader does not know {word} {rest}");
    match word {
        "WORKDIR" => Step::Workdir(rest.to_owned()),
        "RUN" => {
            known(!rest.starts_with("--") && !rest.starts_with('[') && !rest.contains("<<"));
            Step::Run(rest.to_owned())
        }
        "COPY" => {
            let copied = copy(rest);
            known(copied.is_some());
            copied.expect("known above")
        }
        "ARG" => {
            let (name, default) = rest.split_once('=').unwrap_or((rest, ""));
            Step::Argument(name.to_owned(), default.to_owned())
        }
        "LABEL" => Step::Label(rest.to_owned()),
        "USER" => Step::User(rest.to_owned()),
        "EXPOSE" => Step::Expose(rest.parse().expect("a port")),
        "HEALTHCHECK" => {
            let (options, command) = rest.split_once("CMD ").unwrap_or_default();
            known(!command.is_empty());
            let options = options.split_whitespace().map(|option| {
                let option = option
                    .strip_prefix("--")
                    .and_then(|option| option.split_once('='));
                known(option.is_some());
                let (name, value) = option.expect("known above");
                (name.to_owned(), value.to_owned())
            });
            Step::Health(options.collect(), exec_form(command))
        }
        "ENTRYPOINT" => Step::Entrypoint(exec_form(rest)),
        "CMD" => Step::Command(exec_form(rest)),
        _ => {
            known(false);
            unreachable!("refused above")
        }
    }
}

fn copy(rest: &str) -> Option<Step> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (from, words) = match words.first()?.strip_prefix("--from=") {
        Some(stage) => (Some(stage.to_owned()), &words[1..]),
        None => (None, &words[..]),
    };
    match words {
        [source, target] if !source.starts_with("--") => Some(Step::Copy {
            from,
            source: (*source).to_owned(),
            target: (*target).to_owned(),
        }),
        _ => None,
    }
}

fn exec_form(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: not the exec form: {error}"))
}

#[test]
fn steps_are_read_with_continued_lines_and_comments_between() {
    let stages =
        parse("# a\nFROM x:1 AS a\n\nRUN one \\\n# b\n && two\nFROM y\nCOPY --from=a /f g\nCMD [\"z\"]\n");
    assert_eq!(stages.len(), 2);
    assert_eq!(
        (stages[0].base.as_str(), stages[0].name.as_deref()),
        ("x:1", Some("a"))
    );
    assert_eq!(stages[0].steps, [Step::Run("one  && two".to_owned())]);
    let copied = Step::Copy {
        from: Some("a".to_owned()),
        source: "/f".to_owned(),
        target: "g".to_owned(),
    };
    assert_eq!(stages[1].steps, [copied, Step::Command(vec!["z".to_owned()])]);
}

#[test]
#[should_panic(expected = "does not know")]
fn what_only_newer_builders_know_is_refused() {
    parse("FROM x\nRUN --mount=type=cache,target=/c make\n");
}
