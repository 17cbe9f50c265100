//! The same asked for several things: what cannot be done to one saves none of the others.

use std::fmt::Display;

use super::{
    error::CliError,
    output::{Printer, note},
    rows::Row,
};
use crate::net::{ApiError, api::Item};

/// What came of it.
#[derive(Debug)]
pub struct Several<T> {
    /// What could be done.
    pub done: Vec<T>,
    end: Result<(), CliError>,
}

/// Asks for each in turn, and says what cannot be done and why. Without a server the rest is not
/// tried.
pub async fn each<I: Display, T>(
    ids: &[I],
    ask: impl AsyncFn(&I) -> Result<T, ApiError>,
) -> Several<T> {
    let mut several = Several { done: Vec::with_capacity(ids.len()), end: Ok(()) };
    for (at, id) in ids.iter().enumerate() {
        let error = match ask(id).await {
            Ok(done) => {
                several.done.push(done);
                continue;
            }
            Err(error) => error,
        };
        let is_of_this = matches!(error, ApiError::Refused(_) | ApiError::BadId(_));
        let error = CliError::Api(error);
        if ids.len() == 1 {
            several.end = Err(error);
            return several;
        }
        several.end = Err(CliError::Said);
        note(&format!("{id}: {}", error.message().unwrap_or_default()));
        if !is_of_this {
            let rest: Vec<_> = ids[at + 1..].iter().map(ToString::to_string).collect();
            if !rest.is_empty() {
                note(&format!("not tried: {}", rest.join(" ")));
            }
            break;
        }
    }
    several
}

impl<T> Several<T> {
    /// How the subcommand ends.
    pub fn end(self) -> Result<(), CliError> {
        self.end
    }
}

impl<T: Row> Several<Item<T>> {
    /// Prints what was done.
    pub fn print(self, printer: &mut Printer) -> Result<(), CliError> {
        if printer.is_json() || !self.done.is_empty() {
            printer.items(&self.done)?;
        }
        self.end
    }
}
