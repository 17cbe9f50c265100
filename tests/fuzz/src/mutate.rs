//! Inputs made of seeds: the same number gives the same input on every machine.
//!
//! Seeds are valid, and a few changes leave most of one valid, so that inputs
//! get past the first bytes of a parser. What is put in is what parsers of text
//! trip over, see [`WORDS`].

/// The longest input, in bytes: over every limit of a message that a target knows.
pub const INPUT_MAX_BYTES: usize = 160 * 1024;
/// The most changes to one seed.
const CHANGES_MAX: u64 = 6;
/// How often a part is repeated at most.
const REPEATS_MAX: u64 = 300;

/// Words that parsers of text trip over.
const WORDS: &[&[u8]] = &[
    // Syntax
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b",",
    b":",
    b"=",
    b"&",
    b"%00",
    b"\n",
    b"\r\n",
    b"\\u0000",
    b"\\ud800",
    b"\"\"\"",
    b"null",
    b"true",
    b"{}",
    b"[]",
    // Numbers at their borders
    b"-1",
    b"0",
    b"255",
    b"256",
    b"4294967295",
    b"9223372036854775807",
    b"18446744073709551615",
    b"1e999",
    b"-0.0",
    // Topics and paths
    b"/",
    b"//",
    b"+",
    b"#",
    b"$SYS",
    b"$share/g/",
    b"..",
    b"/../",
    b"roboticks/",
    b":tunnel",
    // What acts on a terminal or hides from its reader
    b"\x1b[2J",
    b"\x1b]52;c;AA==\x07",
    b"\x7f",
    b"\t",
    b"\0",
    "\u{9b}".as_bytes(),
    "\u{202e}".as_bytes(),
    "\u{200b}".as_bytes(),
    "\u{301}".as_bytes(),
    "\u{feff}".as_bytes(),
    "\u{e0041}".as_bytes(),
    "👩\u{200d}🚀".as_bytes(),
    "日".as_bytes(),
    // No UTF-8
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf0\x9f",
];

/// Numbers that follow from one another (SplitMix64).
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    pub const fn from(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next number below `end`; 0 when there is none.
    pub const fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    const fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A part of something that is `len` long: where it starts and ends.
    const fn part(&mut self, len: usize) -> (usize, usize) {
        let start = self.index(len + 1);
        let longest = len - start;
        // Mostly short parts: long ones leave nothing of the seed.
        let longest = if self.below(4) > 0 && longest > 8 { 8 } else { longest };
        (start, start + self.index(longest + 1))
    }
}

/// Makes an input of the seeds, of which there must be one.
pub fn input(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut input = seeds[numbers.index(seeds.len())].clone();
    for _ in 0..=numbers.below(CHANGES_MAX) {
        change(&mut input, seeds, numbers);
    }
    input.truncate(INPUT_MAX_BYTES);
    input
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], numbers: &mut Numbers) {
    let (start, end) = numbers.part(input.len());
    match numbers.below(9) {
        0 => {
            let at = numbers.index(input.len());
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << numbers.below(8);
            }
        }
        1 => {
            let at = numbers.index(input.len());
            if let Some(byte) = input.get_mut(at) {
                *byte = numbers.next() as u8;
            }
        }
        2 | 3 => {
            let word = WORDS[numbers.index(WORDS.len())];
            input.splice(start..start, word.iter().copied());
        }
        4 => {
            let word = WORDS[numbers.index(WORDS.len())];
            input.splice(start..end, word.iter().copied());
        }
        5 => drop(input.drain(start..end)),
        6 => {
            let times = 1 + numbers.index(REPEATS_MAX as usize);
            let room = INPUT_MAX_BYTES.saturating_sub(input.len());
            let times = times.min(room / (end - start).max(1));
            let part = input[start..end].repeat(times);
            input.splice(start..start, part);
        }
        7 => input.truncate(start),
        _ => {
            let other = &seeds[numbers.index(seeds.len())];
            let (from, to) = numbers.part(other.len());
            input.splice(start..end, other[from..to].iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_makes_the_same_inputs_and_they_differ() {
        let seeds = [b"{\"a\":1}".to_vec(), b"x".to_vec()];
        let made = |seed| {
            let mut numbers = Numbers::from(seed);
            (0..200).map(|_| input(&seeds, &mut numbers)).collect::<Vec<_>>()
        };
        assert_eq!(made(7), made(7));
        let distinct: std::collections::BTreeSet<_> = made(7).into_iter().collect();
        assert!(distinct.len() > 150, "{}", distinct.len());
    }

    #[test]
    fn no_input_is_over_the_limit() {
        let seeds = [vec![b'['; INPUT_MAX_BYTES - 1]];
        let mut numbers = Numbers::from(1);
        for _ in 0..100 {
            assert!(input(&seeds, &mut numbers).len() <= INPUT_MAX_BYTES);
        }
    }
}
