//! The seam's other end: what the TUI asks goes to a fleet in memory, and comes back at once.

use quarterdeck_console::tui::effects::{
    ApiAnswer, ApiRequest, EventsPage, ListPage, NetEvent, NetRequest,
};
use quarterdeck_protocol::{
    api::{Problem, ProjectSettings},
    tunnel::close::CloseCode,
};
use quarterdeck_tests::fake::{FakeFleet, USERNAME, Windows, calls::Answer};

/// Answers a request.
pub(crate) fn answer(
    fleet: &mut FakeFleet,
    windows: &mut Windows,
    request: NetRequest,
) -> Option<NetEvent> {
    match request {
        NetRequest::Live(message) => windows.answer(fleet, message).map(NetEvent::Live),
        NetRequest::Call { id, call } => {
            let result = self::call(fleet, call).map_err(|problem: Box<Problem>| *problem);
            Some(NetEvent::Answer { id, result })
        }
        NetRequest::Reconnect | NetRequest::OpenProject(_) => Some(NetEvent::Live(fleet.hello())),
        NetRequest::Tunnel(_) => unreachable!("sessions have a place of their own"),
    }
}

fn call(fleet: &mut FakeFleet, call: ApiRequest) -> Answer<ApiAnswer> {
    let done = ApiAnswer::Done;
    match call {
        ApiRequest::CreateCommands(create) => {
            fleet.create_commands(&create).map(ApiAnswer::Created)
        }
        ApiRequest::CancelCommands(cancel) => {
            Ok(ApiAnswer::Cancelled(fleet.cancel_commands(&cancel)))
        }
        ApiRequest::ListPage { listing, filter, sort, cursor } => {
            let (rows, next_cursor, total) = fleet.page(listing, filter, sort, cursor.as_deref());
            Ok(ApiAnswer::Page(ListPage { rows, next_cursor, total }))
        }
        ApiRequest::RetryCommand { id, confirm } => {
            fleet.retry_command(id, confirm).map(|command| ApiAnswer::Command(Box::new(command)))
        }
        ApiRequest::AcknowledgeAlert { id } => fleet.acknowledge_alert(&id).map(|_| done),
        ApiRequest::SilenceAlert { id, duration_s } => {
            fleet.silence_alert(&id, duration_s).map(|_| done)
        }
        ApiRequest::ChangeDevice { id, change } => {
            fleet.change_device(id.as_str(), &change).map(|_| done)
        }
        ApiRequest::RetireDevice(id) => fleet.retire_device(id.as_str()).map(|_| done),
        ApiRequest::ClearServiceFailed(id) => fleet.clear_service_failed(id.as_str()).map(|_| done),
        ApiRequest::DeviceHealth(_) => Ok(ApiAnswer::Health(Box::new(fleet.device_health()))),
        ApiRequest::ProjectSettings => Ok(ApiAnswer::Settings(ProjectSettings::default())),
        ApiRequest::SaveOutput { path, .. } => Ok(ApiAnswer::Saved { path, size_bytes: 4_211 }),
        ApiRequest::CreateUser(create) => fleet.create_user(create).map(|_| done),
        ApiRequest::ChangeUser { username, change } => {
            fleet.change_user(&username, &change).map(|_| done)
        }
        ApiRequest::SetMember { username, role } => fleet.set_member(&username, role).map(|_| done),
        ApiRequest::RemoveMember { username } => {
            fleet.remove_member(&username);
            Ok(done)
        }
        ApiRequest::CreateProject(create) => {
            fleet.create_project(create);
            Ok(done)
        }
        ApiRequest::CreateEnrollmentToken(create) => {
            Ok(ApiAnswer::Token(fleet.create_enrollment_token(create)))
        }
        ApiRequest::RevokeEnrollmentToken { id } => {
            fleet.revoke_enrollment_token(&id);
            Ok(done)
        }
        ApiRequest::CloseTunnel(id) => {
            let is_mine =
                fleet.tunnels.iter().any(|tunnel| tunnel.id == id && tunnel.user == USERNAME);
            let reason = if is_mine { CloseCode::ClosedByUser } else { CloseCode::Killed };
            fleet.close_tunnel(id, reason).map(|()| done)
        }
        ApiRequest::RecordingEvents { id, cursor } => {
            let (events, next_cursor) = fleet.recording_events(&id, cursor.as_deref())?;
            Ok(ApiAnswer::Events(EventsPage { events, next_cursor }))
        }
        ApiRequest::DeleteRecording { id } => fleet.delete_recording(&id).map(|()| done),
        ApiRequest::SaveRecording { path, .. } => Ok(ApiAnswer::Saved { path, size_bytes: 98_304 }),
    }
}
