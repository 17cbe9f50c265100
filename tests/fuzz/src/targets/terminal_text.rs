//! Untrusted text made fit for a terminal: nothing that is shown acts on it, or hides.
//!
//! The characters are listed here once more, from Unicode's own classes: the
//! parser's table is what is under test.

use quarterdeck_protocol::text;

pub(super) fn run(input: &[u8]) {
    let given = String::from_utf8_lossy(input);
    let line = text::line(&given);
    assert!(!line.contains('\n'));
    harmless(&line);
    let block = text::block(&given);
    block.split('\n').for_each(harmless);
    // Shown once more, it stays: markers are plain text.
    assert_eq!(text::line(&line), line);
    assert_eq!(text::block(&block), block);

    for end in [0, 1, 7, given.len() / 2, given.len()] {
        let cut = text::truncate_bytes(&given, end);
        assert!(cut.len() <= end && given.starts_with(cut));
    }
    if let Some((head, missing, tail)) = text::split_cut(&given) {
        let marker = text::cut_marker(missing);
        assert!(head.len() + tail.len() + marker.len() <= given.len() + marker.len());
    }
}

fn harmless(shown: &str) {
    for c in shown.chars() {
        let is_bad = c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{180e}')
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{e0000}'..='\u{e007f}' | '\u{fe00}'..='\u{fe0f}');
        assert!(!is_bad, "U+{:04X} in {shown:?}", u32::from(c));
    }
}
