//! The mouse over a pane, as reports for a program that asked for them.

use crossterm::event::{KeyModifiers, MouseButton, MouseEventKind};

use super::modes::{Modes, MouseEncoding, MouseMode};

/// How many lines one notch of the wheel is where it stands for arrow keys.
const WHEEL_LINES: usize = 3;
/// The last column or row that one byte can name.
const BYTE_MAX: u16 = 222;
/// The last one that two bytes of UTF-8 can name.
const UTF8_MAX: u16 = 2014;

/// What the mouse did, at a cell of the pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mouse {
    pub kind: MouseEventKind,
    pub modifiers: KeyModifiers,
    pub col: u16,
    pub row: u16,
}

/// The report of it; `None` when the program does not want it: then it is the console's.
pub fn encode(mouse: Mouse, modes: &Modes, is_alternate: bool) -> Option<Vec<u8>> {
    if modes.mouse == MouseMode::Off {
        return wheel_as_arrows(mouse.kind, modes, is_alternate);
    }
    let button = |button: MouseButton| match button {
        MouseButton::Left => 0,
        MouseButton::Middle => 1,
        MouseButton::Right => 2,
    };
    let is_release = matches!(mouse.kind, MouseEventKind::Up(_));
    let (code, least) = match mouse.kind {
        MouseEventKind::Down(pressed) => (button(pressed), MouseMode::Press),
        MouseEventKind::Up(released) => (button(released), MouseMode::Buttons),
        MouseEventKind::Drag(held) => (button(held) + 32, MouseMode::Drags),
        MouseEventKind::Moved => (3 + 32, MouseMode::Moves),
        MouseEventKind::ScrollUp => (64, MouseMode::Press),
        MouseEventKind::ScrollDown => (65, MouseMode::Press),
        MouseEventKind::ScrollLeft => (66, MouseMode::Press),
        MouseEventKind::ScrollRight => (67, MouseMode::Press),
    };
    if rank(modes.mouse) < rank(least) {
        return None;
    }
    let held = if modes.mouse == MouseMode::Press {
        0
    } else {
        4 * u16::from(mouse.modifiers.contains(KeyModifiers::SHIFT))
            + 8 * u16::from(mouse.modifiers.contains(KeyModifiers::ALT))
            + 16 * u16::from(mouse.modifiers.contains(KeyModifiers::CONTROL))
    };
    // Only SGR reports say which button was released.
    let plain = if is_release { 3 } else { code } + held;
    let (col, row) = (mouse.col, mouse.row);
    match modes.mouse_encoding {
        MouseEncoding::Sgr => {
            let last = if is_release { 'm' } else { 'M' };
            Some(format!("\x1b[<{};{};{}{last}", code + held, col + 1, row + 1).into_bytes())
        }
        MouseEncoding::Urxvt => {
            Some(format!("\x1b[{};{};{}M", plain + 32, col + 1, row + 1).into_bytes())
        }
        MouseEncoding::Bytes if col.max(row) <= BYTE_MAX => {
            Some(vec![0x1b, b'[', b'M', plain as u8 + 32, col as u8 + 33, row as u8 + 33])
        }
        MouseEncoding::Utf8 if col.max(row) <= UTF8_MAX => {
            let mut text = String::from("\x1b[M");
            for value in [plain + 32, col + 33, row + 33] {
                text.push(char::from_u32(u32::from(value))?);
            }
            Some(text.into_bytes())
        }
        MouseEncoding::Bytes | MouseEncoding::Utf8 => None,
    }
}

const fn rank(mode: MouseMode) -> u8 {
    match mode {
        MouseMode::Off => 0,
        MouseMode::Press => 1,
        MouseMode::Buttons => 2,
        MouseMode::Drags => 3,
        MouseMode::Moves => 4,
    }
}

/// On the alternate screen there is no scrollback: the wheel moves what the program shows.
fn wheel_as_arrows(kind: MouseEventKind, modes: &Modes, is_alternate: bool) -> Option<Vec<u8>> {
    if !is_alternate || !modes.wheel_arrows {
        return None;
    }
    let arrow: &[u8] = match (kind, modes.cursor_keys) {
        (MouseEventKind::ScrollUp, false) => b"\x1b[A",
        (MouseEventKind::ScrollUp, true) => b"\x1bOA",
        (MouseEventKind::ScrollDown, false) => b"\x1b[B",
        (MouseEventKind::ScrollDown, true) => b"\x1bOB",
        _ => return None,
    };
    Some(arrow.repeat(WHEEL_LINES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: MouseEventKind, mode: MouseMode, encoding: MouseEncoding) -> Option<String> {
        let modes = Modes { mouse: mode, mouse_encoding: encoding, ..Modes::default() };
        let mouse = Mouse { kind, modifiers: KeyModifiers::CONTROL, col: 4, row: 9 };
        encode(mouse, &modes, false).map(|bytes| String::from_utf8(bytes).expect("UTF-8"))
    }

    #[test]
    fn a_program_hears_what_it_asked_for() {
        let (down, up) =
            (MouseEventKind::Down(MouseButton::Right), MouseEventKind::Up(MouseButton::Right));
        let drag = MouseEventKind::Drag(MouseButton::Left);
        let sgr = MouseEncoding::Sgr;
        for (kind, mode, encoding, expected) in [
            (down, MouseMode::Off, sgr, None),
            (down, MouseMode::Press, sgr, Some("\x1b[<2;5;10M")),
            (up, MouseMode::Press, sgr, None),
            (down, MouseMode::Buttons, sgr, Some("\x1b[<18;5;10M")),
            (up, MouseMode::Buttons, sgr, Some("\x1b[<18;5;10m")),
            (drag, MouseMode::Buttons, sgr, None),
            (drag, MouseMode::Drags, sgr, Some("\x1b[<48;5;10M")),
            (MouseEventKind::Moved, MouseMode::Drags, sgr, None),
            (MouseEventKind::Moved, MouseMode::Moves, sgr, Some("\x1b[<51;5;10M")),
            (MouseEventKind::ScrollDown, MouseMode::Buttons, sgr, Some("\x1b[<81;5;10M")),
            (down, MouseMode::Buttons, MouseEncoding::Bytes, Some("\x1b[M2%*")),
            (up, MouseMode::Buttons, MouseEncoding::Bytes, Some("\x1b[M3%*")),
            (down, MouseMode::Buttons, MouseEncoding::Urxvt, Some("\x1b[50;5;10M")),
            (down, MouseMode::Buttons, MouseEncoding::Utf8, Some("\x1b[M2%*")),
        ] {
            assert_eq!(report(kind, mode, encoding).as_deref(), expected, "{kind:?} {mode:?}");
        }
    }

    #[test]
    fn what_a_byte_cannot_name_is_not_reported_wrongly() {
        let modes = Modes { mouse: MouseMode::Buttons, ..Modes::default() };
        let mut mouse = Mouse {
            kind: MouseEventKind::Down(MouseButton::Left),
            modifiers: KeyModifiers::NONE,
            col: BYTE_MAX,
            row: 0,
        };
        assert_eq!(encode(mouse, &modes, false), Some(vec![0x1b, b'[', b'M', 32, 255, 33]));
        mouse.col += 1;
        assert_eq!(encode(mouse, &modes, false), None);
    }

    #[test]
    fn the_wheel_scrolls_what_has_no_scrollback() {
        let mouse =
            Mouse { kind: MouseEventKind::ScrollUp, modifiers: KeyModifiers::NONE, col: 0, row: 0 };
        assert_eq!(encode(mouse, &Modes::default(), false), None);
        assert_eq!(encode(mouse, &Modes::default(), true), Some(b"\x1b[A\x1b[A\x1b[A".to_vec()));
    }
}
