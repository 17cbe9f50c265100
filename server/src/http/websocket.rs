//! What is said to who breaks the protocol of WebSockets (RFC 6455, 7.4.1).

use axum::extract::ws::close_code;

/// The code with which a WebSocket is closed whose reading failed; `None` when it is gone.
pub fn close_code_of(error: &axum::Error) -> Option<u16> {
    // The library's own type is not among its public ones; its words are.
    let text = error.to_string().to_lowercase();
    let has = |word: &str| text.contains(word);
    if has("too long") || has("too big") || has("space limit") {
        Some(close_code::SIZE)
    } else if has("utf-8") {
        Some(close_code::INVALID)
    } else if has("without closing handshake") {
        None
    } else if has("protocol") {
        Some(close_code::PROTOCOL)
    } else {
        None
    }
}
