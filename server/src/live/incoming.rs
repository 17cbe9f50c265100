//! What a console sends, read once. One that cannot be costs the window it names, not the connection.

use quarterdeck_protocol::{json, live::ClientMessage};
use serde_json::Value;

/// A message that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It names a window, which the answer can name too.
    Of { id: u32, is_subscribe: bool, detail: String },
    /// Nothing of it can be told.
    Whole(String),
}

/// Reads one text message.
pub(super) fn read(text: &str) -> Result<ClientMessage, Unreadable> {
    let whole = |error: serde_json::Error| Unreadable::Whole(error.to_string());
    let fault = json::check(text).map_err(whole)?;
    let message: Value = serde_json::from_str(text).map_err(whole)?;
    let kind = message["type"].as_str().unwrap_or_default();
    let id = message["id"].as_u64().and_then(|id| u32::try_from(id).ok());
    let is_subscribe = kind == "subscribe";
    let unreadable = |detail| match id {
        Some(id) => Unreadable::Of { id, is_subscribe, detail },
        None => Unreadable::Whole(detail),
    };
    if let Some(fault) = fault {
        return Err(unreadable(format!("{}: {}", fault.field, fault.expected)));
    }
    if let Some(name) = unknown_field(kind, &message) {
        return Err(unreadable(format!("{name}: there is no such field here")));
    }
    serde_json::from_value(message).map_err(|error| unreadable(error.to_string()))
}

/// A misspelt field must not become a silent default.
fn unknown_field<'m>(kind: &str, message: &'m Value) -> Option<&'m str> {
    let known: &[&str] = match kind {
        "subscribe" => &["type", "id", "listing", "filter", "sort", "offset", "limit"],
        "window" => &["type", "id", "offset", "limit"],
        "unsubscribe" => &["type", "id"],
        "ping" => &["type", "nonce"],
        // What it is cannot be read either; that says more.
        _ => return None,
    };
    let fields = message.as_object()?;
    fields.keys().map(String::as_str).find(|name| !known.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_window_is_refused_for_that_window() {
        for (text, id, words) in [
            (r#"{"type":"subscribe","id":3,"listing":"dreams","limit":5}"#, 3, "dreams"),
            (
                r#"{"type":"subscribe","id":3,"listing":"devices","limit":5,"filter":{"q":1}}"#,
                3,
                "string",
            ),
            (
                r#"{"type":"subscribe","id":3,"listing":"devices","limit":5,"fliter":{}}"#,
                3,
                "fliter",
            ),
            (r#"{"type":"subscribe","id":3,"listing":"devices","limit":5,"limit":6}"#, 3, "twice"),
            (r#"{"type":"window","id":4,"limit":-1}"#, 4, "-1"),
            (r#"{"type":"watch","id":5}"#, 5, "watch"),
        ] {
            let Err(Unreadable::Of { id: of, is_subscribe, detail }) = read(text) else {
                panic!("{text}");
            };
            assert_eq!((of, is_subscribe), (id, id == 3), "{text}");
            assert!(detail.contains(words), "{detail}");
        }
    }

    #[test]
    fn what_names_none_is_refused_as_a_whole() {
        for text in [
            "",
            "{",
            "[]",
            "3",
            r#"{"type":"subscribe","id":-1}"#,
            r#"{"type":"ping","nonce":"x"}"#,
        ] {
            assert!(matches!(read(text), Err(Unreadable::Whole(_))), "{text}");
        }
    }

    #[test]
    fn what_a_console_writes_is_read() {
        let message = ClientMessage::Ping { nonce: 7 };
        let text = serde_json::to_string(&message).expect("JSON");
        assert_eq!(read(&text), Ok(message));
    }
}
