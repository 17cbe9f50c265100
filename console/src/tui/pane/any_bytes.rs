//! Bytes as a fuzzer would send them: for tests.

use proptest::prelude::*;

const FINALS: &[u8] = b"@ABCDEFGHIJKLMPSTXZ`abcdefghlmnrsux^W";

/// A piece of output: text, a control, a sequence, or anything at all.
pub(crate) fn part() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![
        Just(String::new()),
        (0..30_u16).prop_map(|n| n.to_string()),
        Just("65535".into())
    ];
    let params = prop::collection::vec(number, 0..5).prop_map(|all| all.join(";"));
    let modes = prop::sample::select(vec![3, 5, 6, 7, 25, 45, 47, 69, 1047, 1048, 1049, 2026]);
    prop_oneof![
        4 => "[ -~]{1,30}".prop_map(String::into_bytes),
        2 => "[日本é\u{301}❤️\u{200d}\u{fffd}─ab]{1,8}".prop_map(String::into_bytes),
        2 => prop::collection::vec(0_u8..0x20, 1..3),
        6 => (params.clone(), prop::sample::select(FINALS.to_vec()))
            .prop_map(|(params, last)| format!("\x1b[{params}{}", char::from(last)).into_bytes()),
        2 => (modes, any::<bool>())
            .prop_map(|(mode, on)| format!("\x1b[?{mode}{}", if on { 'h' } else { 'l' }).into_bytes()),
        2 => prop::sample::select(vec![
            "\x1b7", "\x1b8", "\x1bD", "\x1bE", "\x1bM", "\x1bH", "\x1bc", "\x1b#8", "\x1b(0", "\x1b(B", "\x1b6",
            "\x1b9", "\x1b[!p", "\x1b[1\"q", "\x1b[0\"q", "\x1b[?J", "\x1b[?K", "\x1b[4h", "\x1b[4l", "\x1b[2 @",
            "\x1b[2 A", "\x1b[2'}", "\x1b[2'~", "\x1b[65;1;1;3;3$x", "\x1b[1;1;3;3;1;2;2;1$v", "\x1b[1;1;2;9$z",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => (params, any::<bool>()).prop_map(|(params, fg)| {
            format!("\x1b[{};{params}m", if fg { 38 } else { 48 }).into_bytes()
        }),
        1 => prop::collection::vec(any::<u8>(), 1..20),
    ]
}
