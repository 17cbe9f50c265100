//! The peer: ratatui's own backend, drawing what a terminal shows.

use std::{
    cell::Cell,
    io::{self, Write},
    rc::Rc,
};

use anyhow::Result;
use ratatui::{
    Terminal, TerminalOptions, Viewport,
    backend::CrosstermBackend,
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier},
};

/// A terminal that only counts what is written to it.
#[derive(Debug, Clone, Default)]
struct Counter(Rc<Cell<usize>>);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.set(self.0.get() + bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Draws one screen after another.
pub(crate) struct Stock {
    terminal: Terminal<CrosstermBackend<Counter>>,
    written: Counter,
}

impl Stock {
    pub(crate) fn new(cols: u16, rows: u16) -> Result<Self> {
        let written = Counter::default();
        let viewport = Viewport::Fixed(Rect::new(0, 0, cols, rows));
        let backend = CrosstermBackend::new(written.clone());
        let terminal = Terminal::with_options(backend, TerminalOptions { viewport })?;
        Ok(Self { terminal, written })
    }

    /// Draws what a terminal shows; gives the bytes that it takes from the screen before.
    pub(crate) fn draw(&mut self, screen: &vt100::Screen) -> Result<usize> {
        let before = self.written.0.get();
        self.terminal.draw(|frame| copy(screen, frame.buffer_mut()))?;
        Ok(self.written.0.get() - before)
    }
}

fn copy(screen: &vt100::Screen, buffer: &mut Buffer) {
    for y in 0..buffer.area.height {
        for x in 0..buffer.area.width {
            let Some(from) = screen.cell(y, x).filter(|cell| !cell.is_wide_continuation()) else {
                continue;
            };
            let to = &mut buffer[(x, y)];
            to.set_symbol(if from.has_contents() { from.contents() } else { " " });
            to.set_fg(color(from.fgcolor())).set_bg(color(from.bgcolor()));
            to.modifier = [
                (from.bold(), Modifier::BOLD),
                (from.dim(), Modifier::DIM),
                (from.italic(), Modifier::ITALIC),
                (from.underline(), Modifier::UNDERLINED),
                (from.inverse(), Modifier::REVERSED),
            ]
            .into_iter()
            .filter_map(|(is_on, modifier)| is_on.then_some(modifier))
            .collect();
        }
    }
}

const fn color(color: vt100::Color) -> Color {
    match color {
        vt100::Color::Default => Color::Reset,
        vt100::Color::Idx(index) => Color::Indexed(index),
        vt100::Color::Rgb(r, g, b) => Color::Rgb(r, g, b),
    }
}
