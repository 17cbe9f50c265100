//! `debug pane`: bytes of a device in, the grid of a pane out.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::program::Program;

/// Runs it on bytes that need not be text.
async fn grid(args: &[&str], bytes: &[u8]) -> String {
    let program = Program::new();
    let args = [&["debug", "pane"], args].concat();
    let mut child = program.command(&args).stdin(Stdio::piped()).spawn().expect("starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(bytes).await.expect("read");
    drop(input);
    let output = child.wait_with_output().await.expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test]
async fn the_grid_is_printed_as_text_one_line_a_row() {
    let out = grid(&["10", "3"], "\x1b[31mred\x1b[m\r\n\x1b[3;4H日本".as_bytes()).await;
    assert_eq!(out, "red\n\n   日本\n");
}

#[tokio::test]
async fn the_grid_is_printed_as_one_json_object() {
    let out =
        grid(&["3", "2", "--cells"], b"\x1b[1;3;38;5;200mA\x1b[0;2;4;7;48:2::1:2:3mB\r\nC").await;
    let plain = json!([" ", "d", "d", ""]);
    let expected = json!({
        "cursor": [1, 1],
        "cells": [
            [["A", "i200", "d", "bi"], ["B", "d", "#010203", "dur"], plain],
            [["C", "d", "#010203", "dur"], plain, plain],
        ],
    });
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON"), expected);
}

/// HPB and VPB, ECMA-48 8.3.58 and 8.3.159; from the margins in origin mode.
#[tokio::test]
async fn the_cursor_goes_back_by_columns_and_rows() {
    for (bytes, cursor) in [
        ("\x1b[3;10H\x1b[3j", [6, 2]),
        ("\x1b[3;2H\x1b[9j", [0, 2]),
        ("\x1b[4;3H\x1b[2k", [2, 1]),
        ("\x1b[4;3H\x1b[k", [2, 2]),
        ("\x1b[2;5r\x1b[?6h\x1b[3;3H\x1b[9k", [2, 1]),
    ] {
        let out = grid(&["20", "6", "--cells"], bytes.as_bytes()).await;
        let screen: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(screen["cursor"], json!(cursor), "{bytes:?}");
    }
}

#[tokio::test]
async fn no_byte_of_a_device_is_passed_on() {
    let hostile =
        b"\x1b]0;title\x07\x1b]52;c;aGk=\x07\x1bPq\x1b\\\xff\xfe\x9b31m\x07a\xe2\x80\xaeb";
    for args in [&["20", "2"][..], &["20", "2", "--cells"]] {
        let out = grid(args, hostile).await;
        let is_honest = |c: char| c == '\n' || (!c.is_control() && c != '\u{202e}');
        assert!(out.chars().all(is_honest), "{out:?}");
    }
}

#[tokio::test]
async fn a_wrong_size_is_refused_before_anything_is_read() {
    for args in
        [&["debug", "pane", "0", "24"][..], &["debug", "pane", "80", "1001"], &["debug", "pane"]]
    {
        Program::new().run(args).await.expect(2);
    }
}
