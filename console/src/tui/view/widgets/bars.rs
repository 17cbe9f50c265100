//! Bars, sparklines and big numbers.

use ratatui::layout::Rect;

use crate::tui::{theme::Tone, view::canvas::Canvas};

/// A bar that is filled by `part` of `whole`.
pub fn bar(canvas: &mut Canvas<'_>, area: Rect, part: u64, whole: u64, tone: Tone) {
    let glyphs = canvas.glyphs();
    let style = canvas.style(tone);
    let faint = canvas.style(Tone::Faint);
    let steps = glyphs.bar_parts.len() as u64 + 1;
    let units = u64::from(area.width) * steps;
    let filled = (part.min(whole) * units).checked_div(whole).unwrap_or(0);
    let (full, rest) = ((filled / steps) as u16, (filled % steps) as usize);
    canvas.repeat(area.x, area.y, glyphs.bar_full, full, style);
    let mut x = area.x + full;
    if rest > 0 && x < area.right() {
        canvas.text(x, area.y, glyphs.bar_parts[rest - 1], style, 1);
        x += 1;
    }
    canvas.repeat(x, area.y, glyphs.bar_empty, area.right().saturating_sub(x), faint);
}

/// A bar without a ground: for comparing counts side by side.
pub fn plain_bar(
    canvas: &mut Canvas<'_>,
    x: u16,
    y: u16,
    room: u16,
    part: u64,
    most: u64,
    tone: Tone,
) {
    if most == 0 || part == 0 || room == 0 {
        return;
    }
    let glyphs = canvas.glyphs();
    let style = canvas.style(tone);
    let steps = glyphs.bar_parts.len() as u64 + 1;
    let filled = (part.min(most) * u64::from(room) * steps / most).max(1);
    let (full, rest) = ((filled / steps) as u16, (filled % steps) as usize);
    canvas.repeat(x, y, glyphs.bar_full, full, style);
    if rest > 0 && full < room {
        canvas.text(x + full, y, glyphs.bar_parts[rest - 1], style, 1);
    }
}

/// The last values as a line of small bars, the newest on the right.
pub fn sparkline(canvas: &mut Canvas<'_>, area: Rect, values: &[u64], tone: Tone) {
    let spark = canvas.glyphs().spark;
    let style = canvas.style(tone);
    let shown = &values[values.len().saturating_sub(usize::from(area.width))..];
    let (least, most) =
        (shown.iter().min().copied().unwrap_or(0), shown.iter().max().copied().unwrap_or(0));
    let top = (spark.len() - 1) as u64;
    let from = area.right() - shown.len() as u16;
    for (x, value) in (from..).zip(shown) {
        // Never empty where there is a value: a flat line is a line.
        let height =
            if most == least { 1 } else { 1 + (value - least) * (top - 1) / (most - least) };
        canvas.text(x, area.y, spark[height as usize], style, 1);
    }
}

/// How a digit looks on a grid of 3 by 5.
const DIGITS: [[u8; 5]; 10] = [
    [0b111, 0b101, 0b101, 0b101, 0b111],
    [0b010, 0b110, 0b010, 0b010, 0b111],
    [0b111, 0b001, 0b111, 0b100, 0b111],
    [0b111, 0b001, 0b111, 0b001, 0b111],
    [0b101, 0b101, 0b111, 0b001, 0b001],
    [0b111, 0b100, 0b111, 0b001, 0b111],
    [0b111, 0b100, 0b111, 0b101, 0b111],
    [0b111, 0b001, 0b010, 0b010, 0b010],
    [0b111, 0b101, 0b111, 0b101, 0b111],
    [0b111, 0b101, 0b111, 0b001, 0b111],
];

/// The rows that a big number takes: three with half blocks, five in ASCII.
pub const fn big_rows(unicode: bool) -> u16 {
    if unicode { 3 } else { 5 }
}

/// How wide a big number is.
pub fn big_width(text: &str) -> u16 {
    text.chars().map(|c| if c == ' ' { 2 } else { 4 }).sum::<u16>().saturating_sub(1)
}

/// Draws digits big; other characters are gaps.
pub fn big(canvas: &mut Canvas<'_>, x: u16, y: u16, text: &str, tone: Tone) {
    let glyphs = canvas.glyphs();
    let style = canvas.style(tone);
    let unicode = canvas.theme().unicode;
    let mut at = x;
    for c in text.chars() {
        let Some(digit) = c.to_digit(10) else {
            at += 2;
            continue;
        };
        let rows = DIGITS[digit as usize];
        for column in 0..3_u16 {
            let on = |row: usize| rows.get(row).is_some_and(|bits| bits >> (2 - column) & 1 == 1);
            if unicode {
                for half in 0..3_u16 {
                    let (upper, lower) = (on(usize::from(half) * 2), on(usize::from(half) * 2 + 1));
                    let glyph = match (upper, lower) {
                        (true, true) => glyphs.big_full,
                        (true, false) => glyphs.big_upper,
                        (false, true) => glyphs.big_lower,
                        (false, false) => continue,
                    };
                    canvas.text(at + column, y + half, glyph, style, 1);
                }
            } else {
                for row in 0..5_u16 {
                    if on(usize::from(row)) {
                        canvas.text(at + column, y + row, glyphs.big_full, style, 1);
                    }
                }
            }
        }
        at += 4;
    }
}
