//! A screen as a picture: cells to SVG, with no font but the reader's own.
//!
//! Words are text, each run pinned to its columns, so that any monospaced font
//! fits; signs stand in the middle of their cell, whichever font has them;
//! lines, bars and blocks are drawn, so that they join in every font.

use std::fmt::Write as _;

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};
use unicode_width::UnicodeWidthStr as _;

/// One cell, in pixels.
const CELL: (f32, f32) = (8.4, 18.0);
/// Where text stands in a cell, from its top.
const BASELINE: f32 = 13.2;
const FONT_SIZE: u8 = 14;
const MARGIN: f32 = 14.0;
const TITLE_BAR: f32 = 30.0;
const INK: &str = "#d3d7de";
const GROUND: &str = "#15181d";
const FRAME: &str = "#22262d";
const QUIET: &str = "#8b919b";
/// How strong a line and a bar are, in pixels.
const LINE: f32 = 1.2;
const BAR: f32 = 4.0;

/// Draws a screen in a window with a title.
pub(crate) fn picture(buffer: &Buffer, title: &str) -> String {
    let (columns, rows) = (f32::from(buffer.area.width), f32::from(buffer.area.height));
    let width = columns * CELL.0 + 2.0 * MARGIN;
    let height = rows * CELL.1 + TITLE_BAR + MARGIN;
    let mut svg = Svg::default();
    svg.put(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" width="{}" font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace" font-size="{FONT_SIZE}">"#,
        px(width), px(height), px(width)
    ));
    svg.put(format_args!("<title>{}</title>", escaped(title)));
    svg.put(format_args!(
        r#"<rect width="{}" height="{}" rx="9" fill="{GROUND}" stroke="{FRAME}"/>"#,
        px(width),
        px(height)
    ));
    svg.put(format_args!(
        r#"<text x="{}" y="19.5" fill="{QUIET}" font-size="12" text-anchor="middle">{}</text>"#,
        px(width / 2.0),
        escaped(title)
    ));
    svg.put(format_args!(r#"<g transform="translate({} {})">"#, px(MARGIN), px(TITLE_BAR)));
    for (y, row) in buffer.content.chunks(usize::from(buffer.area.width.max(1))).enumerate() {
        svg.row(y as f32 * CELL.1, row);
    }
    svg.text.push_str("</g>\n</svg>\n");
    svg.text
}

#[derive(Default)]
struct Svg {
    text: String,
}

impl Svg {
    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{element}").expect("writing to a string cannot fail");
    }

    fn rect(&mut self, (x, y): (f32, f32), (wide, high): (f32, f32), fill: &str) {
        self.put(format_args!(
            r#"<rect x="{}" y="{}" width="{}" height="{}" fill="{fill}"/>"#,
            px(x),
            px(y),
            px(wide),
            px(high)
        ));
    }

    fn row(&mut self, top: f32, row: &[Cell]) {
        for (x, cells) in runs(row, |a, b| paint(a).1 == paint(b).1) {
            if let (_, Some(ground)) = paint(&cells[0]) {
                let size = (cells.len() as f32 * CELL.0, CELL.1);
                self.rect((x as f32 * CELL.0, top), size, &ground);
            }
        }
        let alike = |a: &Cell, b: &Cell| {
            paint(a).0 == paint(b).0
                && a.modifier == b.modifier
                && kind(a) == kind(b)
                && (kind(a) == Kind::Word || a.symbol() == b.symbol())
                && !matches!(kind(a), Kind::Sign)
        };
        for (x, cells) in runs(row, alike) {
            let left = x as f32 * CELL.0;
            let (ink, _) = paint(&cells[0]);
            match kind(&cells[0]) {
                Kind::Blank => {}
                Kind::Word => {
                    let word: String = cells.iter().map(Cell::symbol).collect();
                    self.put(format_args!(
                        r#"<text x="{}" y="{}" textLength="{}" fill="{ink}"{}>{}</text>"#,
                        px(left),
                        px(top + BASELINE),
                        px(cells.len() as f32 * CELL.0),
                        attributes(&cells[0]),
                        escaped(&word)
                    ));
                }
                Kind::Sign => {
                    let wide = cells[0].symbol().width() as f32;
                    self.put(format_args!(
                        r#"<text x="{}" y="{}" text-anchor="middle" fill="{ink}"{}>{}</text>"#,
                        px(left + wide * CELL.0 / 2.0),
                        px(top + BASELINE),
                        attributes(&cells[0]),
                        escaped(cells[0].symbol())
                    ));
                }
                Kind::Drawn => self.drawn((left, top), cells, &ink),
            }
        }
    }

    /// Lines, bars and blocks: the same one, once or more.
    fn drawn(&mut self, (left, top): (f32, f32), cells: &[Cell], ink: &str) {
        let wide = cells.len() as f32 * CELL.0;
        let (middle, centre) = (top + CELL.1 / 2.0, left + CELL.0 / 2.0);
        let symbol = cells[0].symbol();
        let eighths = "▁▂▃▄▅▆▇█".chars().position(|c| symbol.starts_with(c));
        match (symbol, eighths) {
            ("─", _) => self.rect((left, middle - LINE / 2.0), (wide, LINE), ink),
            ("━", _) => self.rect((left, middle - BAR / 2.0), (wide, BAR), ink),
            ("╸", _) => self.rect((left, middle - BAR / 2.0), (CELL.0 / 2.0, BAR), ink),
            ("▀", _) => self.rect((left, top), (wide, CELL.1 / 2.0), ink),
            ("▌", _) => self.rect((left, top), (CELL.0 / 2.0, CELL.1), ink),
            (_, Some(eighths)) => {
                let high = CELL.1 * (eighths + 1) as f32 / 8.0;
                self.rect((left, top + CELL.1 - high), (wide, high), ink);
            }
            ("│", _) => {
                for n in 0..cells.len() {
                    let x = centre + n as f32 * CELL.0 - LINE / 2.0;
                    self.rect((x, top), (LINE, CELL.1), ink);
                }
            }
            (corner, _) => {
                let (dx, dy) = match corner {
                    "╭" => (1.0, 1.0),
                    "╮" => (-1.0, 1.0),
                    "╰" => (1.0, -1.0),
                    _ => (-1.0, -1.0),
                };
                let (along, down) = (dx * CELL.0 / 2.0, dy * CELL.1 / 2.0);
                self.put(format_args!(
                    r#"<path d="M{} {}v{}q0 {} {} {}" fill="none" stroke="{ink}" stroke-width="{LINE}"/>"#,
                    px(centre), px(middle + down), px(-down + dy * CELL.0 / 2.0),
                    px(-dy * CELL.0 / 2.0), px(along), px(-dy * CELL.0 / 2.0)
                ));
            }
        }
    }
}

/// How a cell is put into the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Blank,
    Word,
    Sign,
    Drawn,
}

fn kind(cell: &Cell) -> Kind {
    match cell.symbol() {
        " " => Kind::Blank,
        symbol if symbol.is_ascii() => Kind::Word,
        symbol if "─━╸│╭╮╰╯▀▌▁▂▃▄▅▆▇█".contains(symbol) => {
            Kind::Drawn
        }
        _ => Kind::Sign,
    }
}

/// Cells side by side that are alike, with the column of the first.
fn runs(
    row: &[Cell],
    alike: impl Fn(&Cell, &Cell) -> bool,
) -> impl Iterator<Item = (usize, &[Cell])> {
    let mut x = 0;
    row.chunk_by(move |a, b| alike(a, b)).map(move |cells| {
        x += cells.len();
        (x - cells.len(), cells)
    })
}

/// Ink and ground, as a terminal shows them.
fn paint(cell: &Cell) -> (String, Option<String>) {
    let ink = color(cell.fg).unwrap_or_else(|| INK.to_owned());
    let ground = color(cell.bg);
    if cell.modifier.contains(Modifier::REVERSED) {
        return (ground.unwrap_or_else(|| GROUND.to_owned()), Some(ink));
    }
    (ink, ground)
}

/// The colours of the 256 that every terminal has alike; the theme uses no others.
fn color(color: Color) -> Option<String> {
    match color {
        Color::Indexed(index @ 16..=231) => {
            let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
            let n = index - 16;
            let (r, g, b) = (level(n / 36), level(n / 6 % 6), level(n % 6));
            Some(format!("#{r:02x}{g:02x}{b:02x}"))
        }
        Color::Indexed(index @ 232..) => {
            let grey = 8 + 10 * (index - 232);
            Some(format!("#{grey:02x}{grey:02x}{grey:02x}"))
        }
        Color::Reset => None,
        other => panic!("{other:?} looks different on each terminal"),
    }
}

fn attributes(cell: &Cell) -> String {
    let mut text = String::new();
    for (modifier, attribute) in [
        (Modifier::BOLD, r#" font-weight="600""#),
        (Modifier::DIM, r#" opacity="0.6""#),
        (Modifier::ITALIC, r#" font-style="italic""#),
        (Modifier::UNDERLINED, r#" text-decoration="underline""#),
    ] {
        if cell.modifier.contains(modifier) {
            text.push_str(attribute);
        }
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A length with as many digits as are seen.
fn px(length: f32) -> String {
    let text = format!("{length:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

#[test]
fn words_lines_and_signs_each_in_their_way() {
    use ratatui::style::Style;
    let mut buffer = Buffer::empty(ratatui::layout::Rect::new(0, 0, 12, 1));
    buffer.set_string(
        0,
        0,
        "a<b ── ●",
        Style::new().fg(Color::Indexed(16)).bg(Color::Indexed(255)),
    );
    let svg = picture(&buffer, "T");
    for part in [
        r##"<rect x="0" y="0" width="67.2" height="18" fill="#eeeeee"/>"##,
        r##"<text x="0" y="13.2" textLength="25.2" fill="#000000">a&lt;b</text>"##,
        r##"<rect x="33.6" y="8.4" width="16.8" height="1.2" fill="#000000"/>"##,
        r##"<text x="63" y="13.2" text-anchor="middle" fill="#000000">●</text>"##,
    ] {
        assert!(svg.contains(part), "{part}\n{svg}");
    }
}
