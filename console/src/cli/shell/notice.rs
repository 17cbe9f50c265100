//! A notice of ours on the screen of a device: one row, reversed, and gone
//! without a trace.
//!
//! It stands on the last row, or on the first when the cursor is on the last. What
//! it covered is drawn anew from the model. Pure.

use quarterdeck_protocol::text;

use crate::{
    cli::table,
    tui::pane::{Pane, sgr, widget::is_honest},
};

/// At most one notice.
#[derive(Debug, Default)]
pub(super) struct Notice {
    /// The row that is covered.
    row: Option<u16>,
    said: String,
    is_help: bool,
}

impl Notice {
    pub(super) const fn is_shown(&self) -> bool {
        self.row.is_some()
    }

    pub(super) const fn is_help(&self) -> bool {
        self.is_help
    }

    /// The next [`Self::put`] is an explanation.
    pub(super) const fn explain(&mut self) {
        self.is_help = true;
    }

    /// The screen was drawn anew: nothing is covered any more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// What shows `said`; nothing when that is shown already.
    pub(super) fn put(&mut self, said: &str, model: &mut Pane) -> Vec<u8> {
        let mut shown = Vec::new();
        let size = model.screen().size();
        let last = size.rows.saturating_sub(1);
        let row = if model.screen().cursor().row == last { 0 } else { last };
        if self.row == Some(row) && self.said == said {
            return shown;
        }
        if self.row.is_some_and(|covered| covered != row) {
            shown = self.uncover(model);
        }
        let width = usize::from(size.cols).saturating_sub(1);
        let said_shown = table::cut(&text::line(&format!(" quarterdeck: {said} ")), width);
        begin(&mut shown, model);
        shown.extend(format!("\x1b[{};1H\x1b[0;7m\x1b[2K{said_shown}\x1b[m", row + 1).bytes());
        end(&mut shown, model);
        self.row = Some(row);
        said.clone_into(&mut self.said);
        shown
    }

    /// What takes it away.
    pub(super) fn take_away(&mut self, model: &mut Pane) -> Vec<u8> {
        let shown = self.uncover(model);
        self.forget();
        shown
    }

    fn uncover(&self, model: &mut Pane) -> Vec<u8> {
        let mut shown = Vec::new();
        let Some(row) = self.row else { return shown };
        model.refresh(u64::MAX);
        begin(&mut shown, model);
        shown.extend(format!("\x1b[{};1H\x1b[m\x1b[2K", row + 1).bytes());
        let size = model.screen().size();
        let mut pen = None;
        for look in (0..size.cols).filter_map(|col| model.display().look(row, col)) {
            if pen != Some(look.attrs) {
                pen = Some(look.attrs);
                shown.extend(format!("\x1b[{}m", sgr::spell(look.attrs)).bytes());
            }
            let honest = look.text.chars().filter(|c| is_honest(*c));
            shown.extend(honest.collect::<String>().bytes());
        }
        end(&mut shown, model);
        shown
    }
}

/// Puts aside where the device writes, and how.
fn begin(shown: &mut Vec<u8>, model: &Pane) {
    shown.extend_from_slice(b"\x1b7\x1b[?6l\x1b[?7l\x0f\x1b(B");
    if model.screen().modes().insert {
        shown.extend_from_slice(b"\x1b[4l");
    }
}

fn end(shown: &mut Vec<u8>, model: &Pane) {
    let modes = model.screen().modes();
    if modes.insert {
        shown.extend_from_slice(b"\x1b[4h");
    }
    if modes.autowrap {
        shown.extend_from_slice(b"\x1b[?7h");
    }
    // Position, colours, character sets and the origin come back with it.
    shown.extend_from_slice(b"\x1b8");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::pane::{notices::Allowed, screen::PaneSize};

    fn picture(pane: &mut Pane) -> String {
        pane.refresh(u64::MAX);
        let size = pane.display().size();
        let row = |row| {
            let texts = (0..size.cols).filter_map(|col| pane.display().look(row, col));
            texts.map(|look| look.text).collect::<String>().trim_end().to_owned()
        };
        (0..size.rows).map(row).collect::<Vec<_>>().join("\n")
    }

    fn pane() -> Pane {
        Pane::with_history(PaneSize::new(4, 30), Allowed::default(), 0)
    }

    #[test]
    fn a_notice_goes_without_a_trace() {
        for written in
            ["a\r\nb\r\nc\r\n\x1b[31mlast", "\x1b[2;3r\x1b[?6hin the middle", "\x1b[4hx\x1b[1;30Hy"]
        {
            // What the operator's terminal shows, and what the device wrote.
            let (mut terminal, mut model) = (pane(), pane());
            terminal.feed(written.as_bytes());
            model.feed(written.as_bytes());
            let before = picture(&mut terminal);
            let mut notice = Notice::default();
            terminal.feed(&notice.put("LOST 3 s", &mut model));
            assert!(picture(&mut terminal).contains("quarterdeck: LOST 3 s"), "{written:?}");
            assert_eq!(notice.put("LOST 3 s", &mut model), b"");
            terminal.feed(&notice.put("LOST 4 s", &mut model));
            terminal.feed(&notice.take_away(&mut model));
            assert_eq!(picture(&mut terminal), before, "{written:?}");
            assert_eq!(terminal.screen().cursor(), model.screen().cursor(), "{written:?}");
            assert_eq!(terminal.screen().modes(), model.screen().modes(), "{written:?}");
            for text in ["after", "\r\nmore"] {
                terminal.feed(text.as_bytes());
                model.feed(text.as_bytes());
            }
            assert_eq!(picture(&mut terminal), picture(&mut model), "{written:?}");
            assert_eq!(notice.take_away(&mut model), b"");
        }
    }

    #[test]
    fn it_covers_no_row_with_the_cursor() {
        let mut model = pane();
        let mut notice = Notice::default();
        let shown = notice.put("x", &mut model);
        assert!(shown.windows(6).any(|part| part == b"\x1b[4;1H"));
        model.feed(b"\n\n\n");
        let shown = String::from_utf8(notice.put("x", &mut model)).expect("text");
        assert!(shown.contains("\x1b[1;1H") && shown.contains("\x1b[4;1H"), "moved: {shown:?}");
    }
}
