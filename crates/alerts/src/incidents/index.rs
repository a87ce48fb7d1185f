//! Finds the incident that a group or a label's value belongs to, without looking through all of them.
//!
//! What is looked up is a hash of what is meant: at a hundred thousand alerts the texts would be most of the memory, and two
//! of them with the same 64 bits would merely put an alert into an incident that it has nothing to do with.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use marketprism_model::Id;

/// What a group or a label's value is known by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key(u64);

impl Key {
    pub fn group(key: &str) -> Self {
        Key::of(&("group", key))
    }

    /// Takes a label; empty values are nothing to share.
    pub fn label(name: &str, value: &str) -> Option<Self> {
        let value = place(name, value);
        (!value.is_empty()).then(|| Key::of(&("label", name, value)))
    }

    fn of(meant: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        meant.hash(&mut hasher);
        Key(hasher.finish())
    }
}

/// Gives the part of a value that says where: an `instance` without its port, for two exporters of a machine are one place.
pub(super) fn place<'a>(name: &str, value: &'a str) -> &'a str {
    if name != "instance" {
        return value;
    }
    match value.rsplit_once(':') {
        Some((host, port)) if is_host(host) && is_port(port) => host,
        _ => value,
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && (!text.contains(':') || (text.starts_with('[') && text.ends_with(']')))
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The incident that last got an alert with a key.
#[derive(Debug, Default)]
pub(super) struct Index {
    latest: HashMap<Key, Id>,
}

impl Index {
    pub fn get(&self, key: Key) -> Option<Id> {
        self.latest.get(&key).copied()
    }

    pub fn set(&mut self, key: Key, incident: Id) {
        self.latest.insert(key, incident);
    }

    /// Forgets a key, unless another incident has it meanwhile.
    pub fn remove(&mut self, key: Key, incident: Id) {
        if self.get(key) == Some(incident) {
            self.latest.remove(&key);
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.latest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_instance_loses_its_port_and_only_a_port() {
        let check = |name, value, expected| assert_eq!(place(name, value), expected, "{name}={value}");
        check("instance", "db1:9100", "db1");
        check("instance", "10.0.0.1:9100", "10.0.0.1");
        check("instance", "[2001:db8::1]:9100", "[2001:db8::1]");
        check("instance", "2001:db8::1", "2001:db8::1");
        check("instance", "db1", "db1");
        check("instance", "db1:", "db1:");
        check("instance", ":9100", ":9100");
        check("instance", "https://shop/", "https://shop/");
        check("service", "db1:9100", "db1:9100");
    }
}
