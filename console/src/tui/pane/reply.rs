//! The answers that a program on the device may ask its terminal for.
//!
//! They are typed into its shell, so they are few and hold numbers only: what
//! the terminal is, where the cursor stands, how modes and settings are. Nothing
//! that a device or a user wrote is ever sent back: no title, no clipboard, no
//! text of the screen.

use super::{screen::Screen, sgr};

/// DA1: a VT420 with selective erase, side margins, colours and rectangles.
pub const PRIMARY: &str = "\x1b[?64;6;21;22;28c";
/// DA2: as an xterm of a version that knows SGR mouse reports.
pub const SECONDARY: &str = "\x1b[>41;300;0c";
/// DA3: a terminal of no number.
pub const TERTIARY: &str = "\x1bP!|00000000\x1b\\";

/// DECREPTPARM: no parity, 8 bits, 9600 baud, as every emulator says.
pub const fn parameters(asked: u16) -> &'static str {
    if asked == 0 { "\x1b[2;1;1;128;128;1;0x" } else { "\x1b[3;1;1;128;128;1;0x" }
}

/// `CSI … t`: the sizes in characters; the rest is refused in silence.
pub fn window(screen: &Screen, asked: u16) -> Option<String> {
    let size = screen.size();
    match asked {
        11 => Some("\x1b[1t".to_owned()),
        18 => Some(format!("\x1b[8;{};{}t", size.rows, size.cols)),
        19 => Some(format!("\x1b[9;{};{}t", size.rows, size.cols)),
        _ => None,
    }
}

/// DECRQSS: how a setting stands, or that it is not known.
pub fn setting(screen: &Screen, asked: &[u8]) -> String {
    let value = match asked {
        b"m" => sgr::spell(screen.pen),
        b"r" => format!("{};{}", screen.margins.rows.start + 1, screen.margins.rows.end),
        b"s" => format!("{};{}", screen.margins.cols.start + 1, screen.margins.cols.end),
        b" q" => screen.cursor_style().to_string(),
        b"\"q" => u8::from(screen.is_protecting()).to_string(),
        b"\"p" => "64;1".to_owned(),
        _ => return "\x1bP0$r\x1b\\".to_owned(),
    };
    format!("\x1bP1$r{value}{}\x1b\\", String::from_utf8_lossy(asked))
}

impl Screen {
    /// DSR: all is well, or where the cursor is.
    pub(super) fn reply_status(&mut self, asked: u16) {
        match asked {
            5 => self.reply("\x1b[0n"),
            6 => {
                let (row, col) = self.reported_cursor();
                self.reply(&format!("\x1b[{row};{col}R"));
            }
            _ => {}
        }
    }

    /// DSR of the DEC kind: cursor, no printer, keys not locked, a keyboard.
    pub(super) fn reply_dec_status(&mut self, asked: u16) {
        match asked {
            6 => {
                let (row, col) = self.reported_cursor();
                self.reply(&format!("\x1b[?{row};{col};1R"));
            }
            15 => self.reply("\x1b[?13n"),
            25 => self.reply("\x1b[?21n"),
            26 => self.reply("\x1b[?27;1;0;0n"),
            _ => {}
        }
    }

    fn reported_cursor(&self) -> (u16, u16) {
        let (top, left) = if self.modes.origin {
            (self.margins.rows.start, self.margins.cols.start)
        } else {
            (0, 0)
        };
        (self.cursor.row.saturating_sub(top) + 1, self.cursor.col.saturating_sub(left) + 1)
    }
}
