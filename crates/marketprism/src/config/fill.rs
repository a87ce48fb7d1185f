//! What a file leaves to its surroundings: `${VAR}`, `${VAR:-default}`, and secrets in files of their own.
//!
//! Variables are filled into values after the YAML has been read, so that no value can change the structure of the
//! file and every fault keeps its line and column. For that the text is masked first: the characters of
//! `${VAR:-default}` become private ones that mean nothing to YAML, wherever it stands. Only names in capitals are
//! variables: `${1}` and `${name}` belong to relabelling and stay as they are.
//! `password_file: …` stands for `password: <what is in the file>`, so that the rooms know of no files.

use std::borrow::Cow;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::fault::Fault;
use super::tree::{Node, Pair, Scalar, Step, Value};

/// Keys whose value may stand in a file: `<key>_file`.
pub const SECRETS: [&str; 18] = [
    "username",
    "password",
    "webhook_url",
    "access_token",
    "secret",
    "url",
    "bearer_token",
    "jwt_secret",
    "database_url",
    // Of Alertmanager's receivers.
    "api_url",
    "app_token",
    "auth_password",
    "auth_secret",
    "credentials",
    "slack_api_url",
    "slack_app_token",
    "smtp_auth_password",
    "smtp_auth_secret",
];

/// Sections where `<secret>_file` is read here. Prometheus' sections read their files at every scrape.
const OWN_SECTIONS: [&str; 4] = ["notification_manager", "security", "storage", "server"];

/// Integrations of receivers that are delivered, and whose secrets are read therefore.
const DELIVERED: [&str; 3] = ["webhook_configs", "email_configs", "slack_configs"];

/// Variables that may be absent; the channel that needs one is then off, with a warning.
const OPTIONAL_VARIABLES: [&str; 2] = ["SLACK_WEBHOOK_URL", "DINGTALK_WEBHOOK_URL"];

/// A secret's file may have this many bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// The private characters that stand for ASCII while YAML is read.
const MASK: u32 = 0xf_0000;

/// Hides variables from YAML; lines and columns stay.
pub fn masked(text: &str) -> Cow<'_, str> {
    if !text.contains("${") {
        return Cow::Borrowed(text);
    }
    let mut output = String::with_capacity(text.len() + text.len() / 8);
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        output.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = variable(rest).map_or(0, |(_, _, length)| length);
        output.extend(rest[..length].chars().map(|c| match c.is_ascii() {
            true => char::from_u32(MASK + c as u32).unwrap_or(c),
            false => c,
        }));
        let kept = if length == 0 { 2 } else { 0 };
        output.push_str(&rest[length..length + kept]);
        rest = &rest[length + kept..];
    }
    output.push_str(rest);
    Cow::Owned(output)
}

/// Undoes [`masked`].
pub fn unmasked(text: &str) -> String {
    let unmask = |c: char| match (c as u32).checked_sub(MASK) {
        Some(code @ 0..0x80) => char::from_u32(code).unwrap_or(c),
        _ => c,
    };
    text.chars().map(unmask).collect()
}

/// Splits `${NAME}` or `${NAME:-default}` off the front: name, default, length in bytes.
pub(super) fn variable(text: &str) -> Option<(&str, Option<&str>, usize)> {
    let inner = text.strip_prefix("${")?;
    let end = inner.find(['}', '\n'])?;
    if inner.as_bytes()[end] != b'}' {
        return None;
    }
    let (name, default) = match inner[..end].split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (&inner[..end], None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    is_name.then_some((name, default, end + 3))
}

/// Reads a secret's file; the tests and the fuzzer bring their own.
pub type ReadSecret<'a> = &'a dyn Fn(&Path) -> Result<String, String>;

/// Fills in a whole tree.
pub struct Filling<'a> {
    /// Gives values of variables.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Gives what stands in a secret's file.
    pub read_secret: ReadSecret<'a>,
    /// Where relative paths start.
    pub folder: &'a Path,
    /// What cannot be filled in.
    pub faults: Vec<Fault>,
    /// The files that were named in our own sections.
    pub files: Vec<PathBuf>,
}

impl Filling<'_> {
    /// Fills in every value of the tree.
    pub fn fill(&mut self, root: &mut Node) {
        self.enter(root, &mut Vec::new(), false);
    }

    /// `is_off`: inside of a section that says `enabled: false`, where variables may be missing.
    fn enter(&mut self, node: &mut Node, path: &mut Vec<Step>, is_off: bool) {
        let at = node.at;
        match &mut node.value {
            Value::Scalar(scalar) => {
                if let Err(name) = self.fill_scalar(scalar, is_off) {
                    let reason = format!(
                        "environment variable {name} is not set; set it, or write ${{{name}:-default}}"
                    );
                    self.faults.push(Fault::of_key(at, written(path), reason));
                }
            }
            Value::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    if let Some(item) = item {
                        path.push(Step::Item(index));
                        self.enter(item, path, is_off);
                        path.pop();
                    }
                }
            }
            Value::Map(pairs) => {
                let switch = pairs.iter_mut().find(|pair| pair.key == "enabled");
                let is_off = is_off
                    || switch.is_some_and(|pair| {
                        if let Value::Scalar(scalar) = &mut pair.value.value {
                            // What is missing is told when the entry has its turn.
                            let _ = self.fill_scalar(scalar, true);
                        }
                        pair.value.as_text() == Some("false")
                    });
                for pair in pairs.iter_mut() {
                    path.push(Step::Key(pair.key.clone()));
                    self.enter(&mut pair.value, path, is_off);
                    path.pop();
                }
                if matches!(path.first(), Some(Step::Key(section)) if OWN_SECTIONS.contains(&section.as_str()))
                {
                    self.take_files(pairs, path, is_off);
                }
            }
        }
    }

    /// Gives the name of the variable that is missing.
    fn fill_scalar(&self, scalar: &mut Scalar, is_off: bool) -> Result<(), String> {
        let is_masked = |c: char| (MASK..MASK + 0x80).contains(&(c as u32));
        if !scalar.text.contains(is_masked) {
            return Ok(());
        }
        let text = unmasked(&scalar.text);
        let mut output = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = rest.find("${") {
            output.push_str(&rest[..at]);
            rest = &rest[at..];
            let Some((name, default, length)) = variable(rest) else {
                output.push_str("${");
                rest = &rest[2..];
                continue;
            };
            // As in the shell, a variable that is set to nothing takes the default too.
            let value = (self.variable)(name).filter(|value| default.is_none() || !value.is_empty());
            let value = value.or_else(|| default.map(str::to_owned));
            let may_be_missing = is_off || OPTIONAL_VARIABLES.contains(&name);
            match value {
                Some(value) => output.push_str(&value),
                None if may_be_missing => {}
                None => return Err(name.to_owned()),
            }
            rest = &rest[length..];
        }
        output.push_str(rest);
        scalar.text = output;
        scalar.is_filled = true;
        Ok(())
    }

    /// Puts what stands in files into the keys that the rooms know. Of integrations that nobody delivers nothing is read.
    fn take_files(&mut self, pairs: &mut [Pair], path: &[Step], is_off: bool) {
        let is_foreign = |step: &Step| match step {
            Step::Key(key) => key.ends_with("_configs") && !DELIVERED.contains(&key.as_str()),
            Step::Item(_) => false,
        };
        if path.iter().any(is_foreign) {
            return;
        }
        let given: Vec<String> = pairs.iter().map(|pair| pair.key.clone()).collect();
        for pair in pairs {
            let Some(base) = pair.key.strip_suffix("_file") else {
                continue;
            };
            let Some(file) = pair.value.as_text().filter(|file| !file.is_empty()) else {
                continue;
            };
            let file = self.folder.join(file);
            if !is_off {
                self.files.push(file.clone());
            }
            if !SECRETS.contains(&base) || is_off {
                continue;
            }
            let field = [written(path), pair.key.clone()].join(".");
            if given.iter().any(|key| key == base) {
                let reason = format!("give either {base} or {}, not both", pair.key);
                self.faults.push(Fault::of_key(pair.at, field, reason));
                continue;
            }
            match (self.read_secret)(&file) {
                Ok(text) => {
                    pair.key = base.to_owned();
                    pair.value.value = Value::Scalar(Scalar {
                        text,
                        is_plain: false,
                        is_filled: true,
                    });
                }
                Err(reason) => {
                    let reason = format!("{}: {reason}", file.display());
                    self.faults.push(Fault::of_key(pair.value.at, field, reason));
                }
            }
        }
    }
}

fn written(path: &[Step]) -> String {
    // Names of items are not known while they are changed; their numbers are.
    Node::empty(super::tree::Place::default()).written(path)
}

/// Reads a secret's file: a regular file within its limit; line ends at its end are cut.
pub fn read_secret(path: &Path) -> Result<String, String> {
    // A pipe would keep the program waiting for whoever writes into it.
    let kind = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !kind.is_file() {
        return Err("is no file".to_owned());
    }
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let outcome = file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text);
    outcome.map_err(|error| error.to_string())?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("is longer than the {SECRET_BYTES_MAX} bytes allowed"));
    }
    let length = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(length);
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree;

    fn fill(text: &str) -> (Node, Vec<String>) {
        let mut root = tree::read(&masked(text)).root;
        let mut filling = Filling {
            variable: &|name| match name {
                "USER" => Some("ops@example.com".to_owned()),
                "SECRET" => Some("a\"b\\c'd: #e\n- f".to_owned()),
                "EMPTY" => Some(String::new()),
                _ => None,
            },
            read_secret: &|path| match path.to_str() {
                Some("/c/pw") => Ok("hunter2".to_owned()),
                _ => Err("no such file".to_owned()),
            },
            folder: Path::new("/c"),
            faults: Vec::new(),
            files: Vec::new(),
        };
        filling.fill(&mut root);
        let faults = filling.faults.iter().map(ToString::to_string).collect();
        (root, faults)
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let (root, faults) = fill(text);
        assert_eq!(faults, [""; 0], "{text}");
        assert_eq!(
            root.get("a").and_then(|pair| pair.value.as_text()),
            Some(expected),
            "{text}"
        );
    }

    #[test]
    fn a_value_stands_whole_where_its_variable_stood_in_any_quotes() {
        let secret = "a\"b\\c'd: #e\n- f";
        check("a: ${USER}\n", "ops@example.com");
        check("a: \"${SECRET}\"", secret);
        check("a: '${SECRET}'", secret);
        check("a: ${SECRET} # why", secret);
        check("{a: ${SECRET}, b: 1}", secret);
        check("a: |\n  x ${SECRET}\nb: 1", &format!("x {secret}\n"));
        check("a: \"${NONE:-x y}\"", "x y");
        check("a: ${NONE:-x: [y]} z", "x: [y] z");
        check("a: ${EMPTY:-x}", "x");
        check("a: \"${SLACK_WEBHOOK_URL}\"", "");
        check("a: \"${EMPTY}\"", "");
    }

    #[test]
    fn relabelling_references_comments_and_lone_dollars_stay() {
        check("a: ${1}:9100", "${1}:9100");
        check("a: $1", "$1");
        check("a: '${name}'", "${name}");
        check("a: 1 # ${UNSET}", "1");
        check("a: $", "$");
        check("a: '${'", "${");
        check("a: '${ ${USER}'", "${ ops@example.com");
    }

    #[test]
    fn missing_variables_are_all_told_with_their_places_but_not_in_what_is_off() {
        let (_, faults) = fill("a: ${ONE}\nb: {c: it's, d: [\"${TWO}\"]}\n");
        let told = |name: &str| {
            format!("environment variable {name} is not set; set it, or write ${{{name}:-default}}")
        };
        assert_eq!(
            faults,
            [
                format!("1:4: a: {}", told("ONE")),
                format!("2:18: b.d[0]: {}", told("TWO"))
            ]
        );
        let (_, faults) = fill("email: {password: '${ONE}', enabled: false}\nb: {enabled: true, c: 1}\n");
        assert_eq!(faults, [""; 0]);
    }

    #[test]
    fn a_secret_stands_in_the_file_beside_the_configuration_and_only_there() {
        let (root, faults) = fill("notification_manager:\n  channels:\n    email: {password_file: pw}\n");
        assert_eq!(faults, [""; 0]);
        let steps = root.resolve("notification_manager.channels.email.password");
        assert_eq!(
            (steps.len(), root.follow(&steps).0.as_text()),
            (4, Some("hunter2"))
        );
        let check = |text: &str, words: &str| {
            let (_, faults) = fill(text);
            assert!(
                faults.len() == 1 && faults[0].contains(words),
                "{text}: {faults:?}"
            );
        };
        check(
            "security:\n  api_auth: {jwt_secret: x, jwt_secret_file: pw}\n",
            "2:29: security.api_auth.jwt_secret_file: give either jwt_secret or jwt_secret_file",
        );
        check(
            "security: {api_auth: {jwt_secret_file: gone}}\n",
            "security.api_auth.jwt_secret_file: /c/gone: no such file",
        );
    }

    #[test]
    fn a_secret_file_is_a_short_file_and_its_line_end_is_cut() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("secret");
        let check = |content: &str, expected: Result<&str, &str>| {
            std::fs::write(&path, content).expect("write the file");
            let read = read_secret(&path);
            match expected {
                Ok(secret) => assert_eq!(read.as_deref(), Ok(secret)),
                Err(words) => assert!(read.is_err_and(|reason| reason.contains(words))),
            }
        };
        check("hunter2\r\n", Ok("hunter2"));
        check(" hunter 2 \n\n", Ok(" hunter 2 "));
        check("\n", Err("is empty"));
        check(&"x".repeat(70_000), Err("longer than the 65536 bytes"));
        assert!(read_secret(folder.path()).is_err_and(|reason| reason.contains("is no file")));
        assert!(read_secret(Path::new("/dev/zero")).is_err());
    }
}
