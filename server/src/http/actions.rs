//! What a route does, in the words of the audit trail: for who was refused before it was done.

use axum::http::Method;

/// Names the action of a route: `noun.verb`.
pub fn of(method: &Method, path: &str) -> &'static str {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    let path = path.strip_prefix("/projects/{project}").unwrap_or(path);
    match (method.as_str(), path) {
        ("POST", "/users") => "user.create",
        ("PATCH" | "PUT", "/users/{username}") => "user.change",
        ("DELETE", "/users/{username}") => "user.disable",
        ("POST", "/projects") => "project.create",
        ("POST", "/service-tokens") => "service_token.create",
        ("DELETE", "/service-tokens/{id}") => "service_token.revoke",
        ("PUT", "/settings") => "settings.change",
        ("PUT", "/members/{username}") => "member.set",
        ("DELETE", "/members/{username}") => "member.remove",
        ("POST", "/enrollment-tokens") => "enrollment_token.create",
        ("DELETE", "/enrollment-tokens/{id}") => "enrollment_token.revoke",
        ("PATCH", "/devices/{device}") => "device.change",
        ("DELETE", "/devices/{device}") | ("POST", "/devices/{device}/retire") => "device.retire",
        ("POST", "/devices/{device}/enroll-again") => "device.enroll_again",
        ("PUT", "/devices/{device}/configuration") => "device.configure",
        ("POST", "/devices/{device}/clear_service_failed") => "device.clear_service_failed",
        ("POST", "/commands") => "command.create",
        ("POST", "/commands/{id}/cancel" | "/commands/cancel") => "command.cancel",
        ("POST", "/commands/{id}/retry") => "command.retry",
        ("POST", "/alerts/{id}/acknowledge") => "alert.acknowledge",
        ("POST", "/alerts/{id}/silence") => "alert.silence",
        ("POST", "/tickets") => "ticket.create",
        ("DELETE", "/recordings/{id}") => "recording.delete",
        ("POST", "/tunnels") => "tunnel.open",
        ("POST", "/tunnels/{id}/close") => "tunnel.close",
        ("PUT", "/uploads/{id}") => "file.upload",
        ("GET" | "HEAD", "/uploads/{id}") => "file.download",
        ("GET" | "HEAD", _) => "read",
        _ => "request",
    }
}
