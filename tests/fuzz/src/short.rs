//! The short run: every seed, then a fixed number of inputs made of them.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use crate::{
    mutate::{self, Numbers},
    targets::Target,
};

/// How many made inputs a target gets; `QUARTERDECK_FUZZ_INPUTS` asks for more.
const INPUTS: u64 = 2_000;
/// The most of an input that a failure shows, in bytes.
const SHOWN_MAX_BYTES: usize = 4 * 1024;

/// Where the seeds of a target lie.
pub fn seeds_folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target)
}

/// Reads the seeds of a target, in the order of their names.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = seeds_folder(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| {
        panic!("target {target} needs seeds in {}: {error}", folder.display())
    });
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "target {target} needs a seed in {}", folder.display());
    paths.iter().map(|path| fs::read(path).expect("a readable seed")).collect()
}

/// Runs a target over its seeds and what is made of them.
///
/// Panics with the input that it fell over: put that into a file beside the seeds.
pub fn run(target: &Target) {
    let seeds = seeds(target.name);
    for seed in &seeds {
        try_one(target, seed);
    }
    let inputs = std::env::var("QUARTERDECK_FUZZ_INPUTS")
        .map_or(INPUTS, |text| text.parse().expect("QUARTERDECK_FUZZ_INPUTS is a number"));
    let mut numbers = Numbers::from(0);
    for _ in 0..inputs {
        try_one(target, &mutate::input(&seeds, &mut numbers));
    }
}

fn try_one(target: &Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        let shown = input[..input.len().min(SHOWN_MAX_BYTES)].escape_ascii();
        panic!("{} fell over these {} bytes: b\"{shown}\"", target.name, input.len());
    }
}
