//! Bodies of requests. The first line names the type.

use quarterdeck_protocol::api::{
    CancelCommands, ChangeDevice, CreateCommands, CreateEnrollmentToken, CreateProject,
    CreateServiceToken, CreateTicket, CreateUser, EnrollRequest, LoginRequest, ProjectSettings,
    RefreshRequest, SetMember, SilenceAlert,
};
use quarterdeck_server::fuzz::http_body;
use serde::de::DeserializeOwned;

pub(super) fn run(input: &[u8]) {
    let Some((kind, body)) = super::chosen(input) else { return };
    match kind {
        "CancelCommands" => read::<CancelCommands>(body),
        "ChangeDevice" => read::<ChangeDevice>(body),
        "CreateCommands" => read::<CreateCommands>(body),
        "CreateEnrollmentToken" => read::<CreateEnrollmentToken>(body),
        "CreateProject" => read::<CreateProject>(body),
        "CreateServiceToken" => read::<CreateServiceToken>(body),
        "CreateTicket" => read::<CreateTicket>(body),
        "CreateUser" => read::<CreateUser>(body),
        "EnrollRequest" => read::<EnrollRequest>(body),
        "LoginRequest" => read::<LoginRequest>(body),
        "ProjectSettings" => read::<ProjectSettings>(body),
        "RefreshRequest" => read::<RefreshRequest>(body),
        "SetMember" => read::<SetMember>(body),
        "SilenceAlert" => read::<SilenceAlert>(body),
        _ => {}
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) {
    let Err(error) = http_body::<T>(body) else { return };
    let is_json = serde_json::from_slice::<serde_json::Value>(body).is_ok();
    match error.status.as_u16() {
        // Malformed, or JSON that nests too deep.
        400 => assert!(!is_json || error.code == "too_deep", "{error:?}"),
        422 => assert!(!error.detail.is_empty()),
        other => panic!("{other}: {error:?}"),
    }
}
