//! The audit trail: `/projects/{project}/audit`.

use std::sync::Arc;

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
    let filter = Filter::parse(&params.filters())?;
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
