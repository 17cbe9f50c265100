//! Rows as files: JSON as the server sent it, or CSV.
//!
//! What others wrote can neither act on a terminal that shows the file nor on
//! a spreadsheet that opens it: JSON writes such characters as `\u001b`, CSV
//! shows them as markers and puts `'` before what would be a formula.

use quarterdeck_protocol::{
    live::{Listing, Row},
    text,
};
use serde_json::{Map, Value};

use crate::cli::output::plain_json;

/// What a file of rows looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One array of the API's items.
    Json,
    /// A line for each, with a head; what is nested stands as JSON.
    Csv,
}

impl Format {
    pub const ALL: [Self; 2] = [Self::Json, Self::Csv];

    pub const fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }

    pub fn of(extension: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.extension() == extension)
    }

    /// What stands before the first row.
    pub fn head(self, listing: Listing) -> String {
        match self {
            Self::Json => "[".to_owned(),
            Self::Csv => csv_line(fields(listing).iter().map(|field| (*field).to_owned())),
        }
    }

    /// One row; `is_first` of the file.
    pub fn row(self, listing: Listing, row: &Row, is_first: bool) -> String {
        match self {
            Self::Json => {
                let comma = if is_first { "\n" } else { ",\n" };
                format!("{comma}{}", plain_json(row.data.get()))
            }
            Self::Csv => {
                let item: Map<String, Value> =
                    serde_json::from_str(row.data.get()).unwrap_or_default();
                csv_line(fields(listing).iter().map(|field| cell(item.get(*field))))
            }
        }
    }

    /// What stands behind the last row.
    pub const fn tail(self) -> &'static str {
        match self {
            Self::Json => "\n]\n",
            Self::Csv => "",
        }
    }
}

/// The columns of a listing's CSV: the fields of its items.
pub const fn fields(listing: Listing) -> &'static [&'static str] {
    match listing {
        Listing::Devices => &[
            "id",
            "type",
            "status",
            "tags",
            "last_seen_at",
            "unheard_since",
            "agent_version",
            "facts",
            "capabilities",
            "contract",
            "broker_connection",
            "process_status",
            "service_failed",
            "active_deployment",
            "enrolled_at",
            "retired_at",
            "clock_offset_ms",
            "open_commands",
        ],
        Listing::Commands => &[
            "id",
            "batch_id",
            "device_id",
            "device_status",
            "type",
            "payload",
            "priority",
            "timeout_s",
            "notes",
            "status",
            "progress",
            "step",
            "state",
            "created_by",
            "created_at",
            "expires_at",
            "published_at",
            "accepted_at",
            "started_at",
            "finished_at",
            "cancel_requested_at",
            "attempt",
            "retry_of",
            "blocked_until",
            "result",
            "exit_code",
            "stdout",
            "stderr",
            "error_code",
            "error_message",
        ],
        Listing::Timeline => &["seq", "at", "event", "by", "command_id", "detail"],
        Listing::Alerts => &[
            "id",
            "kind",
            "severity",
            "cause",
            "device_id",
            "command_id",
            "first_seen_at",
            "last_seen_at",
            "count",
            "acknowledged_by",
            "acknowledged_at",
            "silenced_until",
            "resolved_at",
        ],
        Listing::Audit => {
            &["seq", "at", "actor", "from", "action", "object", "outcome", "detail", "hash"]
        }
        Listing::Users => {
            &["id", "username", "admin", "disabled", "projects", "created_at", "last_login_at"]
        }
        Listing::Projects => &["id", "name", "created_at", "role"],
        Listing::Members => &["username", "role"],
        Listing::EnrollmentTokens => {
            &["id", "uses", "used", "expires_at", "tags", "created_by", "created_at", "revoked_at"]
        }
        Listing::Tunnels => &[
            "id",
            "device_id",
            "user",
            "kind",
            "status",
            "argv",
            "host",
            "port",
            "reverse",
            "listen_port",
            "bytes_up",
            "bytes_down",
            "attached",
            "created_at",
            "opened_at",
            "last_activity_at",
            "closed_at",
            "close_reason",
            "close_message",
            "exit_code",
            "recording_id",
        ],
        Listing::Recordings => &[
            "id",
            "tunnel_id",
            "device_id",
            "user",
            "status",
            "argv",
            "has_input",
            "started_at",
            "ended_at",
            "bytes",
            "expires_at",
        ],
        Listing::Output | Listing::Operations | Listing::Overview => &[],
    }
}

/// A value as the text of a cell.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        // A spreadsheet takes what begins so for a formula, and runs it.
        Some(Value::String(text)) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => {
            format!("'{}", text::line(text))
        }
        Some(Value::String(text)) => text::line(text).into_owned(),
        Some(other) => plain_json(&other.to_string()),
    }
}

/// One line of RFC 4180.
fn csv_line(cells: impl Iterator<Item = String>) -> String {
    let quoted = |cell: String| {
        if cell.contains(['"', ',', '\n', '\r']) || cell.starts_with(' ') || cell.ends_with(' ') {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell
        }
    };
    let mut line = cells.map(quoted).collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quarterdeck_protocol::api;
    use serde_json::{json, value::RawValue};
    use utoipa::openapi::{RefOr, Schema};

    use super::*;

    fn row(item: &Value) -> Row {
        let data = RawValue::from_string(item.to_string()).expect("valid JSON");
        Row { key: String::new(), data }
    }

    fn schema_fields<T: utoipa::PartialSchema>() -> Vec<String> {
        let RefOr::T(Schema::Object(object)) = T::schema() else { panic!("an object") };
        object.properties.keys().cloned().collect()
    }

    #[test]
    fn a_csv_has_a_column_for_each_field_of_an_item() {
        for (listing, known) in [
            (Listing::Devices, schema_fields::<api::Device>()),
            (Listing::Commands, schema_fields::<api::Command>()),
            (Listing::Timeline, schema_fields::<api::TimelineEntry>()),
            (Listing::Alerts, schema_fields::<api::Alert>()),
            (Listing::Audit, schema_fields::<api::AuditEntry>()),
            (Listing::Users, schema_fields::<api::User>()),
            (Listing::Projects, schema_fields::<api::Project>()),
            (Listing::Members, schema_fields::<api::Member>()),
            (Listing::EnrollmentTokens, schema_fields::<api::EnrollmentToken>()),
            (Listing::Tunnels, schema_fields::<api::Tunnel>()),
            (Listing::Recordings, schema_fields::<api::Recording>()),
        ] {
            let mut known: Vec<&str> = known.iter().map(String::as_str).collect();
            // Only in the answer that made it.
            known.retain(|field| *field != "token");
            let mut own = fields(listing).to_vec();
            known.sort_unstable();
            own.sort_unstable();
            assert_eq!(own, known, "{listing:?}");
        }
    }

    #[test]
    fn what_would_be_a_formula_or_act_on_a_terminal_is_text() {
        let item = json!({
            "username": "=cmd|' /C calc'!A0", "role": "\u{1b}]0;x\u{7} \"a\", b\r\n\u{202e}"
        });
        assert_eq!(
            Format::Csv.row(Listing::Members, &row(&item), true),
            "'=cmd|' /C calc'!A0,\"^[]0;x^G \"\"a\"\", b^M^J<U+202E>\"\r\n"
        );
        let shown = Format::Json.row(Listing::Members, &row(&item), false);
        assert!(shown.starts_with(",\n{") && shown.contains("\\u202e"), "{shown}");
    }

    #[test]
    fn numbers_stay_numbers_and_what_is_nested_is_json() {
        let item = json!({"seq": -3, "at": null, "detail": {"a": [1, 2]}});
        assert_eq!(
            Format::Csv.row(Listing::Timeline, &row(&item), true),
            "-3,,,,,\"{\"\"a\"\":[1,2]}\"\r\n"
        );
    }

    proptest! {
        #[test]
        fn a_json_file_is_what_the_server_sent(items in prop::collection::vec(any::<String>(), 0..5)) {
            let items: Vec<Value> = items.into_iter().map(|name| json!({"id": name})).collect();
            let mut file = Format::Json.head(Listing::Devices);
            for (at, item) in items.iter().enumerate() {
                file.push_str(&Format::Json.row(Listing::Devices, &row(item), at == 0));
            }
            file.push_str(Format::Json.tail());
            prop_assert!(file.chars().all(|c| c == '\n' || !c.is_control()));
            prop_assert_eq!(serde_json::from_str::<Vec<Value>>(&file).expect("JSON"), items);
        }

        #[test]
        fn a_csv_line_has_one_line_and_all_its_cells(role: String, username: String) {
            let item = json!({"role": role, "username": username});
            let line = Format::Csv.row(Listing::Members, &row(&item), true);
            prop_assert!(line.ends_with("\r\n"));
            prop_assert!(line.trim_end().chars().all(|c| !c.is_control()));
        }
    }
}
