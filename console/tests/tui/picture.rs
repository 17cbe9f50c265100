//! `docs/console.svg` is what the program draws.
//!
//! `UPDATE_DOCS=1 cargo test -p quarterdeck-console --test tui picture` draws it anew.

use std::{fs, path::Path};

use crate::{runner::Runner, svg};

#[test]
fn the_picture_in_the_readme_is_what_the_program_draws() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/console.svg");
    let mut runner = Runner::new(120, 36);
    runner.keys("3").pass_ms(500);
    let drawn = svg::picture(&runner.buffer, &runner.app.title());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &drawn).expect("docs is writable");
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    assert!(published == drawn, "docs/console.svg is out of date: UPDATE_DOCS=1 draws it anew");
}
