//! The last bytes of a stream: from them a pane is made anew after a panic.

/// How many bytes are kept at least; twice as many at most.
const KEPT_BYTES: usize = 128 * 1024;

/// The end of a stream.
#[derive(Debug, Default)]
pub(super) struct Recent(Vec<u8>);

impl Recent {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if bytes.len() >= KEPT_BYTES {
            self.0.clear();
            self.0.extend_from_slice(&bytes[bytes.len() - KEPT_BYTES..]);
            return;
        }
        if self.0.len() + bytes.len() > 2 * KEPT_BYTES {
            self.0.drain(..self.0.len() - KEPT_BYTES);
        }
        self.0.extend_from_slice(bytes);
    }

    /// What is kept, from the beginning of a line where the stream's own is no longer there.
    pub(super) fn bytes(&self) -> &[u8] {
        if self.0.len() < KEPT_BYTES {
            return &self.0;
        }
        let line = self.0.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
        &self.0[line..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_within_its_bound() {
        let mut recent = Recent::default();
        for n in 0..100_000 {
            recent.push(format!("line {n}\n").as_bytes());
            assert!(recent.0.len() <= 2 * KEPT_BYTES);
        }
        let text = String::from_utf8(recent.bytes().to_vec()).expect("text");
        assert!(text.starts_with("line ") && text.ends_with("line 99999\n"), "whole lines");
        recent.push(&vec![b'x'; 3 * KEPT_BYTES]);
        assert_eq!(recent.0.len(), KEPT_BYTES);
    }
}
