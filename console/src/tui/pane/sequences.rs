//! What each control and sequence does, as ECMA-48, the VT manuals and xterm's
//! own description have it: bytes in, rows and cursor out.

use proptest::prelude::*;

use super::{
    cell::{Cell, Colour},
    history::History,
    notices::Notices,
    parser::Parser,
    screen::{PaneSize, Screen},
};

/// A screen of 4 rows and 8 columns, after some bytes.
fn fed(bytes: &str) -> Screen {
    sized(4, 8, bytes)
}

fn sized(rows: u16, cols: u16, bytes: &str) -> Screen {
    let mut screen = Screen::new(PaneSize::new(rows, cols), History::new(100), Notices::default());
    Parser::default().advance(bytes.as_bytes(), &mut screen);
    screen
}

/// Its rows, `/` between them, blanks at their ends left out.
fn text(screen: &Screen) -> String {
    let row = |cells: &[Cell]| {
        cells.iter().map(Cell::text).collect::<String>().trim_end_matches(' ').to_owned()
    };
    let rows: Vec<String> = screen.grid().rows().map(|line| row(line.cells())).collect();
    rows.join("/").trim_end_matches('/').to_owned()
}

/// Row and column of the cursor, from 0.
fn at(screen: &Screen) -> (u16, u16) {
    (screen.cursor().row, screen.cursor().col)
}

/// Asserts rows and cursor for each of some inputs.
#[track_caller]
fn all(cases: &[(&str, &str, (u16, u16))]) {
    for (bytes, rows, cursor) in cases {
        let screen = fed(bytes);
        assert_eq!((text(&screen).as_str(), at(&screen)), (*rows, *cursor), "{bytes:?}");
    }
}

/// Asserts the answer to each of some questions.
#[track_caller]
fn answers(cases: &[(&str, &str)]) {
    for (bytes, answer) in cases {
        let screen = fed(bytes);
        assert_eq!(String::from_utf8_lossy(&screen.replies), *answer, "{bytes:?}");
    }
}

/// Rows that say where they are.
const ROWS: &str = "aaa\r\nbbb\r\nccc\r\nddd";
/// One row full to its end.
const FULL: &str = "abcdefgh";

#[test]
fn controls_move_the_cursor() {
    all(&[
        ("ab\x08", "ab", (0, 1)),
        ("\x08", "", (0, 0)),
        ("ab\rc", "cb", (0, 1)),
        ("ab\nc", "ab/  c", (1, 3)),
        ("ab\x0bc\x0cd", "ab/  c/   d", (2, 4)),
        ("\x1b[20hab\nc", "ab/c", (1, 1)),
        ("ab\x1bDc", "ab/  c", (1, 3)),
        ("ab\x1bEc", "ab/c", (1, 1)),
        ("ab\u{84}c\u{85}d", "ab/  c/d", (2, 1)),
        ("\x1b[3;2Hx\x1bMy", "/  y/ x", (1, 3)),
        ("\0\x05\x7fa", "a", (0, 1)),
    ]);
}

#[test]
fn sequences_move_the_cursor_within_the_page() {
    all(&[
        ("\x1b[2;3H", "", (1, 2)),
        ("\x1b[2;3f\x1b[H", "", (0, 0)),
        ("\x1b[99;99H", "", (3, 7)),
        ("\x1b[3;4H\x1b[A", "", (1, 3)),
        ("\x1b[3;4H\x1b[9A", "", (0, 3)),
        ("\x1b[3;4H\x1b[0B", "", (3, 3)),
        ("\x1b[3;4H\x1b[2C", "", (2, 5)),
        ("\x1b[3;4H\x1b[99C", "", (2, 7)),
        ("\x1b[3;4H\x1b[2D", "", (2, 1)),
        ("\x1b[3;4H\x1b[99D", "", (2, 0)),
        ("\x1b[2;4H\x1b[E", "", (2, 0)),
        ("\x1b[3;4H\x1b[2F", "", (0, 0)),
        ("\x1b[3;4H\x1b[6G", "", (2, 5)),
        ("\x1b[3;4H\x1b[6`", "", (2, 5)),
        ("\x1b[3;4H\x1b[2a", "", (2, 5)),
        ("\x1b[3;4H\x1b[2d", "", (1, 3)),
        ("\x1b[2;4H\x1b[e", "", (2, 3)),
        ("\x1b[2;4H\x1b[9e", "", (3, 3)),
    ]);
}

#[test]
fn a_full_row_wraps_at_the_next_character_only() {
    all(&[
        (FULL, FULL, (0, 7)),
        ("abcdefghi", "abcdefgh/i", (1, 1)),
        ("abcdefgh\r\ni", "abcdefgh/i", (1, 1)),
        ("abcdefgh\x08i", "abcdefih", (0, 7)),
        ("abcdefgh\x1b[D!", "abcdef!h", (0, 7)),
        ("abcdefgh\ti", "abcdefgh/i", (1, 1)),
        ("abcdefgh\x1b[1mi", "abcdefgh/i", (1, 1)),
        ("abcdefgh\x1b[8Gi", "abcdefgi", (0, 7)),
        ("abcdefgh\ni", "abcdefgh/       i", (1, 7)),
        // Saved and restored with the cursor.
        ("abcdefgh\x1b7\x1b[H\x1b8i", "abcdefgh/i", (1, 1)),
        // Without autowrap the last column is written over.
        ("\x1b[?7labcdefghij", "abcdefgj", (0, 7)),
        ("\x1b[?7labcdefgh\x1b[?7hij", "abcdefgi/j", (1, 1)),
    ]);
    let screen = fed("abcdefghi\r\nx");
    let wrapped: Vec<bool> = screen.grid().rows().map(|row| row.wrapped).collect();
    assert_eq!(wrapped, [true, false, false, false]);
}

#[test]
fn clearing_after_a_full_row_takes_its_last_character() {
    all(&[
        ("abcdefgh\x1b[K", "abcdefg", (0, 7)),
        ("abcdefgh\x1b[Ki", "abcdefgi", (0, 7)),
        ("abcdefgh\x1b[Ji", "abcdefgi", (0, 7)),
        ("abcdefgh\x1b[1K", "", (0, 7)),
        ("abcdefgh\x1b[J", "abcdefg", (0, 7)),
        ("abcdefgh\x1b[X", "abcdefg", (0, 7)),
        ("abcdefgh\x1b[Xi", "abcdefgi", (0, 7)),
        ("abcdefgh\x1b[@i", "abcdefgi", (0, 7)),
        ("abcdefgh\x1b[Pi", "abcdefgi", (0, 7)),
        ("abcdefgh\x1b[1Ki", "       i", (0, 7)),
        ("abcdefgh\x1b[2Ki", "       i", (0, 7)),
        ("abcdefgh\x1b[1Ji", "       i", (0, 7)),
        ("abcdefgh\x1b[2Ji", "       i", (0, 7)),
        ("abcdefgh\x1b[9Ki", "abcdefgh/i", (1, 1)),
        ("abcdefgh\x1b[Li", "i/abcdefgh", (0, 1)),
    ]);
}

#[test]
fn margins_hold_what_belongs_within_them() {
    const SIDES: &str = "\x1b[?69h\x1b[2;5s";
    all(&[
        // HPR passes the right one, CUF does not.
        (&format!("{SIDES}\x1b[1;3H\x1b[9ax"), "       x", (0, 7)),
        (&format!("{SIDES}\x1b[1;3H\x1b[9Cx"), "    x", (0, 4)),
        // In origin mode neither does.
        (&format!("{SIDES}\x1b[?6h\x1b[9a"), "", (0, 4)),
        (&format!("{SIDES}\x1b[?6h\x1b[2ax"), "   x", (0, 4)),
        // NEL in the last row, right of the margins, scrolls nothing.
        (&format!("a\r\nb\r\nc\r\nd{SIDES}\x1b[4;7H\x1bE"), "a/b/c/d", (3, 1)),
        // Nor does a full row there.
        (&format!("abcd{SIDES}\x1b[4;8Hwx"), "abcd/// x     w", (3, 2)),
        (&format!("abcd{SIDES}\x1b[4;5Hwx"), "a//    w/ x", (3, 2)),
        // Text that is inserted there pushes nothing.
        (&format!("abcdefgh{SIDES}\x1b[1;7H\x1b[4hx"), "abcdefxh", (0, 7)),
        (&format!("abcdefgh{SIDES}\x1b[4hx"), "xbcdefgh", (0, 1)),
        (&format!("abcdefgh{SIDES}\x1b[2;3r\x1b[1;4H\x1b[4hx"), "abcxdfgh", (0, 4)),
        // ICH shifts nothing there either, but ends a pending wrap; DCH does not.
        (&format!("{SIDES}\x1b[1;8Hw\x1b[3@x"), "       x", (0, 7)),
        (&format!("{SIDES}\x1b[1;8Hw\x1b[3Px"), "       w/ x", (1, 2)),
        // DECFI and DECBI at a margin move nothing, when what is within it cannot scroll.
        (&format!("{SIDES}\x1b[2;3r\x1b[4;5H\x1b9y"), "///    y", (3, 4)),
        (&format!("{SIDES}\x1b[2;3r\x1b[4;2H\x1b6y"), "/// y", (3, 2)),
        (&format!("{SIDES}\x1b[2;3r\x1b[4;1H\x1b9\x1b9y"), "///  y", (3, 3)),
        ("\x1b[2;3r\x1b[1;8Hz\x1b9y", "       z/y", (1, 1)),
    ]);
}

#[test]
fn wide_characters_take_two_columns() {
    all(&[
        ("日本", "日本", (0, 4)),
        ("abcdefg日", "abcdefg/日", (1, 2)),
        ("\x1b[?7labcdefg日", "abcdefg", (0, 7)),
        ("日\x08x", " x", (0, 2)),
        ("日\rx", "x", (0, 1)),
        ("日本\x1b[2G\x1b[P", " 本", (0, 1)),
        ("日本\x1b[2G\x1b[2X", "", (0, 1)),
        ("e\u{301}x", "e\u{301}x", (0, 2)),
        ("日\u{301}x", "日\u{301}x", (0, 3)),
        ("abcdefgh\u{301}", "abcdefgh\u{301}", (0, 7)),
        // A mark belongs to the last character, also where that left no room for the cursor.
        ("\x1b[?7labcdefghij\u{301}", "abcdefgj\u{301}", (0, 7)),
        ("\x1b[?7labcdefghij\x1b7\x1b[H\x1b8\u{301}", "abcdefgj\u{301}", (0, 7)),
        ("\x1b[?7l\x1b[1;8He\u{301}", "       e\u{301}", (0, 7)),
        ("abcdefgh\x1b[?7l\u{301}", "abcdefgh\u{301}", (0, 7)),
        ("\x1b[?69h\x1b[3;7s\x1b[?7l\x1b[1;3Habcde\u{301}", "  abcde\u{301}", (0, 6)),
        ("\x1b[?69h\x1b[3;7s\x1b[?7l\x1b[1;3Habcde\x1b[?69lf\u{301}", "  abcdf\u{301}", (0, 7)),
        // A variation selector has no width: programs on a device count so.
        ("❤\u{fe0f}x", "❤\u{fe0f}x", (0, 2)),
    ]);
}

#[test]
fn tabs_go_to_stops_that_can_be_set() {
    let wide = |bytes: &str| at(&sized(2, 40, bytes)).1;
    for (bytes, col) in [
        ("\t", 8),
        ("abc\t\t", 16),
        ("\x1b[3I", 24),
        ("\x1b[30G\x1b[Z", 24),
        ("\x1b[30G\x1b[2Z", 16),
        ("\x1b[30G\x1b[99Z", 0),
        ("\x1b[99I", 39),
        ("\x1b[4G\x1bH\r\t", 3),
        ("\x1b[9G\x1b[g\r\t", 16),
        ("\x1b[3g\r\t", 39),
        ("\x1b[3g\x1b[?5W\r\t", 8),
        ("\x1b[4G\x1b[W\r\t", 3),
        ("\x1b[9G\x1b[2W\r\t", 16),
        ("\x1b[5W\r\t", 39),
        ("\x1b[4G\u{88}\r\t", 3),
    ] {
        assert_eq!(wide(bytes), col, "{bytes:?}");
    }
}

#[test]
fn erasing_leaves_the_rest() {
    all(&[
        (&format!("{ROWS}\x1b[2;2H\x1b[J"), "aaa/b", (1, 1)),
        (&format!("{ROWS}\x1b[2;2H\x1b[1J"), "/  b/ccc/ddd", (1, 1)),
        (&format!("{ROWS}\x1b[2;2H\x1b[2J"), "", (1, 1)),
        (&format!("{ROWS}\x1b[2;2H\x1b[K"), "aaa/b/ccc/ddd", (1, 1)),
        (&format!("{ROWS}\x1b[2;2H\x1b[1K"), "aaa/  b/ccc/ddd", (1, 1)),
        (&format!("{ROWS}\x1b[2;2H\x1b[2K"), "aaa//ccc/ddd", (1, 1)),
        (&format!("{ROWS}\x1b[2;2H\x1b[X"), "aaa/b b/ccc/ddd", (1, 1)),
        (&format!("{ROWS}\x1b[2;2H\x1b[99X"), "aaa/b/ccc/ddd", (1, 1)),
    ]);
    let screen = sized(2, 4, "a\r\nb\r\nc\x1b[3J");
    assert_eq!((text(&screen).as_str(), screen.history().len()), ("b/c", 0));
}

#[test]
fn what_is_erased_takes_the_background() {
    for bytes in [
        "\x1b[41m\x1b[2J",
        "\x1b[41m\x1b[4X",
        "\x1b[41m\x1b[2@",
        "\x1b[41m\x1b[L",
        "\x1b[41m\x1b[T",
        "\x1b[31;41;4m\x1b[K",
    ] {
        let attrs = fed(bytes).grid().cell(0, 0).attrs;
        assert_eq!((attrs.bg, attrs.fg), (Colour::Indexed(1), Colour::Default), "{bytes:?}");
        assert_eq!(attrs.flags, super::cell::Flags::default(), "{bytes:?}");
    }
    let screen = fed("\x1b[44m\x1b[4H\n");
    assert_eq!(screen.grid().cell(3, 7).attrs.bg, Colour::Indexed(4));
}

#[test]
fn cells_and_lines_come_and_go() {
    all(&[
        ("abcdef\x1b[2G\x1b[2@", "a  bcdef", (0, 1)),
        ("abcdefgh\x1b[2G\x1b[@", "a bcdefg", (0, 1)),
        ("abcdef\x1b[2G\x1b[2P", "adef", (0, 1)),
        ("abcdef\x1b[2G\x1b[99P", "a", (0, 1)),
        ("abc\r\x1b[4hxy\x1b[4lz", "xyzbc", (0, 3)),
        ("abcdefgh\r\x1b[4h日", "日abcdef", (0, 2)),
        (&format!("{ROWS}\x1b[2;2H\x1b[L"), "aaa//bbb/ccc", (1, 0)),
        (&format!("{ROWS}\x1b[2;2H\x1b[99L"), "aaa", (1, 0)),
        (&format!("{ROWS}\x1b[2;2H\x1b[M"), "aaa/ccc/ddd", (1, 0)),
        // To the left margin, and only where the line is within the margins.
        (&format!("{ROWS}\x1b[?69h\x1b[2;4s\x1b[2;3H\x1b[L"), "aaa/b/cbb/dcc", (1, 1)),
        (&format!("{ROWS}\x1b[2;3r\x1b[4;3H\x1b[M"), "aaa/bbb/ccc/ddd", (3, 2)),
        (&format!("{ROWS}\x1b[S"), "bbb/ccc/ddd", (3, 3)),
        (&format!("{ROWS}\x1b[2T"), "//aaa/bbb", (3, 3)),
        (&format!("{ROWS}\x1b[1;1;1;1;1T"), "aaa/bbb/ccc/ddd", (3, 3)),
        ("ab\x1b[3b", "abbbb", (0, 5)),
        ("\x1b[3b", "", (0, 0)),
        ("日\x1b[2b", "日日日", (0, 6)),
        ("a\x1b[65534b", "aaaaaaaa/aaaaaaaa/aaaaaaaa/aaaaaaa", (3, 7)),
        ("\x1b(0q\x1b(B\x1b[2bq", "───q", (0, 4)),
        ("\x1b[?69h\x1b[3;7sx\x1b[9999b", "xxxxxxx/  xxxxx/  xxxxx/  xxx", (3, 5)),
        ("\x1b[?69h\x1b[3;7sab\x1b[2002b", "abbbbbb/  bbbbb/  bbbbb/  bb", (3, 4)),
    ]);
}

proptest! {
    /// As quick as it is: what would scroll off again is left out, and nothing else.
    #[test]
    fn a_repetition_shows_what_its_characters_one_by_one_would(
        before in prop::collection::vec(super::any_bytes::part(), 0..8),
        (rows, cols, n) in (1..8_u16, 1..20_u16, 1..800_u16),
        (left, right, top, bottom) in (1..9_u16, 1..20_u16, 1..8_u16, 1..8_u16),
        (row, col) in (1..8_u16, 1..20_u16),
        mode in prop::sample::select(vec!["", "\x1b[?7l", "\x1b[4h", "\x1b[?6h"]),
        c in prop::sample::select(vec!['x', '─', '日']),
    ) {
        let bytes = format!(
            "{}\x18\x1b\\\x1b[?69h\x1b[{left};{right}s\x1b[{top};{bottom}r{mode}\
             \x1b[{row};{col}H{c}",
            String::from_utf8_lossy(&before.concat()),
        );
        let mut quick = sized(rows, cols, &bytes);
        let mut slow = quick.clone();
        Parser::default().advance(format!("\x1b[{n}b").as_bytes(), &mut quick);
        if let Some(c) = slow.last {
            (0..n).for_each(|_| slow.write(c));
        }
        let lines = |screen: &Screen| {
            screen.grid().rows().map(|row| (row.cells().to_vec(), row.wrapped)).collect::<Vec<_>>()
        };
        prop_assert_eq!(quick.cursor(), slow.cursor(), "{:?}", bytes);
        prop_assert_eq!(lines(&quick), lines(&slow), "{:?}", bytes);
    }
}

#[test]
fn margins_keep_what_scrolls_between_them() {
    all(&[
        (&format!("{ROWS}\x1b[2;3r"), "aaa/bbb/ccc/ddd", (0, 0)),
        (&format!("{ROWS}\x1b[2;3r\x1b[3;2H\nx"), "aaa/ccc/ x/ddd", (2, 2)),
        (&format!("{ROWS}\x1b[2;3r\x1b[2H\x1bMx"), "aaa/x/bbb/ddd", (1, 1)),
        (&format!("{ROWS}\x1b[2;3r\x1b[S"), "aaa/ccc//ddd", (0, 0)),
        (&format!("{ROWS}\x1b[2;3r\x1b[T"), "aaa//bbb/ddd", (0, 0)),
        (&format!("{ROWS}\x1b[2;3r\x1b[2H\x1b[L"), "aaa//bbb/ddd", (1, 0)),
        (&format!("{ROWS}\x1b[2;3r\x1b[2H\x1b[M"), "aaa/ccc//ddd", (1, 0)),
        // Outside of the margins nothing scrolls.
        (&format!("{ROWS}\x1b[2;3r\x1b[L\x1b[M"), "aaa/bbb/ccc/ddd", (0, 0)),
        (&format!("{ROWS}\x1b[2;3r\x1b[4H\n\nx"), "aaa/bbb/ccc/xdd", (3, 1)),
        (&format!("{ROWS}\x1b[2;3r\x1b[H\x1bMx"), "xaa/bbb/ccc/ddd", (0, 1)),
        // The cursor stops at a margin from inside, at the edge from outside.
        ("\x1b[2;3r\x1b[3H\x1b[9A", "", (1, 0)),
        ("\x1b[2;3r\x1b[2H\x1b[9B", "", (2, 0)),
        ("\x1b[2;3r\x1b[4H\x1b[9B", "", (3, 0)),
        // Margins of less than two rows are none.
        ("\x1b[2;2r\x1b[4;4H", "", (3, 3)),
        ("\x1b[3;2r\x1b[4;4H", "", (3, 3)),
        ("\x1b[2;3r\x1b[r\x1b[4H\x1b[9A", "", (0, 0)),
    ]);
}

#[test]
fn origin_mode_counts_from_the_margins() {
    all(&[
        ("\x1b[2;3r\x1b[?6hx", "/x", (1, 1)),
        ("\x1b[2;3r\x1b[?6h\x1b[9;9H", "", (2, 7)),
        ("\x1b[2;3r\x1b[?6h\x1b[2d", "", (2, 0)),
        ("\x1b[2;3r\x1b[?6h\x1b[9e", "", (2, 0)),
        ("\x1b[2;3r\x1b[?6h\x1b[?6lx", "x", (0, 1)),
        ("\x1b[2;3r\x1b[?6h\x1b7\x1b[?6l\x1b8\x1b[H", "", (1, 0)),
    ]);
    answers(&[("\x1b[2;3r\x1b[?6h\x1b[2;2H\x1b[6n", "\x1b[2;2R")]);
}

#[test]
fn side_margins_bound_text_and_scrolling() {
    let block = "abcdefgh\r\nijklmnop\r\nqrstuvwx\x1b[?69h\x1b[3;5s";
    all(&[
        ("\x1b[?69h\x1b[3;5s\x1b[3Gwxyz", "  wxy/  z", (1, 3)),
        (&format!("{block}\x1b[1;3H\x1b[@"), "ab cdfgh/ijklmnop/qrstuvwx", (0, 2)),
        (&format!("{block}\x1b[1;3H\x1b[P"), "abde fgh/ijklmnop/qrstuvwx", (0, 2)),
        (&format!("{block}\x1b[1;2H\x1b[P"), "abcdefgh/ijklmnop/qrstuvwx", (0, 1)),
        (&format!("{block}\x1b[2;3H\x1b[L"), "abcdefgh/ij   nop/qrklmvwx/  stu", (1, 2)),
        (&format!("{block}\x1b[2;3H\x1b[M"), "abcdefgh/ijstunop/qr   vwx", (1, 2)),
        (&format!("{block}\x1b[S"), "abklmfgh/ijstunop/qr   vwx", (0, 0)),
        (&format!("{block}\x1b[T"), "ab   fgh/ijcdenop/qrklmvwx/  stu", (0, 0)),
        (&format!("{block}\x1b[1;4H\x1b['}}"), "abc dfgh/ijk lnop/qrs tvwx", (0, 3)),
        (&format!("{block}\x1b[1;4H\x1b['~"), "abce fgh/ijkm nop/qrsu vwx", (0, 3)),
        (&format!("{block}\x1b[1;3H\x1b[ @"), "abde fgh/ijlm nop/qrtu vwx", (0, 2)),
        (&format!("{block}\x1b[1;3H\x1b[ A"), "ab cdfgh/ij klnop/qr stvwx", (0, 2)),
        (&format!("{block}\x1b[1;3H\x1b6"), "ab cdfgh/ij klnop/qr stvwx", (0, 2)),
        (&format!("{block}\x1b[1;5H\x1b9"), "abde fgh/ijlm nop/qrtu vwx", (0, 4)),
        // A return goes to the margin from inside, to the edge from outside.
        (&format!("{block}\x1b[1;4H\r"), "abcdefgh/ijklmnop/qrstuvwx", (0, 2)),
        (&format!("{block}\x1b[1;2H\r"), "abcdefgh/ijklmnop/qrstuvwx", (0, 0)),
        // A feed at the bottom scrolls only from within the margins.
        (&format!("{block}\x1b[4;1H\nx"), "abcdefgh/ijklmnop/qrstuvwx/x", (3, 1)),
        (&format!("{block}\x1b[4;3H\nx"), "abklmfgh/ijstunop/qr   vwx/  x", (3, 3)),
        // With the mode off, the sequence saves the cursor.
        ("\x1b[2;3H\x1b[s\x1b[H\x1b[u", "", (1, 2)),
        (&format!("{block}\x1b[?69l\x1b[4;1H\n"), "ijklmnop/qrstuvwx", (3, 0)),
    ]);
    assert_eq!(fed(&format!("{block}\x1b[4;3H\n\n")).history().len(), 0, "no whole row left");
}

#[test]
fn a_saved_cursor_comes_back_with_its_looks() {
    let screen = fed("\x1b[2;3H\x1b[1;31m\x1b(0\x1b7\x1b[m\x1b(B\x1b[H\x1b8q");
    assert_eq!((text(&screen).as_str(), at(&screen)), ("/  ─", (1, 3)));
    assert_eq!(screen.grid().cell(1, 2).attrs.fg, Colour::Indexed(1));
    all(&[("\x1b[2;3H\x1b8x", "x", (0, 1)), ("\x1b[2;3H\x1b[?1048h\x1b[H\x1b[?1048l", "", (1, 2))]);
}

#[test]
fn character_sets_draw_lines() {
    all(&[
        ("\x1b(0lqk\x1b(Bq", "┌─┐q", (0, 4)),
        ("\x1b)0q\x0eq\x0fq", "q─q", (0, 3)),
        ("\x1b*0\x1bNqq", "─q", (0, 2)),
        ("\x1b+0\x1bOqq", "─q", (0, 2)),
        ("\x1b*0\x1bnq", "─", (0, 1)),
        ("\x1b(A#", "£", (0, 1)),
        ("\x1b(0\x1b%Gq", "─", (0, 1)),
    ]);
}

#[test]
fn the_alternate_screen_has_its_own_rows() {
    all(&[
        ("main\x1b[?1049h", "", (0, 4)),
        ("main\x1b[?1049halt\x1b[?1049l", "main", (0, 4)),
        ("main\x1b[?47halt", "    alt", (0, 7)),
        ("main\x1b[?47halt\x1b[?47l", "main", (0, 7)),
        ("m\x1b[?47halt\x1b[?47l\x1b[?47h", " alt", (0, 4)),
        ("m\x1b[?1047halt\x1b[?1047l\x1b[?1047h", "", (0, 4)),
        // Both do all of their work where nothing is to be switched.
        ("\x1b[?1049habc\x1b[?1049hd", "   d", (0, 4)),
        ("\x1b[?47habc\x1b[?1049hd", "   d", (0, 4)),
        ("a\x1b[?1049hbc\x1b[?1049hde\x1b[?1049lf", "af", (0, 2)),
        ("\x1b[3;3H\x1b7\x1b[2;2H\x1b[?1049lb", "//  b", (2, 3)),
        ("\x1b[2;2H\x1b[?1049habc\x1b[?47lx\x1b[?1049ld", "/ d  x", (1, 2)),
        ("main\x1b[?1049l", "main", (0, 0)),
        // What is cleared ends a pending wrap.
        ("abcdefgh\x1b[?1049hx", "       x", (0, 7)),
        ("abcdefgh\x1b[?1047h\x1b[?1047lx", "abcdefgx", (0, 7)),
        ("abcdefgh\x1b[?1047hx", "/x", (1, 1)),
        ("abcdefgh\x1b[?1049h\x1b[?1049lx", "abcdefgh/x", (1, 1)),
    ]);
    let screen = fed(&format!("\x1b[?1049h{ROWS}\r\n\n\n"));
    assert_eq!(screen.history().len(), 0, "the alternate screen has no past");
}

#[test]
fn the_main_screen_remembers_what_scrolls_off() {
    let screen = sized(2, 8, "one\r\n\x1b[31mtwo\r\nabcdefghij\r\nend");
    let lines: Vec<_> = (0..9).filter_map(|at| screen.history().line(at)).collect();
    assert_eq!(
        lines.iter().map(|line| line.text()).collect::<Vec<_>>(),
        ["one", "two", "abcdefgh"]
    );
    assert!(lines[2].wrapped && !lines[1].wrapped);
    assert_eq!(lines[1].cells()[0].attrs.fg, Colour::Indexed(1));
    // Deleted lines, and those below a top margin, are not remembered.
    assert_eq!(fed(&format!("{ROWS}\x1b[H\x1b[2M")).history().len(), 0);
    assert_eq!(fed(&format!("{ROWS}\x1b[2r\x1b[4H\n\n")).history().len(), 0);
}

#[test]
fn resets_reset() {
    let before = "\x1b[31mab\x1b[2;3r\x1b[?6h\x1b[4h\x1b[?7l\x1b[?25l\x1b(0\x1b[?1h\x1b[1\"q";
    let soft = fed(&format!("{before}\x1b[!p\x1b[Hq"));
    assert_eq!(text(&soft), "qb");
    assert_eq!(soft.grid().cell(0, 0).attrs, super::cell::Attrs::DEFAULT);
    assert_eq!(*soft.modes(), super::modes::Modes::default());
    let hard = fed(&format!("{before}\x1b[?1049hx\x1b[3g\x1bc"));
    assert_eq!((text(&hard).as_str(), at(&hard), hard.is_alternate()), ("", (0, 0), false));
    assert_eq!(*hard.modes(), super::modes::Modes::default());
    all(&[
        ("x\x1b[2;3H\x1b#8", "EEEEEEEE/EEEEEEEE/EEEEEEEE/EEEEEEEE", (0, 0)),
        // DECCOLM is heeded when that is allowed: `tput init` resets it.
        ("abc\x1b[?3h\x1b[?3;4l", "abc", (0, 3)),
        ("abc\x1b[2;3r\x1b[?40h\x1b[?3h", "", (0, 0)),
    ]);
    answers(&[
        ("\x1b[?40$p\x1b[?3h\x1b[?3$p", "\x1b[?40;2$y\x1b[?3;2$y"),
        ("\x1b[?40h\x1b[?3h\x1b[?3$p\x1b[?40$p", "\x1b[?3;1$y\x1b[?40;1$y"),
        ("\x1b[?40h\x1b[?3h\x1b[?3l\x1b[?3$p", "\x1b[?3;2$y"),
    ]);
}

#[test]
fn protected_cells_survive_selective_erasing() {
    let before = "a\x1b[1\"qb\x1b[2\"qc\r\n\x1b[1\"qd\x1b[0\"qe\x1b[H";
    all(&[
        (&format!("{before}\x1b[?J"), " b/d", (0, 0)),
        (&format!("{before}\x1b[?2K"), " b/de", (0, 0)),
        (&format!("{before}\x1b[2;8H\x1b[?1J"), " b/d", (1, 7)),
        (&format!("{before}\x1b[1;1;2;2${{"), " bc/d", (0, 0)),
        (&format!("{before}\x1b[2J"), "", (0, 0)),
        // SGR 0 does not unprotect.
        ("\x1b[1\"q\x1b[0mx\x1b[?2K", "x", (0, 1)),
    ]);
}

#[test]
fn rectangles_are_filled_erased_and_copied() {
    all(&[
        ("\x1b[42;2;2;3;3$x", "/ **/ **", (0, 0)),
        (&format!("{ROWS}\x1b[2;2;3;9$z"), "aaa/b/c/ddd", (3, 3)),
        ("ab\r\ncd\x1b[1;1;2;2;1;2;4;1$v", "ab/cd ab/   cd", (1, 2)),
        // It may overlap itself, and is cut at the edge.
        ("abc\x1b[1;1;1;3;1;1;2;1$v", "aabc", (0, 3)),
        ("abc\x1b[1;1;1;3;1;1;7;1$v", "abc   ab", (0, 3)),
        // Half a wide character is copied as a blank, and stays whole where it was.
        ("日\x1b[1;1;1;1;1;3;3;1$v", "日", (0, 2)),
        ("ab日cd\x1b[1;1;1;3;1;3;3;1$v", "ab日cd//  ab", (0, 6)),
        ("ab日cd\x1b[1;4;1;6;1;3;3;1$v", "ab日cd//   cd", (0, 6)),
        ("日日日日\x1b[1;1;1;3;1;1;2;1$v", " 日 日日", (0, 7)),
        ("日日日日\x1b[1;2;1;4;1;1;2;1$v", "  日日日", (0, 7)),
    ]);
}

#[test]
fn reverse_wrap_goes_back_over_a_wrap_only() {
    all(&[
        ("abcdefghi\x08\x08x", "abcdefgh/x", (1, 1)),
        ("\x1b[?45habcdefghi\x08\x08x", "abcdefgx/i", (0, 7)),
        ("\x1b[?45hab\r\n\x08x", "ab/x", (1, 1)),
    ]);
}

#[test]
fn questions_get_the_standard_answers_and_nothing_else_does() {
    answers(&[
        ("\x1b[c", "\x1b[?64;6;21;22;28c"),
        ("\x1b[0c\x1bZ", "\x1b[?64;6;21;22;28c\x1b[?64;6;21;22;28c"),
        ("\x1b[>c", "\x1b[>41;300;0c"),
        ("\x1b[=c", "\x1bP!|00000000\x1b\\"),
        ("\x1b[5n", "\x1b[0n"),
        ("\x1b[3;4H\x1b[6n", "\x1b[3;4R"),
        ("abcdefgh\x1b[6n", "\x1b[1;8R"),
        ("\x1b[?6n", "\x1b[?1;1;1R"),
        ("\x1b[?15n", "\x1b[?13n"),
        ("\x1b[?7$p", "\x1b[?7;1$y"),
        ("\x1b[?1$p", "\x1b[?1;2$y"),
        ("\x1b[?2026$p", "\x1b[?2026;2$y"),
        ("\x1b[?1049h\x1b[?1049$p", "\x1b[?1049;1$y"),
        ("\x1b[?4711$p", "\x1b[?4711;0$y"),
        ("\x1b[4h\x1b[4$p", "\x1b[4;1$y"),
        ("\x1b[1;38;5;9m\x1bP$qm\x1b\\", "\x1bP1$r0;1;91m\x1b\\"),
        ("\x1b[2;3r\x1bP$qr\x1b\\", "\x1bP1$r2;3r\x1b\\"),
        ("\x1b[4 q\x1bP$q q\x1b\\", "\x1bP1$r4 q\x1b\\"),
        ("\x1bP$qz\x1b\\", "\x1bP0$r\x1b\\"),
        ("\x1b[18t", "\x1b[8;4;8t"),
        ("\x1b[x", "\x1b[2;1;1;128;128;1;0x"),
        // A title, a clipboard, a colour, the screen's text: never.
        (
            "\x1b]2;rm -rf\x07\x1b[21t\x1b[20t\x1b]52;c;?\x07\x1b]11;?\x07\x05\x1b[1;1;1;1;1;1*y\x1bP+q544e\x1b\\",
            "",
        ),
    ]);
    let many = sized(2, 2, &"\x1b[6n".repeat(10_000));
    assert!(many.replies.len() <= super::screen::REPLIES_MAX_BYTES);
}

#[test]
fn modes_can_be_put_aside_and_taken_back() {
    let screen = fed("\x1b[?25l\x1b[?25;1s\x1b[?25h\x1b[?1h\x1b[?25;1r");
    assert!(!screen.modes().cursor_shown && !screen.modes().cursor_keys);
    let mouse = fed("\x1b[?1000h\x1b[?1003h\x1b[?1000l\x1b[?1006h");
    assert_eq!(mouse.modes().mouse, super::modes::MouseMode::Moves);
    assert_eq!(mouse.modes().mouse_encoding, super::modes::MouseEncoding::Sgr);
}

#[test]
fn what_is_not_text_is_not_shown() {
    all(&[
        (
            "a\x1b]2;title\x07b\x1bPdata\x1b\\c\x1b_apc\x1b\\d\x1b^pm\x1b\\e\x1bXsos\x1b\\f",
            "abcdef",
            (0, 6),
        ),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link", (0, 4)),
        ("\x1b[>4;2m\x1b[?1;2;3u\x1b[8;50;50tx", "x", (0, 1)),
        ("\x1b[1", "", (0, 0)),
        // Colons where a parameter has no parts.
        ("\x1b[3:2Cx", "x", (0, 1)),
        ("\x1b[2;3:1Hx", "x", (0, 1)),
        ("\x1b[:2Cx", "x", (0, 1)),
        ("\x1b[?7:7labcdefghi", "abcdefgh/i", (1, 1)),
        ("abc\x1b[65:1;1;2;2$x", "abc", (0, 3)),
    ]);
}

#[test]
fn a_smaller_screen_remembers_its_top_and_a_larger_one_takes_it_back() {
    let mut screen = fed(&format!("{ROWS}\x1b[41m"));
    screen.resize(PaneSize::new(2, 8));
    assert_eq!(
        (text(&screen).as_str(), at(&screen), screen.history().len()),
        ("ccc/ddd", (1, 3), 2)
    );
    screen.resize(PaneSize::new(5, 2));
    assert_eq!((text(&screen).as_str(), at(&screen)), ("aa/bb/cc/dd", (3, 1)));
    // Blank rows below the cursor go first.
    let mut screen = fed("aaa\r\nbbb");
    screen.resize(PaneSize::new(2, 8));
    assert_eq!((text(&screen).as_str(), at(&screen)), ("aaa/bbb", (1, 3)));
    let mut screen = fed("日本語\x1b[?1049hx");
    screen.resize(PaneSize::new(3, 3));
    assert_eq!(text(&screen), "");
    Parser::default().advance(b"\x1b[?1049l", &mut screen);
    assert_eq!(text(&screen), "日");
}
