//! The network as the full-screen console wants it: the other end of [`crate::tui`]'s seam.
//!
//! ```text
//!  NetRequest::Live ──────▶ link ──▶ WebSocket        ──▶ mailbox
//!  NetRequest::Call ──────▶ a task of its own ──▶ HTTP ──▶ mailbox
//!  NetRequest::OpenProject ▶ a new link
//!  NetRequest::Reconnect ──▶ the link, at once
//!  NetRequest::Tunnel ────▶ panes ── a task per pane
//! ```
//!
//! One loop that never waits for the network: a request is handed on at once.

use std::{sync::Arc, time::Duration};

use quarterdeck_protocol::{
    api::{Problem, RecordingUse},
    ids::ProjectId,
    live::ClientMessage,
};
use tokio::{
    sync::{Notify, mpsc},
    task::{JoinHandle, JoinSet},
};

use super::{
    api::RecordingFile,
    client::Client,
    clock,
    error::ApiError,
    files,
    link::{self, LinkEvent},
    panes::Panes,
    rows,
};
use crate::tui::{
    NetPeer,
    effects::{ApiAnswer, ApiRequest, NetEvent, NetRequest},
    mailbox::{ANSWERS_MAX, MailboxSender},
};

/// How long calls that are under way may take when the operator leaves.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves the seam until the TUI closes its end.
pub async fn serve(client: Client, project: ProjectId, mut peer: NetPeer) {
    let mut project = project;
    let mut link = Link::start(&client, &project, &peer.mailbox);
    let mut calls = JoinSet::new();
    let mut panes = Panes::default();
    while let Some(request) = peer.requests.recv().await {
        while calls.try_join_next().is_some() {}
        match request {
            NetRequest::Live(message) => {
                if !link.send(message) {
                    // Nothing leaves any more: a new connection is quicker than this one.
                    link = Link::start(&client, &project, &peer.mailbox);
                }
            }
            NetRequest::Call { id, call } => {
                let (client, project, mailbox) =
                    (client.clone(), project.clone(), peer.mailbox.clone());
                if calls.len() >= ANSWERS_MAX {
                    let result = Err(local_problem(503, "busy", "too many requests are under way"));
                    mailbox.put(NetEvent::Answer { id, result });
                    continue;
                }
                calls.spawn(async move {
                    let result = answer(&client, &project, call).await;
                    if let Err(error @ ApiError::SignedOut { .. }) = &result {
                        let waits_for_login = client.may_sign_in_again();
                        let why = error.to_string();
                        mailbox.put(NetEvent::SignedOut { why, waits_for_login });
                    }
                    mailbox.put(NetEvent::Answer { id, result: result.map_err(into_problem) });
                });
            }
            NetRequest::Tunnel(request) => panes.take(&client, &project, &peer.mailbox, request),
            NetRequest::Reconnect => link.hurry.notify_waiters(),
            NetRequest::OpenProject(next) => {
                project = next;
                link = Link::start(&client, &project, &peer.mailbox);
            }
        }
    }
    drop(link);
    let answered = async { while calls.join_next().await.is_some() {} };
    let _ = tokio::join!(tokio::time::timeout(FAREWELL, answered), panes.leave(FAREWELL));
}

/// A link that ends when it is dropped.
struct Link {
    outgoing: mpsc::Sender<ClientMessage>,
    /// Ends its pause between two tries.
    hurry: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Link {
    fn start(client: &Client, project: &ProjectId, mailbox: &MailboxSender) -> Self {
        let (outgoing, receiver) = mpsc::channel(link::OUTGOING_MAX);
        let mailbox = mailbox.clone();
        let tell = move |event| {
            mailbox.put(match event {
                LinkEvent::Message(message) => NetEvent::Live(message),
                LinkEvent::Lost { why, again_in } => NetEvent::Lost { why, again_in },
                LinkEvent::SignedOut { why, waits_for_login } => {
                    NetEvent::SignedOut { why, waits_for_login }
                }
            });
        };
        let hurry = Arc::new(Notify::new());
        let run = link::run(client.clone(), project.clone(), receiver, Arc::clone(&hurry), tell);
        Self { outgoing, hurry, task: tokio::spawn(run) }
    }

    /// Hands a message on; `false` when so many wait that the connection must be stuck.
    fn send(&self, message: ClientMessage) -> bool {
        !matches!(self.outgoing.try_send(message), Err(mpsc::error::TrySendError::Full(_)))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    client: &Client,
    project: &ProjectId,
    call: ApiRequest,
) -> Result<ApiAnswer, ApiError> {
    let project = client.project(project);
    let key = clock::fresh_key();
    Ok(match call {
        ApiRequest::CreateCommands(create) => {
            ApiAnswer::Created(project.create_commands(&create, &key).await?.value)
        }
        ApiRequest::CancelCommands(cancel) => {
            ApiAnswer::Cancelled(project.cancel_commands(&cancel).await?.value)
        }
        ApiRequest::RetryCommand { id, confirm } => {
            ApiAnswer::Command(Box::new(project.retry_command(id, confirm, &key).await?.value))
        }
        ApiRequest::ListPage { listing, filter, sort, cursor } => {
            ApiAnswer::Page(rows::page(client, &project, listing, filter, sort, cursor).await?)
        }
        ApiRequest::AcknowledgeAlert { id } => done(project.acknowledge_alert(&id).await)?,
        ApiRequest::SilenceAlert { id, duration_s } => {
            done(project.silence_alert(&id, duration_s).await)?
        }
        ApiRequest::ChangeDevice { id, change } => done(project.change_device(&id, &change).await)?,
        ApiRequest::RetireDevice(id) => done(project.retire_device(&id).await)?,
        ApiRequest::ClearServiceFailed(id) => done(project.clear_service_failed(&id).await)?,
        ApiRequest::DeviceHealth(id) => {
            ApiAnswer::Health(Box::new(project.device_health(&id).await?.value))
        }
        ApiRequest::ProjectSettings => ApiAnswer::Settings(project.settings().await?.value),
        ApiRequest::SaveOutput { id, path } => {
            let size_bytes =
                files::save(project.command_output(id).await?, &path, |_, _| {}).await?;
            ApiAnswer::Saved { path, size_bytes }
        }
        ApiRequest::CreateUser(user) => done(client.create_user(&user).await)?,
        ApiRequest::ChangeUser { username, change } => {
            done(client.change_user(&username, &change).await)?
        }
        ApiRequest::SetMember { username, role } => {
            done(project.set_member(&username, role).await)?
        }
        ApiRequest::RemoveMember { username } => done(project.remove_member(&username).await)?,
        ApiRequest::CreateProject(new) => done(client.create_project(&new).await)?,
        ApiRequest::CreateEnrollmentToken(token) => {
            ApiAnswer::Token(project.create_enrollment_token(&token).await?.value)
        }
        ApiRequest::RevokeEnrollmentToken { id } => {
            done(project.revoke_enrollment_token(&id).await)?
        }
        ApiRequest::CloseTunnel(id) => done(project.close_tunnel(id).await)?,
        ApiRequest::RecordingEvents { id, cursor } => {
            ApiAnswer::Events(rows::events(client, &project, &id, cursor).await?)
        }
        ApiRequest::DeleteRecording { id } => done(project.delete_recording(&id).await)?,
        ApiRequest::SaveRecording { id, path } => {
            let size_bytes = files::save(
                project.recording_file(&id, RecordingFile::Cast(RecordingUse::Export)).await?,
                &path,
                |_, _| {},
            )
            .await?;
            ApiAnswer::Saved { path, size_bytes }
        }
    })
}

fn done<T>(result: Result<T, ApiError>) -> Result<ApiAnswer, ApiError> {
    result.map(|_| ApiAnswer::Done)
}

/// Turns what went wrong into the server's own way to say it.
fn into_problem(error: ApiError) -> Problem {
    let (status, code) = match &error {
        ApiError::Refused(_) => (0, ""),
        ApiError::Unreachable { .. } => (0, "unreachable"),
        ApiError::SignedOut { .. } => (401, "signed_out"),
        ApiError::Unexpected { .. } => (0, "unexpected_answer"),
        ApiError::BadId(_) => (404, "not_found"),
        ApiError::Write { .. } => (0, "cannot_write"),
        ApiError::Read { .. } => (0, "cannot_read"),
        ApiError::Server(_) | ApiError::Profile(_) | ApiError::Setup(_) => (0, "local"),
    };
    match error {
        ApiError::Refused(problem) => *problem,
        other => local_problem(status, code, &other.to_string()),
    }
}

fn local_problem(status: u16, code: &str, detail: &str) -> Problem {
    Problem {
        kind: "about:blank".to_owned(),
        title: "Not done".to_owned(),
        status,
        detail: detail.to_owned(),
        code: code.to_owned(),
        field: None,
        request_id: None,
        other: serde_json::Map::new(),
    }
}
