//! What all subcommands that list have in common: their filters.

use std::{error::Error, str::FromStr};

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{error::CliError, units::Moment};
use crate::net::api::Query;

/// The filters that were given, as the API takes them.
pub fn query<const N: usize>(fields: [(&str, Option<String>); N]) -> Query {
    fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// Takes one of these names alone, and offers them where a shell completes.
pub fn one_of<T>(names: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Error + Send + Sync> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse())
}

/// A moment as the API takes it.
pub fn when(moment: Option<Moment>) -> Option<String> {
    moment.map(|moment| moment.0.to_string())
}

/// The subcommand that was asked for; listing, when there is none.
///
/// # Errors
///
/// When filters stand before another subcommand: `devices --status online show pi-1` makes no sense.
pub fn wanted<C, L: Default + PartialEq>(
    command: Option<C>,
    filters: L,
    ls: impl FnOnce(L) -> C,
) -> Result<C, CliError> {
    match command {
        None => Ok(ls(filters)),
        Some(command) if filters == L::default() => Ok(command),
        Some(_) => Err(CliError::Usage(
            "filters go with `ls`, after it, not with another subcommand".to_owned(),
        )),
    }
}
