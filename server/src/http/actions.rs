//! What a route does, and on what, in the words of the audit trail: for who was refused before it
//! was done.

use axum::http::Method;

use super::query::percent_decoded;

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
        ("POST", "/devices/{device}/enroll-again") => "device.allow_enroll",
        ("POST", "/devices/{device}/credentials") => "device.issue_credentials",
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

/// Names what a path leads to, as the entries of what was done name it: `device:pi-1`.
///
/// Where no single thing is named: the project, and beside the projects the listing (`users`).
pub fn object(path: &str) -> String {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (parts, project) = match *parts.as_slice() {
        ["projects", project, ref rest @ ..] => (rest, Some(project)),
        ref rest => (rest, None),
    };
    match (parts, project) {
        // Of `/commands/cancel` the second is no id.
        ([listing, id, ..], _)
            if noun(listing).is_some() && (*listing, *id) != ("commands", "cancel") =>
        {
            format!("{}:{}", noun(listing).unwrap_or_default(), readable(id))
        }
        (_, Some(project)) => format!("project:{}", readable(project)),
        (parts, None) => readable(&parts.join("/")),
    }
}

fn noun(listing: &str) -> Option<&'static str> {
    Some(match listing {
        "alerts" => "alert",
        "commands" => "command",
        "devices" => "device",
        "enrollment-tokens" => "enrollment_token",
        "members" | "users" => "user",
        "recordings" => "recording",
        "service-tokens" => "service_token",
        "tunnels" => "tunnel",
        "uploads" => "file",
        _ => return None,
    })
}

/// So that an encoded name is found as well: `d%31` is `d1`.
fn readable(part: &str) -> String {
    let decoded = percent_decoded(part).and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.unwrap_or_else(|| part.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_is_the_one_that_the_path_names() {
        for (path, expected) in [
            ("/api/v1/projects/p/devices/d%37/retire", "device:d7"),
            ("/api/v1/projects/p/devices/d%3/retire", "device:d%3"),
            ("/api/v1/projects/p/commands/018f/cancel", "command:018f"),
            ("/api/v1/projects/p/commands/cancel", "project:p"),
            ("/api/v1/projects/p/commands", "project:p"),
            ("/api/v1/projects/p/members/ops", "user:ops"),
            ("/api/v1/projects/p/settings", "project:p"),
            ("/api/v1/projects/p", "project:p"),
            ("/api/v1/projects", "projects"),
            ("/api/v1/uploads/018f", "file:018f"),
            ("/api/v1/users/ops", "user:ops"),
            ("/api/v1/users", "users"),
            ("/api/v1/service-tokens/x", "service_token:x"),
        ] {
            assert_eq!(object(path), expected, "{path}");
        }
    }
}
