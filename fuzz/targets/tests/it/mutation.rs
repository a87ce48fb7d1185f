//! Small damages to an input, the same for the same seed.

/// SplitMix64, so that a failure can be repeated from its seed.
#[derive(Clone, Copy)]
pub struct Dice(pub u64);

impl Dice {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `end`, which is excluded unless it is 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next_u64() % (end.max(1) as u64)) as usize
    }
}

/// Bytes and words at which parsers have broken before.
const HARD: [&[u8]; 16] = [
    b"\0",
    b"\xff",
    b"\x80",
    b"\n",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"(",
    b"[",
    b"{{",
    b"-1",
    b"NaN",
    b"9223372036854775808",
    b"1e999",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
];

/// Gives `input` with one to four damages; `other` lends a piece to be spliced in.
pub fn mutated(input: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        let span = at..(at + 1 + dice.below(16)).min(bytes.len()).max(at);
        match dice.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            1 if !bytes.is_empty() => bytes[at] = dice.next_u64() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(span)),
            4 => {
                let piece = bytes[span].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let from = dice.below(other.len());
                let to = (from + 1 + dice.below(64)).min(other.len());
                bytes.splice(at..at, other[from..to.max(from)].iter().copied());
            }
            6 => {
                // Depth is where recursive parsers end.
                let piece = HARD[dice.below(HARD.len())].repeat(1 << dice.below(10));
                bytes.splice(at..at, piece);
            }
            _ => {
                let piece = HARD[dice.below(HARD.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn the_same_seed_gives_the_same_damage_and_most_damages_change_something() {
    let damages = |seed| {
        (0..100u64)
            .map(|n| mutated(b"abc{d}", b"efg", &mut Dice(seed + n)))
            .collect::<Vec<_>>()
    };
    assert_eq!(damages(1), damages(1));
    assert!(damages(1).iter().filter(|bytes| *bytes != b"abc{d}").count() > 90);
}
