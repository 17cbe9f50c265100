//! Tunnels: `/projects/{project}/tunnels`, and their streams at `/tunnels/{id}/stream`.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use quarterdeck_protocol::{
    api::{
        AuditOutcome, CreateTunnel, CreatedTunnel, Page, Recording, RecordingStatus, Role, Tunnel,
        TunnelKind, TunnelStatus,
    },
    device::{DeviceStatus, FACT_TUNNELS, TUNNELS_DISABLED},
    ids::{ProjectId, TunnelId},
    live::Listing,
    time::Timestamp,
    tunnel::{
        close::CloseCode,
        control::CONTROL_MAX_BYTES,
        limits::FRAME_MAX_BYTES,
        session::{CLIENT_MESSAGE_MAX_BYTES, Mode},
    },
};
use serde_json::json;

use super::{
    App,
    extract::{Caller, Member, Operator, PathId, Viewer, record_denied, role_now},
    idempotency::{IdempotencyKey, once},
    json::Json,
    openapi::{CreateParams, ListParams},
    problem::{Error, Result},
    query::{Params, page},
    tickets::{Upgrade, bad_ticket, check_origin, issue, upgradable},
    tunnel_rights,
};
use crate::{
    auth::tickets::{Opens, Pass},
    engine::After,
    store::{
        Tx,
        audit::NewEntry,
        devices, projects, recordings,
        tunnels::{self, NewTunnel, Served},
    },
    tunnels::{
        Settings, console,
        session::{NotAttached, target},
    },
};

/// What is read at once of a terminal's socket, in bytes. It is cleared before each read: a key is
/// not to wait for that, nor for what that threw out of the processor's cache.
const KEYS_BUFFER_BYTES: usize = 4 * 1024;
/// What is read at once of all others: one frame, whole.
const READ_BUFFER_BYTES: usize = FRAME_MAX_BYTES;
/// What of a stream's socket may wait to be written, in bytes: one message, whole.
const WRITE_BUFFER_BYTES: usize = FRAME_MAX_BYTES;
/// After so long somebody over a limit may try again, in seconds.
const LIMIT_RETRY_S: u64 = 30;

/// Lists tunnels, those that are over included; newest first.
#[utoipa::path(get, path = "/projects/{project}/tunnels", tag = "tunnels",
    params(ListParams,
        ("device" = Option<String>, Query), ("user" = Option<String>, Query),
        ("status" = Option<String>, Query, description = "opening, open, stalled, closed or failed"),
        ("kind" = Option<String>, Query),
        ("from" = Option<Timestamp>, Query), ("to" = Option<Timestamp>, Query)),
    responses((status = 200, body = Page<Tunnel>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    member: Viewer,
    mut params: Params,
) -> Result<axum::Json<Page<Tunnel>>> {
    let paging = params.paging()?;
    page::<tunnels::Filter>(&app.store, &member.project, &paging, &params.filters()).await
}

/// Reads one tunnel.
#[utoipa::path(get, path = "/projects/{project}/tunnels/{id}", tag = "tunnels",
    responses((status = 200, body = Tunnel)))]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    member: Viewer,
    PathId(id): PathId,
) -> Result<axum::Json<Tunnel>> {
    Ok(axum::Json(found(&app, &member.project, &id).await?))
}

async fn found(app: &App, project: &ProjectId, id: &str) -> Result<Tunnel> {
    let not_found = || Error::not_found("tunnel");
    let id: TunnelId = id.parse().map_err(|_| not_found())?;
    let mut tx = app.store.read().await?;
    tunnels::get(&mut tx, project, id).await?.ok_or_else(not_found)
}

/// Opens a tunnel to a device; the answer has a ticket for its stream.
#[utoipa::path(post, path = "/projects/{project}/tunnels", tag = "tunnels",
    params(CreateParams), responses((status = 201, body = CreatedTunnel)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    member: Operator,
    key: IdempotencyKey,
    Json { value: request, bytes }: Json<CreateTunnel>,
) -> Result<Response> {
    check(&request)?;
    let project = member.project.clone();
    let device = {
        let mut tx = app.store.read().await?;
        devices::get(&mut tx, &project, &request.device_id).await?
    };
    let device = device
        .filter(|device| device.status != DeviceStatus::Retired)
        .ok_or_else(|| Error::invalid("device_id", "no such device in service in this project"))?;
    if device.facts.get(FACT_TUNNELS).is_some_and(|fact| fact == TUNNELS_DISABLED) {
        let why = "its owner allows no tunnels ([tunnels] enabled in the agent's configuration)";
        return Err(Error::invalid("device_id", why));
    }
    let (settings, needed) = {
        let mut tx = app.store.read().await?;
        let settings = projects::settings(&mut tx, &project).await?.unwrap_or_default();
        (settings, tunnel_rights::role_to_open(&mut tx, &project, &device).await?)
    };
    // Of what is refused: what is opened is told whole.
    let asked = json!({ "device_id": device.id, "kind": request.kind });
    if member.role < needed {
        let path = format!("/api/v1/projects/{project}/tunnels");
        let actor = member.caller.actor();
        record_denied(&app, actor, Some(&project), "tunnel.open", &path, asked).await;
        return Err(tunnel_rights::refused(&device.id, needed));
    }
    let id = TunnelId(app.clock.new_uuid());
    let now = app.clock.now();
    let records = request.kind == TunnelKind::Terminal
        && (settings.record_terminals || request.record == Some(true));
    let opens = Opens::Tunnel { id, mode: Mode::Owner };
    let pass = Pass { project: project.clone(), caller: member.caller.clone(), opens };
    let ticket = issue(&app, pass)?;
    let key = key.of(project.as_str(), &member.caller.name, &bytes);
    let (auditor, actor) = (app.auditor.clone(), member.caller.actor());
    let limits = *app.tunnels.settings();
    let chain = project.clone();
    let response = once(&app, key, StatusCode::CREATED, move |tx| {
        Box::pin(async move {
            within_limits(tx, &limits, &actor.name, &chain, &request).await?;
            let new = NewTunnel {
                id,
                project: chain.clone(),
                user: actor.name.clone(),
                handle: tunnels::next_handle(tx, &chain, &request.device_id).await?,
                created_at: now.wall,
                ends_due: now.steady_ms + limits.life.duration_ms,
                recording_id: records.then(|| id.to_string()),
                request,
            };
            tunnels::insert(tx, &new).await?;
            if records {
                recordings::insert(tx, &chain, &recording(&new)).await?;
            }
            let NewTunnel { request, .. } = &new;
            let entry = NewEntry {
                project: &chain,
                at: now.wall,
                actor: &actor,
                action: "tunnel.open",
                object: format!("tunnel:{id}"),
                outcome: AuditOutcome::Ok,
                detail: json!({ "device_id": request.device_id, "kind": request.kind, "argv": request.argv,
                    "host": request.host, "port": request.port, "reverse": request.reverse,
                    "run_as": request.run_as, "env": request.env.keys().collect::<Vec<_>>(),
                    "recorded": records, "input_recorded": records && request.record_input }),
            };
            auditor.append(tx, entry).await?;
            let tunnel = tunnels::get(tx, &chain, id).await?.ok_or_else(Error::internal)?;
            let created =
                CreatedTunnel { tunnel, ticket: ticket.ticket, expires_in: ticket.expires_in };
            Ok((created, After::default()))
        })
    })
    .await;
    let response = match response {
        Err(refused) if refused.status == StatusCode::TOO_MANY_REQUESTS => {
            let path = format!("/api/v1/projects/{project}/tunnels");
            let actor = member.caller.actor();
            record_denied(&app, actor, Some(&project), "tunnel.open", &path, asked).await;
            return Err(refused);
        }
        response => response?,
    };
    // Nothing is there to start when the answer is a former one.
    app.tunnels.start(id).await;
    app.changed(&project, Listing::Tunnels, &id.to_string());
    Ok(response)
}

async fn within_limits(
    tx: &mut Tx,
    limits: &Settings,
    user: &str,
    project: &ProjectId,
    request: &CreateTunnel,
) -> Result<()> {
    let (own, of_device) = tunnels::open_counts(tx, user, project, &request.device_id).await?;
    let over = if own >= limits.per_user {
        format!("you have {own} tunnels open, as many as a user may; close one")
    } else if of_device >= limits.per_device {
        format!(
            "{of_device} tunnels to {} are open, as many as a device may have",
            request.device_id
        )
    } else {
        return Ok(());
    };
    Err(Error::too_many(LIMIT_RETRY_S, over))
}

fn recording(new: &NewTunnel) -> Recording {
    Recording {
        id: new.id.to_string(),
        tunnel_id: new.id,
        device_id: new.request.device_id.clone(),
        user: new.user.clone(),
        status: RecordingStatus::Recording,
        argv: new.request.argv.clone(),
        has_input: new.request.record_input,
        started_at: new.created_at,
        ended_at: None,
        bytes: 0,
        expires_at: None,
    }
}

/// Checks what the types cannot say: what each kind takes.
fn check(request: &CreateTunnel) -> Result<()> {
    use TunnelKind::{Exec, PortForward, Ssh, Terminal};
    let CreateTunnel {
        kind,
        argv,
        cols,
        rows,
        term,
        env,
        run_as,
        host,
        port,
        reverse,
        record,
        record_input,
        ..
    } = request;
    let given: [(&str, bool, &[TunnelKind]); 11] = [
        ("argv", !argv.is_empty(), &[Terminal, Exec]),
        ("cols", cols.is_some(), &[Terminal]),
        ("rows", rows.is_some(), &[Terminal]),
        ("term", term.is_some(), &[Terminal]),
        ("env", !env.is_empty(), &[Terminal, Exec]),
        ("run_as", run_as.is_some(), &[Terminal, Exec]),
        ("host", host.is_some(), &[Ssh, PortForward]),
        ("port", port.is_some(), &[Ssh, PortForward]),
        ("reverse", *reverse, &[PortForward]),
        ("record", *record == Some(true), &[Terminal]),
        ("record_input", *record_input, &[Terminal]),
    ];
    for (field, is_given, kinds) in given {
        if is_given && !kinds.contains(kind) {
            return Err(Error::invalid(
                field,
                format!("a tunnel of kind {} takes none", kind.as_str()),
            ));
        }
    }
    for (field, side) in [("cols", cols), ("rows", rows)] {
        if *side == Some(0) {
            return Err(Error::invalid(field, "expected 1 to 65535"));
        }
    }
    if *record_input && *record == Some(false) {
        return Err(Error::invalid("record_input", "what is not recorded records no input either"));
    }
    if *kind == PortForward && port.is_none() {
        return Err(Error::invalid("port", "expected the port that connections go to"));
    }
    let about = Served {
        id: TunnelId(uuid::Uuid::nil()),
        project: ProjectId::new("default").expect("a constant name"),
        device: request.device_id.clone(),
        user: String::new(),
        kind: *kind,
        request: request.clone(),
        handle: 0,
        created_at: Timestamp::from_millis(0),
        ends_due: 0,
        was_open: false,
        life: 1,
        input_lives: Vec::new(),
        bytes_up: 0,
        bytes_down: 0,
        recording_id: None,
    };
    let target = target(&about);
    target.check().map_err(|invalid| {
        let field = invalid.field.strip_prefix("target.").unwrap_or(&invalid.field);
        let field = if field == "user" { "run_as" } else { field };
        Error::invalid(field, invalid.expected)
    })?;
    // It goes to the device in one message.
    let bytes = serde_json::to_string(&target).map_or(usize::MAX, |target| target.len());
    if bytes > TARGET_MAX_BYTES {
        let words =
            |texts: &mut dyn Iterator<Item = &String>| texts.map(String::len).sum::<usize>();
        let in_argv = words(&mut request.argv.iter());
        let in_env = words(&mut request.env.iter().flat_map(|(name, value)| [name, value]));
        let field = if in_argv >= in_env { "argv" } else { "env" };
        let expected = format!(
            "expected {TARGET_MAX_BYTES} bytes of JSON at most for command line and environment together; this has {bytes}. Send what is longer by file_push, or through stdin"
        );
        return Err(Error::invalid(field, expected));
    }
    Ok(())
}

/// What a tunnel leads to, in a message to the device beside its ids and its user, in bytes.
const TARGET_MAX_BYTES: usize = CONTROL_MAX_BYTES - 2 * 1024;

/// Ends a tunnel: one's own, or any as an admin.
#[utoipa::path(post, path = "/projects/{project}/tunnels/{id}/close", tag = "tunnels",
    responses((status = 200, body = Tunnel)))]
pub(super) async fn close(
    State(app): State<Arc<App>>,
    member: Operator,
    PathId(id): PathId,
) -> Result<axum::Json<Tunnel>> {
    let tunnel = found(&app, &member.project, &id).await?;
    let is_own = tunnel.user == member.caller.name;
    if !is_own && member.role < Role::Admin {
        let path = format!("/api/v1/projects/{}/tunnels/{id}/close", member.project);
        let actor = member.caller.actor();
        let asked = json!({ "device_id": tunnel.device_id, "user": tunnel.user });
        record_denied(&app, actor, Some(&member.project), "tunnel.kill", &path, asked).await;
        return Err(Error::forbidden("only its user and admins may close a tunnel"));
    }
    if let Some(session) = app.tunnels.session_or_start(tunnel.id).await? {
        let (reason, message) = if is_own {
            (CloseCode::ClosedByUser, String::new())
        } else {
            (CloseCode::Killed, format!("by {}", member.caller.name))
        };
        session.close(reason, message, Some(member.caller.actor())).await;
    }
    Ok(axum::Json(found(&app, &member.project, &id).await?))
}

/// Tells what a ticket for a tunnel opens, for who may have it.
pub(super) async fn may_attach<N>(
    app: &Arc<App>,
    member: &Member<N>,
    id: &str,
    mode: Mode,
) -> Result<Opens> {
    let tunnel = found(app, &member.project, id).await?;
    let device = &tunnel.device_id;
    let needed = {
        let mut tx = app.store.read().await?;
        tunnel_rights::role_to_attach(&mut tx, &member.project, device, mode).await?
    };
    let refused = match mode {
        Mode::Copilot | Mode::Owner if member.role < Role::Operator => {
            Some(Error::forbidden("a viewer may only watch"))
        }
        _ if member.role < needed => Some(tunnel_rights::refused(device, needed)),
        Mode::Owner if tunnel.user != member.caller.name => Some(Error::forbidden(
            "only who opened the tunnel is its owner; ask for copilot or watch",
        )),
        Mode::Watch | Mode::Copilot | Mode::Owner => None,
    };
    if let Some(refused) = refused {
        let path = format!("/api/v1/projects/{}/tickets", member.project);
        let actor = member.caller.actor();
        let asked = json!({ "device_id": device, "tunnel_id": tunnel.id, "mode": mode });
        record_denied(app, actor, Some(&member.project), "tunnel.attach", &path, asked).await;
        return Err(refused);
    }
    if mode != Mode::Owner && tunnel.kind != TunnelKind::Terminal {
        return Err(Error::invalid("mode", "only terminals are watched and joined"));
    }
    // One that is over and has output that its owner was not shown is served for a while.
    if tunnel.status.is_over() && app.tunnels.session(tunnel.id).is_none() {
        return Err(over(&tunnel));
    }
    Ok(Opens::Tunnel { id: tunnel.id, mode })
}

fn over(tunnel: &Tunnel) -> Error {
    let what = if tunnel.status == TunnelStatus::Failed { "never opened" } else { "is over" };
    let why = tunnel.close_reason.map_or(String::new(), |reason| format!(": {reason}"));
    Error::conflict("tunnel_over", format!("the tunnel {what}{why}"))
}

/// Opens the WebSocket of a tunnel's stream, with a ticket.
///
/// Its messages are frames, and those of `protocol::tunnel::session`.
#[utoipa::path(get, path = "/tunnels/{id}/stream", tag = "tunnels", security(()),
    params(("ticket" = String, Query, description = "Of `POST …/tunnels` or `POST …/tickets`, unused."),
        ("from" = Option<u64>, Query, description = "The output that is needed next."),
        ("input_stream" = Option<u32>, Query, description = "As in the last `attached`."),
        ("input_life" = Option<u16>, Query, description = "As in the last `attached`.")),
    responses((status = 101, description = "The WebSocket is open."), (status = 401), (status = 403)))]
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    headers: HeaderMap,
    mut params: Params,
    upgrade: Upgrade,
) -> Result<Response> {
    let ticket = params.take("ticket");
    let from: Option<u64> = params.parse("from", "an offset of output")?;
    let stream: Option<u32> = params.parse("input_stream", "a stream's number")?;
    let life: Option<u16> = params.parse("input_life", "a stream's life")?;
    params.finish()?;
    if stream.is_some() != life.is_some() {
        return Err(Error::invalid("input_life", "expected together with input_stream"));
    }
    check_origin(&headers)?;
    let upgrade = upgradable(upgrade)?;
    let id: TunnelId = id.parse().map_err(|_| bad_ticket())?;
    let ticket = ticket.ok_or_else(bad_ticket)?;
    let is_for = |pass: &Pass| matches!(pass.opens, Opens::Tunnel { id: own, .. } if own == id);
    let pass = app.tickets.redeem(&ticket, is_for, app.clock.steady()).ok_or_else(bad_ticket)?;
    let Opens::Tunnel { mode, .. } = pass.opens else { return Err(bad_ticket()) };
    // Asked again: half a minute is long enough to be revoked.
    let role = role_now(&app, &pass.caller, &pass.project).await?.ok_or_else(bad_ticket)?;
    let tunnel = found(&app, &pass.project, &id.to_string()).await?;
    let needed = {
        let mut tx = app.store.read().await?;
        tunnel_rights::role_to_attach(&mut tx, &pass.project, &tunnel.device_id, mode).await?
    };
    if role < needed {
        return Err(Error::forbidden(format!("this needs the role {}", needed.as_str())));
    }
    let upgrade = upgrade
        .max_message_size(FRAME_MAX_BYTES.max(CLIENT_MESSAGE_MAX_BYTES))
        .max_frame_size(FRAME_MAX_BYTES.max(CLIENT_MESSAGE_MAX_BYTES))
        .read_buffer_size(match tunnel.kind {
            TunnelKind::Terminal => KEYS_BUFFER_BYTES,
            _ => READ_BUFFER_BYTES,
        })
        .write_buffer_size(WRITE_BUFFER_BYTES);
    let input = stream.zip(life);
    let Some(console) = attach(&app, pass.caller, id, mode, from, input).await? else {
        // It ended between the ticket and here: said where who comes in time hears it.
        let over = found(&app, &pass.project, &id.to_string()).await?;
        let reason = over.close_reason.ok_or_else(Error::internal)?;
        let message = over.close_message.unwrap_or_default();
        return Ok(upgrade.on_upgrade(move |socket| console::farewell(socket, reason, message)));
    };
    Ok(upgrade.on_upgrade(move |socket| console.serve(app, socket)))
}

/// Attaches a console; `None` when the tunnel is over.
async fn attach(
    app: &Arc<App>,
    caller: Caller,
    id: TunnelId,
    mode: Mode,
    from: Option<u64>,
    input: Option<(u32, u16)>,
) -> Result<Option<console::Console>> {
    let Some(session) = app.tunnels.session_or_start(id).await? else { return Ok(None) };
    match console::attach(session, caller, mode, from, input).await {
        Ok(console) => Ok(Some(console)),
        Err(NotAttached::Over) => Ok(None),
        Err(refused @ NotAttached::NotResumable) => {
            Err(Error::conflict("not_resumable", refused.to_string()))
        }
        Err(refused @ NotAttached::Full) => {
            Err(Error::too_many(LIMIT_RETRY_S, refused.to_string()))
        }
        Err(refused @ NotAttached::NotATerminal) => {
            Err(Error::conflict("not_a_terminal", refused.to_string()))
        }
    }
}
