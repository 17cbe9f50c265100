//! The audit trail: `/projects/{project}/audit`.

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use quarterdeck_protocol::{
    api::{AuditEntry, Page},
    time::Timestamp,
};

use super::{
    App,
    extract::Viewer,
    openapi::ListParams,
    problem::{Error, Result},
    query::Params,
};
use crate::store::{
    audit::{self, Filter},
    query::InvalidQuery,
};

/// Columns to sort by: two names of one order.
const COLUMNS: [&str; 2] = ["seq", "at"];
const FILTERS: [&str; 6] = ["actor", "action", "object", "outcome", "from", "to"];

/// Lists what was done in the project, and what was refused; newest first.
#[utoipa::path(get, path = "/projects/{project}/audit", tag = "audit",
    params(ListParams,
        ("actor" = Option<String>, Query), ("action" = Option<String>, Query),
        ("object" = Option<String>, Query), ("outcome" = Option<String>, Query, description = "ok, denied or failed"),
        ("from" = Option<Timestamp>, Query), ("to" = Option<Timestamp>, Query)),
    responses((status = 200, body = Page<AuditEntry>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    member: Viewer,
    mut params: Params,
) -> Result<axum::Json<Page<AuditEntry>>> {
    let paging = params.paging()?;
    let filter = filter_of(&params.filters())?;
    let descending = paging.descending(&COLUMNS, true)?;
    let after = paging
        .after_key()?
        .map(|key| {
            key.parse()
                .map_err(|_| Error::invalid("cursor", "expected a next_cursor of this listing"))
        })
        .transpose()?;
    let mut tx = app.store.read().await?;
    let items =
        audit::list(&mut tx, &member.project, &filter, descending, after, paging.limit + 1).await?;
    let total = audit::count(&mut tx, &member.project, &filter).await?;
    Ok(axum::Json(paging.page(items, total, |entry| entry.seq.to_string())))
}

/// Reads the filters of the trail, for a page as for a live window.
pub fn filter_of(given: &BTreeMap<String, String>) -> std::result::Result<Filter, InvalidQuery> {
    let mut filter = Filter::default();
    for (name, value) in given {
        let at = || value.parse().map_err(|e| InvalidQuery::new(name, format!("{e}")));
        match name.as_str() {
            "actor" => filter.actor = Some(value.clone()),
            "action" => filter.action = Some(value.clone()),
            "object" => filter.object = Some(value.clone()),
            "outcome" => {
                let outcome = audit::outcome_of(value);
                filter.outcome = Some(
                    outcome
                        .ok_or_else(|| InvalidQuery::new(name, "expected ok, denied or failed"))?,
                );
            }
            "from" => filter.from = Some(at()?),
            "to" => filter.to = Some(at()?),
            _ => return Err(InvalidQuery::unknown_filter(name, &FILTERS)),
        }
    }
    Ok(filter)
}

/// Whether a sort of the trail is descending; its own order is.
pub fn is_descending(sort: Option<&str>) -> std::result::Result<bool, InvalidQuery> {
    match sort {
        None | Some("-seq" | "-at") => Ok(true),
        Some("seq" | "at") => Ok(false),
        Some(_) => Err(InvalidQuery::new(
            "sort",
            "expected one of seq, at, with - before it for descending",
        )),
    }
}

impl From<InvalidQuery> for Error {
    fn from(invalid: InvalidQuery) -> Self {
        Self::invalid(invalid.field, invalid.expected)
    }
}
