//! `.env`: variables beside the configuration, for whoever starts the program by hand.
//!
//! The syntax is docker-compose's, for the same file serves both: `KEY=value`, `export`, quotes, `#` comments,
//! `$VAR`, `${VAR}` and `${VAR:-default}` outside of single quotes. The first of three places counts: the working
//! folder, the folder of the configuration file, and the folder above it. The real environment beats the file.
//! Our own code, because the well-known crate refuses values with spaces (mail providers' passwords have them),
//! knows no line numbers and shows the faulty line, which may be a secret.
//! Deliberately absent: changing the process's environment.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::{ConfigError, Fault};
use super::tree::Place;

/// A `.env` file may have this many bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Gives values of variables.
pub type Variable = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The variables of a file; none when there is no file.
#[derive(Clone, Default)]
pub struct DotEnv {
    /// The file that was read.
    pub file: Option<PathBuf>,
    values: BTreeMap<String, String>,
}

impl DotEnv {
    /// Gives the value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Says what was read, for the log: the file and the number of variables, never a value.
    pub fn remark(&self) -> Option<String> {
        let file = self.file.as_ref()?;
        Some(format!(
            "{}: {} variables read",
            file.display(),
            self.values.len()
        ))
    }

    /// Lays the file under an environment, which beats it.
    pub fn under(&self, environment: Variable) -> Variable {
        let values = self.values.clone();
        Arc::new(move |name| environment(name).or_else(|| values.get(name).cloned()))
    }

    /// Finds and reads the file that belongs to a configuration.
    pub fn find(
        config: Option<&Path>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<DotEnv, ConfigError> {
        for file in places(config) {
            if file.symlink_metadata().is_err() {
                continue;
            }
            let name = file.display().to_string();
            let text = read(&file).map_err(|reason| ConfigError::of_file(&name, reason))?;
            let values = parse(&text, environment)
                .map_err(|faults| ConfigError::new(&name, faults, vec![file.clone()]))?;
            return Ok(DotEnv {
                file: Some(file),
                values,
            });
        }
        Ok(DotEnv::default())
    }
}

/// Lists where the file may be, the first one found counts.
pub fn places(config: Option<&Path>) -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from(".env")];
    if let Some(config) = config {
        let folder = super::folder_of(config);
        places.push(folder.join(".env"));
        places.push(folder.join("..").join(".env"));
    }
    places
}

fn read(path: &Path) -> Result<String, String> {
    let kind = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !kind.is_file() {
        return Err("is no file".to_owned());
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let outcome = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    outcome.map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("longer than the {FILE_BYTES_MAX} bytes allowed"));
    }
    Ok(text)
}

/// Reads a whole text; all faults are told, each with its line.
pub fn parse(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Vec<Fault>> {
    let mut reading = Reading {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        line: 1,
        values: BTreeMap::new(),
        environment,
    };
    let mut faults = Vec::new();
    while !reading.rest.is_empty() {
        let line = reading.line;
        if let Err(reason) = reading.entry() {
            faults.push(Fault::at(
                Place {
                    file: 0,
                    line,
                    column: 1,
                },
                reason,
            ));
            reading.skip_line();
        }
    }
    if faults.is_empty() {
        Ok(reading.values)
    } else {
        Err(faults)
    }
}

struct Reading<'a> {
    rest: &'a str,
    line: usize,
    values: BTreeMap<String, String>,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Reading<'a> {
    fn advance(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn skip_line(&mut self) {
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        self.advance(end);
    }

    fn skip_blanks(&mut self) {
        let blanks = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\r']).len();
        self.advance(blanks);
    }

    /// Reads one line, or several when a quoted value spans them.
    fn entry(&mut self) -> Result<(), String> {
        self.skip_blanks();
        if self.rest.is_empty() || self.rest.starts_with(['\n', '#']) {
            self.skip_line();
            return Ok(());
        }
        if let Some(rest) = self.rest.strip_prefix("export")
            && rest.starts_with([' ', '\t'])
        {
            self.advance("export".len());
            self.skip_blanks();
        }
        let length = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "_.-".contains(c)))
            .unwrap_or(self.rest.len());
        let name = self.advance(length);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err("is no variable; write NAME=value".to_owned());
        }
        self.skip_blanks();
        if !self.rest.starts_with('=') {
            // The word may be the rest of a secret that was broken into lines.
            return Err("is no variable; write NAME=value".to_owned());
        }
        self.advance(1);
        self.skip_blanks();
        let value = match self.rest.as_bytes().first() {
            Some(b'\'') => self.quoted('\'', name)?,
            Some(b'"') => self.quoted('"', name)?,
            _ => self.plain(name)?,
        };
        self.values.insert(name.to_owned(), value);
        Ok(())
    }

    fn plain(&mut self, name: &str) -> Result<String, String> {
        let line = self.rest.lines().next().unwrap_or("");
        let comment = line
            .char_indices()
            .find(|(at, c)| *c == '#' && (*at == 0 || line[..*at].ends_with([' ', '\t'])));
        let value = line[..comment.map_or(line.len(), |(at, _)| at)].trim_end();
        let value = self.expanded(value, name)?;
        self.skip_line();
        Ok(value)
    }

    fn quoted(&mut self, quote: char, name: &str) -> Result<String, String> {
        let mut value = String::new();
        let mut chars = self.rest[1..].char_indices();
        let end = loop {
            match chars.next() {
                None => return Err(format!("the value of {name} has no closing {quote}")),
                Some((at, c)) if c == quote => break at + 1,
                Some((_, '\\')) => match (quote, chars.next()) {
                    ('\'', Some((_, '\''))) => value.push('\''),
                    ('"', Some((_, 'n'))) => value.push('\n'),
                    ('"', Some((_, 'r'))) => value.push('\r'),
                    ('"', Some((_, 't'))) => value.push('\t'),
                    // A private character keeps the dollar from being expanded.
                    ('"', Some((_, '$'))) => value.push('\u{f0024}'),
                    ('"', Some((_, c @ ('"' | '\\')))) => value.push(c),
                    (_, Some((_, c))) => value.extend(['\\', c]),
                    (_, None) => value.push('\\'),
                },
                Some((_, c)) => value.push(c),
            }
        };
        let after = self.rest[end + 1..].lines().next().unwrap_or("").trim();
        if !after.is_empty() && !after.starts_with('#') {
            return Err(format!("something follows the closing {quote} of {name}"));
        }
        if quote == '"' {
            value = self.expanded(&value, name)?.replace('\u{f0024}', "$");
        }
        self.advance(end + 1);
        self.skip_line();
        Ok(value)
    }

    /// Fills in `$VAR`, `${VAR}` and `${VAR:-default}`.
    fn expanded(&self, text: &str, name: &str) -> Result<String, String> {
        let mut output = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            output.push_str(&rest[..at]);
            rest = &rest[at..];
            let (variable, default, length) = match braced(rest).or_else(|| bare(rest)) {
                Some(found) => found,
                None => {
                    output.push('$');
                    rest = &rest[1..];
                    continue;
                }
            };
            let value = (self.environment)(variable).or_else(|| self.values.get(variable).cloned());
            let value = value.filter(|value| default.is_none() || !value.is_empty());
            match value.or_else(|| default.map(str::to_owned)) {
                Some(value) => output.push_str(&value),
                None => {
                    return Err(format!(
                        "the value of {name} names a variable that is not set; put it in single quotes when the \
                         dollar belongs to it"
                    ));
                }
            }
            rest = &rest[length..];
        }
        output.push_str(rest);
        Ok(output)
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn braced(text: &str) -> Option<(&str, Option<&str>, usize)> {
    let inner = text.strip_prefix("${")?;
    let end = inner.find('}')?;
    let (name, default) = match inner[..end].split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (&inner[..end], None),
    };
    is_name(name).then_some((name, default, end + 3))
}

fn bare(text: &str) -> Option<(&str, Option<&str>, usize)> {
    let inner = text.strip_prefix('$')?;
    let length = inner
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(inner.len());
    is_name(&inner[..length]).then_some((&inner[..length], None, length + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Result<Vec<(String, String)>, Vec<String>> {
        let environment = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        match parse(text, &environment) {
            Ok(values) => Ok(values.into_iter().collect()),
            Err(faults) => Err(faults.iter().map(ToString::to_string).collect()),
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        assert_eq!(values(text), Ok(expected.collect()), "{text:?}");
    }

    #[test]
    fn the_guides_file_is_read_as_it_stands() {
        check(
            "SMTP_USERNAME=your_email@gmail.com\nSMTP_PASSWORD=your_app_password\n\
             SLACK_WEBHOOK_URL=https://hooks.slack.com/services/...\nJWT_SECRET=your_jwt_secret_key\n",
            &[
                ("JWT_SECRET", "your_jwt_secret_key"),
                ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/..."),
                ("SMTP_PASSWORD", "your_app_password"),
                ("SMTP_USERNAME", "your_email@gmail.com"),
            ],
        );
    }

    #[test]
    fn values_are_read_as_docker_compose_reads_them() {
        check("", &[]);
        check("# only a comment", &[]);
        check(
            "A=b # why\nB=c#d\r\n\n  export C = x y \n",
            &[("A", "b"), ("B", "c#d"), ("C", "x y")],
        );
        check("A=\nB=\"\"", &[("A", ""), ("B", "")]);
        check("A=\"x # y\\n\\\"z\" # why", &[("A", "x # y\n\"z")]);
        check("A='x $HOME \\n it\\'s'", &[("A", "x $HOME \\n it's")]);
        check("A=\"one\ntwo\"\nB=3", &[("A", "one\ntwo"), ("B", "3")]);
        check(
            "A=${HOME}/a\nB=$A/b\nC=${NONE:-c}\nD=\"${A}d\"",
            &[
                ("A", "/root/a"),
                ("B", "/root/a/b"),
                ("C", "c"),
                ("D", "/root/ad"),
            ],
        );
        check(
            "A=5$ and $5\nB=\"\\$HOME\"",
            &[("A", "5$ and $5"), ("B", "$HOME")],
        );
        check("\u{feff}A=1\nA=2", &[("A", "2")]);
    }

    #[test]
    fn every_faulty_line_is_told_without_its_value() {
        let faults =
            values("A=1\nhunter2\nB hunter2\n1C=hunter2\nD='hunter2' x\nE=pa$hunter2\nF=\"hunter2\n");
        let faults = faults.expect_err("six faults");
        let lines: Vec<&str> = faults
            .iter()
            .filter_map(|fault| fault.split(':').next())
            .collect();
        assert_eq!(lines, ["2", "3", "4", "5", "6", "7"], "{faults:?}");
        assert!(!faults.join(" ").contains("hunter2"), "{faults:?}");
    }
}
