//! Doors for `tests/fuzz` to parsers of untrusted input that only this crate calls.

use std::path::Path;

use quarterdeck_protocol::{command::CommandMessage, ids::CommandId};

use crate::{
    config::{Config, layers::Layers},
    engine::intake,
    journal,
};

/// Reads a message on `commands`; what is wrong with it, and its id if that can be read.
pub fn command(payload: &[u8]) -> Result<CommandMessage, (Option<CommandId>, String)> {
    intake::read_command(payload)
}

/// Reads a configuration file, without the files that it names.
pub fn config_file(text: &str) -> Result<(), String> {
    if text.contains("_file") {
        return Ok(());
    }
    let mut layers = Layers::default();
    layers.read_text(text, Path::new("agent.toml")).map_err(|error| error.to_string())?;
    Config::load(&layers).map(drop).map_err(|error| error.to_string())
}

/// Writes a journal's first bytes, then a frame for each body.
pub fn journal_of<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    journal::framed(bodies)
}
