//! Fuzz targets: each parser of untrusted input, and what must hold of it for any bytes.
//!
//! ```text
//!   seeds/TARGET/*  ─┬─▶ short run: fixed mutations, in `cargo test`, the same on every machine
//!                    └─▶ long run: libFuzzer, led by coverage, `just fuzz TARGET`
//!                              both call targets::TARGET(&[u8]), which panics when something is wrong
//! ```
//!
//! | module | subject |
//! | --- | --- |
//! | [`targets`] | the table of targets; one file each |
//! | [`mutate`] | inputs made of seeds, from a number alone |
//! | [`short`] | the short run |
//!
//! Why not `bolero`: under `cargo test` it feeds bytes without structure, which
//! no JSON or TOML parser lets past the first one, and its long run needs two
//! system libraries. Why not `cargo fuzz`: it needs a nightly compiler for a
//! memory checker that safe code has no use for.
//!
//! To add a target: `docs/ARCHITECTURE.md`, "Fuzz targets".

pub mod mutate;
pub mod short;
pub mod targets;
