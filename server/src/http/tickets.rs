//! Tickets and what they open: `/projects/{project}/tickets`, `/projects/{project}/live`.

use std::sync::Arc;

use axum::{
    extract::{State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use quarterdeck_protocol::{
    api::{CreateTicket, Ticket, TicketFor},
    ids::ProjectId,
    live::CLIENT_MESSAGE_MAX_BYTES,
    tunnel::session::Mode,
};

use super::{
    App,
    extract::{Viewer, role_now},
    idempotency::{IdempotencyKey, once},
    json::Json,
    openapi::CreateParams,
    problem::{Error, Result},
    query::Params,
    tunnels,
};
use crate::{
    auth::tickets::{Opens, Pass, TICKET_TTL_MS},
    engine::After,
    live,
};

/// What a live feed reads at once, in bytes: subscriptions, each for as long as its console is there.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// What of a socket may wait to be written, in bytes: one message, whole.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;

/// Makes a ticket: it opens one WebSocket, once, within 30 seconds.
#[utoipa::path(post, path = "/projects/{project}/tickets", tag = "live",
    params(CreateParams), responses((status = 201, body = Ticket)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    member: Viewer,
    key: IdempotencyKey,
    Json { value: request, bytes }: Json<CreateTicket>,
) -> Result<Response> {
    let opens = match request.purpose {
        TicketFor::Live if request.tunnel_id.is_some() => {
            return Err(Error::invalid("tunnel_id", "expected only for a tunnel"));
        }
        TicketFor::Live if request.mode.is_some() => {
            return Err(Error::invalid("mode", "expected only for a tunnel"));
        }
        TicketFor::Live => Opens::Live,
        TicketFor::Tunnel => {
            let mode = request.mode.unwrap_or(Mode::Owner);
            let id = request
                .tunnel_id
                .ok_or_else(|| Error::invalid("tunnel_id", "expected a tunnel's id"))?;
            tunnels::may_attach(&app, &member, &id, mode).await?
        }
    };
    let key = key.of(member.project.as_str(), &member.caller.name, &bytes);
    let pass = Pass { project: member.project, caller: member.caller, opens };
    let mut response = if key.is_some() {
        let shared = Arc::clone(&app);
        once(&app, key, StatusCode::CREATED, move |_| {
            Box::pin(async move { Ok((issue(&shared, pass)?, After::default())) })
        })
        .await?
    } else {
        // Nothing is stored: a full disk keeps nobody from looking.
        (StatusCode::CREATED, axum::Json(issue(&app, pass)?)).into_response()
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Makes a ticket for who may have it.
pub(super) fn issue(app: &App, pass: Pass) -> Result<Ticket> {
    let ticket = app
        .tickets
        .issue(&app.clock, pass)
        .map_err(|_| Error::too_many(TICKET_TTL_MS as u64 / 1000, "too many unused tickets"))?;
    Ok(Ticket { ticket, expires_in: TICKET_TTL_MS as u64 / 1000 })
}

/// Opens the WebSocket that keeps a console up to date, with a ticket.
///
/// Its messages are those of `protocol::live`.
#[utoipa::path(get, path = "/projects/{project}/live", tag = "live", security(()),
    params(("ticket" = String, Query, description = "Of `POST …/tickets`, unused.")),
    responses((status = 101, description = "The WebSocket is open."), (status = 401), (status = 403)))]
pub(super) async fn live(
    State(app): State<Arc<App>>,
    axum::extract::Path(project): axum::extract::Path<String>,
    headers: HeaderMap,
    mut params: Params,
    upgrade: Upgrade,
) -> Result<Response> {
    let ticket = params.take("ticket");
    params.finish()?;
    check_origin(&headers)?;
    let upgrade = upgradable(upgrade)?;
    let project = ProjectId::new(&project).map_err(|_| bad_ticket())?;
    let ticket = ticket.ok_or_else(bad_ticket)?;
    let is_for = |pass: &Pass| pass.project == project && pass.opens == Opens::Live;
    let pass = app.tickets.redeem(&ticket, is_for, app.clock.steady()).ok_or_else(bad_ticket)?;
    // Asked again: half a minute is long enough to be revoked.
    let role = role_now(&app, &pass.caller, &project).await?.ok_or_else(bad_ticket)?;
    let slot = app
        .live
        .enter(&pass.caller.name)
        .ok_or_else(|| Error::too_many(5, "too many live connections are open; close one"))?;
    let upgrade = upgrade
        .max_message_size(CLIENT_MESSAGE_MAX_BYTES)
        .max_frame_size(CLIENT_MESSAGE_MAX_BYTES)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES);
    Ok(upgrade.on_upgrade(move |socket| live::serve(app, pass, role, socket, slot)))
}

/// What every route of a WebSocket is asked with.
pub(super) type Upgrade = std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// Says what is wrong with a request that is no WebSocket's.
pub(super) fn upgradable(upgrade: Upgrade) -> Result<WebSocketUpgrade> {
    upgrade.map_err(|rejection| {
        let status = rejection.into_response().status();
        let detail = "this is a WebSocket: Upgrade: websocket is needed";
        Error::new(status, "websocket_expected", detail)
    })
}

/// Says that a ticket is good for nothing here.
pub(super) fn bad_ticket() -> Error {
    let detail = "the ticket is unknown, used, too old, or of another project";
    Error::unauthorized("invalid_ticket", detail)
}

/// A browser sends its page's origin, and must come from here; other programs send none.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<()> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    // A proxy before this server may speak TLS for it.
    let origin_host =
        origin.filter(|(scheme, _)| matches!(*scheme, "http" | "https")).map(|(_, host)| host);
    match (origin_host, host) {
        // Of two, another program might have checked the other one.
        (Some(origin), Some(host))
            if origin.eq_ignore_ascii_case(host) && origins.next().is_none() =>
        {
            Ok(())
        }
        _ => Err(Error::new(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            "the Origin is not this server",
        )),
    }
}
