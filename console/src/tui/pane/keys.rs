//! Keys, as the bytes that a program in a pane expects of them.
//!
//! The tables are xterm's: `CSI 1 ; m X` for a key with modifiers, where `m` is
//! 1 + Shift (1) + Alt (2) + Control (4); Alt before a character is an ESC.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyEventState, KeyModifiers};

use super::modes::Modes;

/// The bytes for a key; `None` for one that no program hears of, and for releases.
pub fn encode(key: &KeyEvent, modes: &Modes) -> Option<Vec<u8>> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let modifiers = key.modifiers;
    let alt = modifiers.contains(KeyModifiers::ALT);
    if key.state.contains(KeyEventState::KEYPAD)
        && modes.keypad
        && let Some(last) = keypad(key.code)
    {
        return Some(vec![0x1b, b'O', last]);
    }
    let with_alt = |bytes: &[u8]| {
        let mut out = Vec::with_capacity(bytes.len() + 1);
        if alt {
            out.push(0x1b);
        }
        out.extend_from_slice(bytes);
        Some(out)
    };
    match key.code {
        KeyCode::Char(c) if modifiers.contains(KeyModifiers::CONTROL) => with_alt(&[control(c)?]),
        KeyCode::Char(c) => with_alt(c.encode_utf8(&mut [0; 4]).as_bytes()),
        KeyCode::Enter if modes.newline => with_alt(b"\r\n"),
        KeyCode::Enter => with_alt(b"\r"),
        KeyCode::Tab if modifiers.contains(KeyModifiers::SHIFT) => with_alt(b"\x1b[Z"),
        KeyCode::Tab => with_alt(b"\t"),
        KeyCode::BackTab => with_alt(b"\x1b[Z"),
        KeyCode::Backspace if modifiers.contains(KeyModifiers::CONTROL) => with_alt(b"\x08"),
        KeyCode::Backspace => with_alt(b"\x7f"),
        KeyCode::Esc => with_alt(b"\x1b"),
        KeyCode::Null => with_alt(b"\0"),
        code => special(code, modifiers, modes),
    }
}

/// What Control makes of a character: `@`–`_` and `?` by the standard, digits as xterm has them.
fn control(c: char) -> Option<u8> {
    Some(match c.to_ascii_uppercase() {
        c @ '@'..='_' => c as u8 - b'@',
        ' ' | '2' => 0,
        '3' => 0x1b,
        '4' => 0x1c,
        '5' => 0x1d,
        '6' | '~' => 0x1e,
        '7' | '/' | '-' => 0x1f,
        '8' | '?' => 0x7f,
        c if c.is_ascii() => c.to_ascii_lowercase() as u8,
        _ => return None,
    })
}

/// Keys on the keypad in its application mode.
const fn keypad(code: KeyCode) -> Option<u8> {
    Some(match code {
        KeyCode::Char(c @ '0'..='9') => c as u8 - b'0' + b'p',
        KeyCode::Char('*') => b'j',
        KeyCode::Char('+') => b'k',
        KeyCode::Char(',') => b'l',
        KeyCode::Char('-') => b'm',
        KeyCode::Char('.') => b'n',
        KeyCode::Char('/') => b'o',
        KeyCode::Char('=') => b'X',
        KeyCode::Enter => b'M',
        _ => return None,
    })
}

/// How a key of no character is written.
enum Form {
    /// `CSI X`, or `SS3 X` for application cursor keys.
    Cursor(u8),
    /// `SS3 X`.
    Function(u8),
    /// `CSI n ~`.
    Tilde(u8),
}

fn special(code: KeyCode, modifiers: KeyModifiers, modes: &Modes) -> Option<Vec<u8>> {
    let form = match code {
        KeyCode::Up => Form::Cursor(b'A'),
        KeyCode::Down => Form::Cursor(b'B'),
        KeyCode::Right => Form::Cursor(b'C'),
        KeyCode::Left => Form::Cursor(b'D'),
        KeyCode::KeypadBegin => Form::Cursor(b'E'),
        KeyCode::End => Form::Cursor(b'F'),
        KeyCode::Home => Form::Cursor(b'H'),
        KeyCode::Insert => Form::Tilde(2),
        KeyCode::Delete => Form::Tilde(3),
        KeyCode::PageUp => Form::Tilde(5),
        KeyCode::PageDown => Form::Tilde(6),
        KeyCode::F(n @ 1..=4) => Form::Function(b'P' + n - 1),
        KeyCode::F(n @ 5..=20) => Form::Tilde(FUNCTION[usize::from(n) - 5]),
        _ => return None,
    };
    let modifier = 1
        + u8::from(modifiers.contains(KeyModifiers::SHIFT))
        + 2 * u8::from(modifiers.contains(KeyModifiers::ALT))
        + 4 * u8::from(modifiers.contains(KeyModifiers::CONTROL));
    let text = match (form, modifier) {
        (Form::Cursor(last), 1) if modes.cursor_keys => format!("\x1bO{}", char::from(last)),
        (Form::Cursor(last), 1) => format!("\x1b[{}", char::from(last)),
        (Form::Function(last), 1) => format!("\x1bO{}", char::from(last)),
        (Form::Cursor(last) | Form::Function(last), _) => {
            format!("\x1b[1;{modifier}{}", char::from(last))
        }
        (Form::Tilde(number), 1) => format!("\x1b[{number}~"),
        (Form::Tilde(number), _) => format!("\x1b[{number};{modifier}~"),
    };
    Some(text.into_bytes())
}

/// The numbers of F5 to F20.
const FUNCTION: [u8; 16] = [15, 17, 18, 19, 20, 21, 23, 24, 25, 26, 28, 29, 31, 32, 33, 34];

/// What tells a program that its pane gained or lost the keyboard, if it wants to know.
pub fn focus(has_it: bool, modes: &Modes) -> Option<&'static [u8]> {
    modes.focus.then_some(if has_it { b"\x1b[I" } else { b"\x1b[O" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(code: KeyCode, modifiers: KeyModifiers, modes: &Modes) -> String {
        let bytes = encode(&KeyEvent::new(code, modifiers), modes).unwrap_or_default();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn keys_are_what_programs_expect() {
        let (none, shift, alt, ctrl) =
            (KeyModifiers::NONE, KeyModifiers::SHIFT, KeyModifiers::ALT, KeyModifiers::CONTROL);
        let plain = Modes::default();
        for (code, modifiers, expected) in [
            (KeyCode::Char('é'), none, "é"),
            (KeyCode::Char('x'), alt, "\x1bx"),
            (KeyCode::Char('c'), ctrl, "\x03"),
            (KeyCode::Char('C'), ctrl | shift, "\x03"),
            (KeyCode::Char(' '), ctrl, "\0"),
            (KeyCode::Char('_'), ctrl, "\x1f"),
            (KeyCode::Char('x'), ctrl | alt, "\x1b\x18"),
            (KeyCode::Char('é'), ctrl, ""),
            (KeyCode::Enter, none, "\r"),
            (KeyCode::Enter, alt, "\x1b\r"),
            (KeyCode::BackTab, shift, "\x1b[Z"),
            (KeyCode::Backspace, none, "\x7f"),
            (KeyCode::Esc, none, "\x1b"),
            (KeyCode::Up, none, "\x1b[A"),
            (KeyCode::Left, ctrl, "\x1b[1;5D"),
            (KeyCode::Home, shift | alt, "\x1b[1;4H"),
            (KeyCode::Delete, none, "\x1b[3~"),
            (KeyCode::PageUp, ctrl, "\x1b[5;5~"),
            (KeyCode::F(1), none, "\x1bOP"),
            (KeyCode::F(4), shift, "\x1b[1;2S"),
            (KeyCode::F(5), none, "\x1b[15~"),
            (KeyCode::F(12), none, "\x1b[24~"),
            (KeyCode::F(20), none, "\x1b[34~"),
            (KeyCode::CapsLock, none, ""),
        ] {
            assert_eq!(bytes(code, modifiers, &plain), expected, "{modifiers:?} {code:?}");
        }
    }

    #[test]
    fn modes_change_cursor_keys_keypad_and_return() {
        let modes = Modes { cursor_keys: true, keypad: true, newline: true, ..Modes::default() };
        assert_eq!(bytes(KeyCode::Up, KeyModifiers::NONE, &modes), "\x1bOA");
        assert_eq!(bytes(KeyCode::Up, KeyModifiers::CONTROL, &modes), "\x1b[1;5A");
        assert_eq!(bytes(KeyCode::Enter, KeyModifiers::NONE, &modes), "\r\n");
        let keypad = KeyEvent::new_with_kind_and_state(
            KeyCode::Char('5'),
            KeyModifiers::NONE,
            KeyEventKind::Press,
            KeyEventState::KEYPAD,
        );
        assert_eq!(encode(&keypad, &modes).as_deref(), Some(&b"\x1bOu"[..]));
        assert_eq!(encode(&keypad, &Modes::default()).as_deref(), Some(&b"5"[..]));
        let release = KeyEvent { kind: KeyEventKind::Release, ..keypad };
        assert_eq!(encode(&release, &modes), None);
    }

    #[test]
    fn focus_is_told_to_who_asked() {
        assert_eq!(focus(true, &Modes::default()), None);
        let modes = Modes { focus: true, ..Modes::default() };
        assert_eq!(focus(false, &modes), Some(&b"\x1b[O"[..]));
    }
}
