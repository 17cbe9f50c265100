//! The long run of one target, named by `QUARTERDECK_FUZZ_TARGET`; see `tests/fuzz/run`.
#![no_main]

use std::sync::LazyLock;

use quarterdeck_fuzz::targets::{self, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("QUARTERDECK_FUZZ_TARGET").unwrap_or_default();
    targets::named(&name).unwrap_or_else(|| {
        eprintln!("no fuzz target {name:?}; there are: {}", targets::names().join(", "));
        std::process::exit(2);
    })
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.run)(input));
