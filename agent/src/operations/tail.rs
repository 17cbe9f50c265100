//! The last lines of a file, found from its end, in one buffer's memory.

use std::{fs::File, io, os::unix::fs::FileExt as _};

const BLOCK_BYTES: u64 = 64 * 1024;

/// Says where the last `lines` lines of a file's first `size` bytes begin, but
/// not before its last `most_bytes`.
pub fn begin_of_last_lines(
    file: &File,
    size_bytes: u64,
    lines: u64,
    most_bytes: u64,
) -> io::Result<u64> {
    let floor = size_bytes.saturating_sub(most_bytes);
    let (mut end, mut found) = (size_bytes, 0);
    let mut block = vec![0; BLOCK_BYTES as usize];
    while end > floor {
        let begin = end.saturating_sub(BLOCK_BYTES).max(floor);
        let part = &mut block[..(end - begin) as usize];
        file.read_exact_at(part, begin)?;
        for (at, _) in part.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = begin + at as u64 + 1;
            // The line feed at the very end closes the last line and begins none.
            if after == size_bytes {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(after);
            }
        }
        end = begin;
    }
    Ok(floor)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn tail(content: &[u8], lines: u64) -> Vec<u8> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let size = content.len() as u64;
        let begin = begin_of_last_lines(&file, size, lines, u64::MAX).unwrap();
        content[begin as usize..].to_vec()
    }

    #[test]
    fn the_last_lines_are_found_with_and_without_a_final_line_feed() {
        for (content, lines, expected) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 9, "a\nb\n"),
            ("", 3, ""),
            ("\n\n\n", 2, "\n\n"),
            ("only", 1, "only"),
        ] {
            assert_eq!(tail(content.as_bytes(), lines), expected.as_bytes(), "{content:?}");
        }
    }

    #[test]
    fn lines_longer_than_a_block_are_found() {
        let content = [vec![b'x'; 200_000], vec![b'\n'], vec![b'y'; 150_000], vec![b'\n']].concat();
        assert_eq!(tail(&content, 1).len(), 150_001);
        assert_eq!(tail(&content, 2).len(), content.len());
    }

    proptest! {
        #[test]
        fn it_agrees_with_counting_lines(content in "[ab\n]{0,300}", lines in 1..20_u64) {
            let all: Vec<&str> = content.split_inclusive('\n').collect();
            let from = all.len().saturating_sub(lines as usize);
            prop_assert_eq!(tail(content.as_bytes(), lines), all[from..].concat().into_bytes());
        }
    }
}
