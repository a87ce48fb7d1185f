//! Bytes as choices: whatever they are, what is made of them ends.
//!
//! Each byte is a choice; when none is left, the first of all alternatives is taken. Deliberately absent: what is
//! chosen from; each maker has words of its own.

/// What is left of the bytes, and how deep the part that is being made lies.
pub(super) struct Choices<'a> {
    bytes: std::slice::Iter<'a, u8>,
    depth: usize,
}

impl<'a> Choices<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Choices {
            bytes: bytes.iter(),
            depth: 0,
        }
    }
}

/// A maker of texts that is led by choices.
pub(super) trait Chooses<'a>: Sized {
    /// Deeper parts are the plainest there are.
    const DEPTH_MAX: usize;

    fn choices(&mut self) -> &mut Choices<'a>;

    /// Gives a number below `count`.
    fn below(&mut self, count: usize) -> usize {
        let byte = self.choices().bytes.next();
        byte.map_or(0, |byte| usize::from(*byte) % count)
    }

    fn one_of(&mut self, known: &'static [&'static str]) -> &'static str {
        known[self.below(known.len())]
    }

    /// Chooses a way to make a part; the first is the plainest.
    fn way(&mut self, count: usize) -> usize {
        if self.choices().depth > Self::DEPTH_MAX {
            0
        } else {
            self.below(count)
        }
    }

    fn within(&mut self, make: impl FnOnce(&mut Self) -> String) -> String {
        self.choices().depth += 1;
        let made = make(self);
        self.choices().depth -= 1;
        made
    }
}
