//! All named bounds of the server, for `quarterdeck-server limits`.
//!
//! Each lives beside what it bounds; here they are only shown.

use quarterdeck_protocol::{limits as shared, search};

use crate::{auth, http, live, mqtt, server, store, tunnels};

/// One bound: its name with its unit, its value, and what happens over it.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub name: &'static str,
    pub value: u64,
    pub over: &'static str,
}

const fn limit(name: &'static str, value: u64, over: &'static str) -> Limit {
    Limit { name, value, over }
}

/// What is configurable is shown as it is by default.
const TUNNELS: tunnels::Settings = tunnels::Settings::DEFAULT;

/// Lists the bounds.
pub const ALL: &[Limit] = &[
    limit("http_connections", http::server::CONNECTIONS_MAX as u64, "new ones wait in the kernel"),
    limit("http_target_bytes", http::head::TARGET_MAX_BYTES as u64, "414"),
    limit("http_head_bytes", http::head::HEAD_MAX_BYTES as u64, "431"),
    limit("http_headers", http::head::FIELDS_MAX as u64, "431"),
    limit("http_head_timeout_ms", http::server::HEAD_TIMEOUT_MS, "closed"),
    limit("http_linger_ms", http::socket::LINGER_MAX_MS, "closed, and perhaps the answer lost"),
    limit("http_linger_idle_ms", http::socket::LINGER_IDLE_MS, "closed"),
    limit(
        "http_linger_bytes",
        http::socket::LINGER_MAX_BYTES,
        "closed, and perhaps the answer lost",
    ),
    limit("http_body_bytes", shared::HTTP_BODY_MAX_BYTES as u64, "413"),
    limit("device_configuration_bytes", shared::CONFIGURATION_MAX_BYTES as u64, "422"),
    limit("http_body_timeout_ms", http::json::BODY_TIMEOUT_MS, "408"),
    limit("http_write_stall_ms", http::socket::WRITE_STALL_MS, "closed"),
    limit("json_depth", shared::JSON_MAX_DEPTH as u64, "400"),
    limit("page_items", shared::PAGE_MAX_ITEMS as u64, "422"),
    limit("search_chars", search::SEARCH_MAX_CHARS as u64, "422"),
    limit("search_words", search::SEARCH_MAX_WORDS as u64, "422"),
    limit("filter_names", search::FILTER_MAX_NAMES as u64, "422"),
    limit("idempotency_key_bytes", store::idempotency::KEY_MAX_BYTES as u64, "422"),
    limit("idempotency_kept_ms", store::idempotency::KEPT_MS as u64, "forgotten"),
    limit("upload_bytes", shared::UPLOAD_MAX_BYTES, "413"),
    limit("uploads_at_once", http::uploads::UPLOADS_AT_ONCE_MAX as u64, "503"),
    limit("upload_idle_ms", http::uploads::UPLOAD_IDLE_MS, "408"),
    limit("disk_reserve_bytes", http::uploads::DISK_RESERVE_BYTES, "507"),
    limit("password_min_chars", auth::password::PASSWORD_MIN_CHARS as u64, "422"),
    limit("password_max_chars", auth::password::PASSWORD_MAX_CHARS as u64, "422"),
    limit("access_token_ttl_s", auth::access::ACCESS_TTL_S as u64, "401"),
    limit("session_idle_s", auth::refresh::SESSION_IDLE_MAX_S as u64, "401"),
    limit("refresh_grace_ms", auth::refresh::GRACE_MS as u64, "the session ends"),
    limit("login_pair_burst", auth::limiter::PAIR_BURST as u64, "429"),
    limit("login_pair_refill_ms", auth::limiter::PAIR_REFILL_MS as u64, "429"),
    limit("login_name_burst", auth::limiter::NAME_BURST as u64, "429"),
    limit("login_name_refill_ms", auth::limiter::NAME_REFILL_MS as u64, "429"),
    limit("login_address_burst", auth::limiter::ADDRESS_BURST as u64, "429"),
    limit("login_address_refill_ms", auth::limiter::ADDRESS_REFILL_MS as u64, "429"),
    limit("login_buckets", auth::limiter::BUCKETS_MAX as u64, "newcomers share one"),
    limit("ticket_ttl_ms", auth::tickets::TICKET_TTL_MS as u64, "401"),
    limit("tickets", auth::tickets::TICKETS_MAX as u64, "429"),
    limit("tickets_per_caller", auth::tickets::TICKETS_PER_CALLER_MAX as u64, "429"),
    limit("live_connections", live::LIVE_CONNECTIONS_MAX as u64, "429"),
    limit("live_connections_per_user", live::LIVE_CONNECTIONS_PER_USER_MAX as u64, "429"),
    limit("live_windows", shared::LIVE_WINDOWS_MAX as u64, "refused"),
    limit("live_window_rows", shared::LIVE_WINDOW_MAX_ROWS as u64, "refused"),
    limit(
        "live_message_bytes",
        quarterdeck_protocol::live::CLIENT_MESSAGE_MAX_BYTES as u64,
        "closed with 1009",
    ),
    limit("live_window_reads", live::WINDOW_READS_MAX as u64, "they wait"),
    limit("batch_devices", shared::BATCH_MAX_DEVICES as u64, "422"),
    limit("bulk_commands", shared::BULK_MAX_COMMANDS as u64, "422"),
    limit("command_payload_bytes", shared::COMMAND_PAYLOAD_MAX_BYTES as u64, "422"),
    limit("output_kept_bytes", shared::OUTPUT_KEPT_MAX_BYTES as u64, "cut, with a marker"),
    limit("mqtt_message_bytes", shared::MQTT_MESSAGE_MAX_BYTES as u64, "the connection ends"),
    limit("mqtt_connections", mqtt::limits::CONNECTIONS_MAX as u64, "refused"),
    limit("mqtt_inbound_events", mqtt::limits::INBOUND_MAX_EVENTS as u64, "devices wait"),
    limit(
        "mqtt_device_queue_messages",
        mqtt::limits::DEVICE_QUEUE_MAX_MESSAGES as u64,
        "stays in the store",
    ),
    limit(
        "tunnel_streams",
        quarterdeck_protocol::tunnel::limits::STREAMS_MAX as u64,
        "connections of a forward wait in the kernel's queue; others are reset with busy",
    ),
    limit(
        "tunnel_message_bytes",
        quarterdeck_protocol::tunnel::session::CLIENT_MESSAGE_MAX_BYTES as u64,
        "closed with 1009",
    ),
    limit("tunnel_watchers", tunnels::limits::WATCHERS_MAX as u64, "429"),
    limit("tunnel_copilot_flight_bytes", tunnels::limits::COPILOT_FLIGHT.bytes as u64, "it waits"),
    limit("tunnel_flight_bytes", tunnels::limits::OWNER_FLIGHT.bytes as u64, "they wait"),
    limit("tunnel_flight_messages", tunnels::limits::OWNER_FLIGHT.messages as u64, "they wait"),
    limit("tunnel_waiting_words", tunnels::limits::WORDS_MAX as u64, "the console is let go"),
    limit("tunnels_per_user", TUNNELS.per_user, "429; configurable"),
    limit("tunnels_per_device", TUNNELS.per_device, "429; configurable"),
    limit("tunnel_open_ms", TUNNELS.life.open_ms as u64, "failed; configurable"),
    limit("tunnel_idle_ms", TUNNELS.life.idle_ms as u64, "closed; configurable"),
    limit("tunnel_duration_ms", TUNNELS.life.duration_ms as u64, "closed; configurable"),
    limit("tunnel_away_ms", TUNNELS.life.away_ms as u64, "closed; configurable"),
    limit("tunnel_alone_ms", TUNNELS.life.alone_ms as u64, "closed; configurable"),
    limit("session_log_bytes", TUNNELS.log_max_bytes, "the oldest goes; configurable"),
    limit("recording_bytes", TUNNELS.recording_max_bytes, "the tunnel is closed; configurable"),
    limit("recording_views", http::VIEWS_MAX as u64, "a page is audited anew"),
    limit("recording_view_pause_ms", http::VIEW_PAUSE_MS as u64, "a page is audited anew"),
    limit(
        "tunnel_frame_bytes",
        quarterdeck_protocol::tunnel::limits::FRAME_MAX_BYTES as u64,
        "closed with 1009",
    ),
    limit(
        "tunnel_behind_bytes",
        quarterdeck_protocol::tunnel::session::BEHIND_MAX_BYTES,
        "an owner's program waits, others get a snapshot",
    ),
    limit("drain_timeout_ms", server::DRAIN_TIMEOUT_MS, "closed"),
];
