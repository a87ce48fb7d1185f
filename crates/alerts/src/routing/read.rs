//! Reads the parts of a configuration, and notes what is wrong with them.

use std::collections::BTreeMap;
use std::time::Duration;

use marketprism_model::{Matcher, MatcherOp, duration, labels};

use super::config::RouteConfig;
use super::fault::Faults;
use super::matchers;
use super::tree::{GroupBy, group_by};

pub(crate) struct Reader<'a> {
    faults: &'a mut Faults,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(faults: &'a mut Faults) -> Self {
        Reader { faults }
    }

    pub(super) fn route_matchers(&mut self, config: &RouteConfig, place: &str) -> Vec<Matcher> {
        self.matchers(
            (&config.match_equal, format!("{place}.match")),
            (&config.match_regex, format!("{place}.match_re")),
            (&config.matchers, format!("{place}.matchers")),
        )
    }

    /// Reads matchers of all three forms, each with its place.
    pub(crate) fn matchers(
        &mut self,
        equal: (&BTreeMap<String, String>, String),
        regex: (&BTreeMap<String, String>, String),
        texts: (&[String], String),
    ) -> Vec<Matcher> {
        let mut read = Vec::new();
        for ((pairs, place), op) in [(equal, MatcherOp::Equal), (regex, MatcherOp::Matches)] {
            for (name, value) in pairs {
                if !labels::is_legacy_label_name(name) {
                    self.faults.add(
                        &*place,
                        format!(
                            "bad label name {name:?}; use letters, digits and _, or write it under matchers"
                        ),
                    );
                    continue;
                }
                // Alertmanager anchors these expressions where they stand, and its keys of groups show it.
                let written = match op {
                    MatcherOp::Matches => &format!("^(?:{value})$"),
                    _ => value,
                };
                match Matcher::new(name, op, written) {
                    Ok(matcher) => read.push(matcher),
                    Err(error) => {
                        let error = Matcher::new(name, op, value).err().unwrap_or(error);
                        self.faults.add(&*place, error.to_string());
                    }
                }
            }
        }
        let (texts, place) = texts;
        for (number, text) in texts.iter().enumerate() {
            match matchers::parse(text) {
                Ok(matchers) => read.extend(matchers),
                Err(error) => self.faults.add(format!("{place}[{number}]"), error.to_string()),
            }
        }
        read
    }

    pub(super) fn group_by(&mut self, labels: Option<&[String]>, place: &str) -> Option<GroupBy> {
        labels.map(|labels| group_by(labels, place, self.faults))
    }

    /// Checks a duration against its limits.
    pub(super) fn span(
        &mut self,
        span: Option<Duration>,
        least: Duration,
        most: Duration,
        place: &str,
        key: &str,
    ) -> Option<Duration> {
        if let Some(given) = span
            && !(least..=most).contains(&given)
        {
            let words = [given, least, most].map(duration::format);
            self.faults.add(
                format!("{place}.{key}"),
                format!("{} is out of range; use {} to {}", words[0], words[1], words[2]),
            );
        }
        span
    }
}
