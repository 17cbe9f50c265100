//! The local escape, as ssh has it: `~` at the beginning of a line.
//!
//! ```text
//!               Return                 ~                . ─▶ Disconnect
//!   Midline ◀──────────▶ LineStart ─────────▶ Tilde ────~ ─▶ one ~ to the device
//!            any other                                  ? ─▶ Help
//!                                                       else ─▶ ~ and the key to the device
//! ```
//!
//! It works on what the console itself still hears, also when nothing answers.
//! Pure: bytes in, bytes and commands out.

/// What the operator asks of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// `~.`: end the tunnel.
    Disconnect,
    /// `~d`: leave it; the program runs on.
    Detach,
    /// `~?`: list the escapes.
    Help,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    LineStart,
    Midline,
    Tilde,
}

/// Watches the bytes that keys make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Escapes {
    state: State,
}

impl Escapes {
    /// Takes the bytes of one key: what is to be sent, and what was asked for. Not for pasted
    /// text, in which `~.` is no command.
    pub fn step(&mut self, bytes: &[u8]) -> (Vec<u8>, Option<Escape>) {
        let mut send = Vec::with_capacity(bytes.len() + 1);
        let mut asked = None;
        for &byte in bytes {
            let after =
                if matches!(byte, b'\r' | b'\n') { State::LineStart } else { State::Midline };
            match (self.state, byte) {
                (State::LineStart, b'~') => {
                    self.state = State::Tilde;
                    continue;
                }
                (State::Tilde, b'.') => asked = Some(Escape::Disconnect),
                (State::Tilde, b'd') => asked = Some(Escape::Detach),
                (State::Tilde, b'?') => asked = Some(Escape::Help),
                (State::Tilde, b'~') => send.push(b'~'),
                (State::Tilde, _) => {
                    send.extend_from_slice(&[b'~', byte]);
                    self.state = after;
                    continue;
                }
                (State::LineStart | State::Midline, _) => {
                    send.push(byte);
                    self.state = after;
                    continue;
                }
            }
            self.state = if asked.is_some() { State::LineStart } else { State::Midline };
        }
        (send, asked)
    }

    /// Notes that a text was pasted.
    pub fn pasted(&mut self, bytes: &[u8]) {
        self.state = if bytes.ends_with(b"\r") { State::LineStart } else { State::Midline };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tilde_at_the_beginning_of_a_line_is_for_us() {
        for (typed, sent, asked) in [
            ("~.", "", Some(Escape::Disconnect)),
            ("ls\r~.", "ls\r", Some(Escape::Disconnect)),
            ("ls ~.", "ls ~.", None),
            ("~~.", "~.", None),
            ("~/x\r", "~/x\r", None),
            ("~\r~?", "~\r", Some(Escape::Help)),
            ("~d", "", Some(Escape::Detach)),
        ] {
            let mut escapes = Escapes::default();
            let (mut out, mut last) = (Vec::new(), None);
            for byte in typed.bytes() {
                let (send, asked) = escapes.step(&[byte]);
                out.extend(send);
                last = last.or(asked);
            }
            assert_eq!((String::from_utf8_lossy(&out).as_ref(), last), (sent, asked), "{typed:?}");
        }
    }

    #[test]
    fn a_pasted_text_asks_for_nothing() {
        let mut escapes = Escapes::default();
        escapes.pasted(b"~");
        assert_eq!(escapes.step(b"."), (b".".to_vec(), None));
    }

    proptest! {
        #[test]
        fn without_a_tilde_all_is_sent(typed in "[^~]*") {
            let (sent, asked) = Escapes::default().step(typed.as_bytes());
            prop_assert_eq!((sent, asked), (typed.into_bytes(), None));
        }
    }
}
