//! The modes that a device sets and resets, and may ask for (DECRQM).

use super::parser::Csi;

/// What of the mouse a device wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MouseMode {
    #[default]
    Off,
    /// Presses only (9).
    Press,
    /// Presses and releases (1000).
    Buttons,
    /// And moves with a button held (1002).
    Drags,
    /// And all moves (1003).
    Moves,
}

/// How a report of the mouse is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MouseEncoding {
    /// One byte each: up to column 223.
    #[default]
    Bytes,
    /// 1005.
    Utf8,
    /// 1006.
    Sgr,
    /// 1015.
    Urxvt,
}

/// All modes, with what they are at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// IRM: text pushes what follows to the right.
    pub insert: bool,
    /// LNM: a line feed is a carriage return as well.
    pub newline: bool,
    /// DECCKM.
    pub cursor_keys: bool,
    /// DECNKM, DECKPAM.
    pub keypad: bool,
    /// DECSCNM: light and dark change places.
    pub reverse_screen: bool,
    /// DECOM: rows count from the top margin.
    pub origin: bool,
    /// DECAWM: text goes on in the next row.
    pub autowrap: bool,
    /// 12.
    pub blinking_cursor: bool,
    /// DECTCEM.
    pub cursor_shown: bool,
    /// 40: DECCOLM is heeded.
    pub may_change_columns: bool,
    /// DECCOLM, as it was last set.
    pub wide: bool,
    /// 45: a backspace goes on in the row above.
    pub reverse_wrap: bool,
    /// DECLRMM: `CSI s` sets left and right margins.
    pub side_margins: bool,
    pub mouse: MouseMode,
    pub mouse_encoding: MouseEncoding,
    /// 1004: focus is told.
    pub focus: bool,
    /// 1007: the wheel is arrow keys on the alternate screen.
    pub wheel_arrows: bool,
    pub bracketed_paste: bool,
    /// 2026: nothing is to be shown until the end of the update.
    pub synchronized: bool,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            insert: false,
            newline: false,
            cursor_keys: false,
            keypad: false,
            reverse_screen: false,
            origin: false,
            autowrap: true,
            blinking_cursor: false,
            cursor_shown: true,
            may_change_columns: false,
            wide: false,
            reverse_wrap: false,
            side_margins: false,
            mouse: MouseMode::Off,
            mouse_encoding: MouseEncoding::Bytes,
            focus: false,
            wheel_arrows: true,
            bracketed_paste: false,
            synchronized: false,
        }
    }
}

impl Modes {
    /// What DECSTR resets: not what the operator's keys and mouse do for a program.
    pub const fn soft_reset(&mut self) {
        self.insert = false;
        self.cursor_keys = false;
        self.keypad = false;
        self.origin = false;
        self.autowrap = true;
        self.cursor_shown = true;
        self.reverse_wrap = false;
        self.side_margins = false;
    }

    /// The DEC modes that are a plain switch.
    fn switch(&mut self, number: u16) -> Option<&mut bool> {
        Some(match number {
            1 => &mut self.cursor_keys,
            5 => &mut self.reverse_screen,
            6 => &mut self.origin,
            7 => &mut self.autowrap,
            12 => &mut self.blinking_cursor,
            25 => &mut self.cursor_shown,
            40 => &mut self.may_change_columns,
            45 => &mut self.reverse_wrap,
            66 => &mut self.keypad,
            69 => &mut self.side_margins,
            1004 => &mut self.focus,
            1007 => &mut self.wheel_arrows,
            2004 => &mut self.bracketed_paste,
            2026 => &mut self.synchronized,
            _ => return None,
        })
    }

    /// Sets or resets a DEC mode that has no effect of its own. Says whether there is such a one.
    pub fn set_dec(&mut self, number: u16, on: bool) -> bool {
        if let Some(switch) = self.switch(number) {
            *switch = on;
            return true;
        }
        if let Some(mouse) = mouse_mode(number) {
            self.mouse = if on {
                mouse
            } else if self.mouse == mouse {
                MouseMode::Off
            } else {
                self.mouse
            };
            return true;
        }
        let Some(encoding) = mouse_encoding(number) else { return false };
        self.mouse_encoding = if on {
            encoding
        } else if self.mouse_encoding == encoding {
            MouseEncoding::Bytes
        } else {
            self.mouse_encoding
        };
        true
    }

    /// How a DEC mode stands; `None` when it is not known here.
    pub fn dec(mut self, number: u16) -> Option<bool> {
        if let Some(switch) = self.switch(number) {
            return Some(*switch);
        }
        mouse_mode(number)
            .map(|mouse| self.mouse == mouse)
            .or_else(|| mouse_encoding(number).map(|encoding| self.mouse_encoding == encoding))
    }

    /// Sets or resets an ANSI mode.
    pub const fn set_ansi(&mut self, number: u16, on: bool) {
        match number {
            4 => self.insert = on,
            20 => self.newline = on,
            _ => {}
        }
    }

    /// How an ANSI mode stands.
    pub const fn ansi(&self, number: u16) -> Option<bool> {
        match number {
            4 => Some(self.insert),
            20 => Some(self.newline),
            _ => None,
        }
    }
}

const fn mouse_mode(number: u16) -> Option<MouseMode> {
    match number {
        9 => Some(MouseMode::Press),
        1000 => Some(MouseMode::Buttons),
        1002 => Some(MouseMode::Drags),
        1003 => Some(MouseMode::Moves),
        _ => None,
    }
}

const fn mouse_encoding(number: u16) -> Option<MouseEncoding> {
    match number {
        1005 => Some(MouseEncoding::Utf8),
        1006 => Some(MouseEncoding::Sgr),
        1015 => Some(MouseEncoding::Urxvt),
        _ => None,
    }
}

/// The most modes that are remembered at a time (XTSAVE).
const SAVED_MAX: usize = 64;

/// Modes put aside with `CSI ? … s`, for `CSI ? … r`.
#[derive(Debug, Clone, Default)]
pub struct SavedModes(Vec<(u16, bool)>);

impl SavedModes {
    pub fn save(&mut self, number: u16, on: bool) {
        self.0.retain(|(saved, _)| *saved != number);
        if self.0.len() < SAVED_MAX {
            self.0.push((number, on));
        }
    }

    pub fn get(&self, number: u16) -> Option<bool> {
        self.0.iter().find(|(saved, _)| *saved == number).map(|(_, on)| *on)
    }
}

/// The answer to DECRQM: 1 set, 2 reset, 0 not known.
pub fn report(csi: &Csi, state: Option<bool>) -> String {
    let marker = if csi.marker == b'?' { "?" } else { "" };
    let value = match state {
        Some(true) => 1,
        Some(false) => 2,
        None => 0,
    };
    format!("\x1b[{marker}{};{value}$y", csi.get(0))
}
