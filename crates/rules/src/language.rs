//! The languages in which people are told what was found.
//!
//! Both are first-class: whoever adds words adds them in both, which the types of the tables demand. Deliberately absent:
//! how the language is chosen, which is the binary's.

use serde::{Serialize, Serializer};

/// A language.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    /// Chinese.
    Chinese,
    /// English.
    English,
}

impl Language {
    /// Chooses between the two forms of some words.
    pub fn of<T>(self, chinese: T, english: T) -> T {
        match self {
            Language::Chinese => chinese,
            Language::English => english,
        }
    }
}

/// Fixed words in both languages; other programs are given the English ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Text {
    /// In English.
    pub english: &'static str,
    /// In Chinese.
    pub chinese: &'static str,
}

impl Text {
    /// Gives the words of one language.
    pub fn of(self, language: Language) -> &'static str {
        language.of(self.chinese, self.english)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.english)
    }
}
