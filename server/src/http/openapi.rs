//! The routes, each with its documentation: one list for both.

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use quarterdeck_protocol::api::Problem;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::{
    IntoParams, OpenApi,
    openapi::{
        ContentBuilder, Ref, RefOr, Required, ResponseBuilder,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, Type},
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App, alerts, audit, auth, commands, configuration, devices, enrollment,
    extract::SignedIn,
    head, members, metrics, operations, output, overview,
    problem::{self, Error, RequestId},
    projects, recordings, service_tokens, status, tickets, tunnels, uploads, users,
};

/// What every listing takes.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by its documentation only; query.rs reads the parameters")]
pub(super) struct ListParams {
    /// Items of a page, 1 to 1000; 100 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// A column, `-` before it for descending.
    sort: Option<String>,
}

/// What every `POST` that creates takes.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by its documentation only; idempotency.rs reads the header")]
pub(super) struct CreateParams {
    /// 1 to 255 visible ASCII characters, chosen by the client. The same key and body give the
    /// same answer for two days; another body gives 409.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Quarterdeck", description = "An operations console for device fleets: the server's HTTP interface."),
    components(schemas(Problem)),
    security(("bearer" = []))
)]
struct Api;

/// All routes under `/api/v1`.
fn api() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(auth::login))
        .routes(routes!(auth::refresh))
        .routes(routes!(auth::logout))
        .routes(routes!(auth::me))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::change, users::put, users::disable))
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(projects::read))
        .routes(routes!(projects::settings, projects::set_settings))
        .routes(routes!(members::list))
        .routes(routes!(members::set, members::remove))
        .routes(routes!(service_tokens::list, service_tokens::create))
        .routes(routes!(service_tokens::revoke))
        .routes(routes!(enrollment::list, enrollment::create))
        .routes(routes!(enrollment::revoke))
        .routes(routes!(enrollment::enroll))
        .routes(routes!(devices::list))
        .routes(routes!(devices::read, devices::change, devices::delete))
        .routes(routes!(devices::retire))
        .routes(routes!(devices::enroll_again))
        .routes(routes!(devices::credentials))
        .routes(routes!(devices::clear_service_failed))
        .routes(routes!(devices::health))
        .routes(routes!(devices::commands))
        .routes(routes!(devices::timeline))
        .routes(routes!(configuration::read, configuration::set))
        .routes(routes!(commands::list, commands::create))
        .routes(routes!(commands::cancel_many))
        .routes(routes!(commands::read))
        .routes(routes!(commands::cancel))
        .routes(routes!(commands::retry))
        .routes(routes!(commands::timeline))
        .routes(routes!(output::read))
        .routes(routes!(uploads::put, uploads::get))
        .routes(routes!(operations::list))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::read))
        .routes(routes!(alerts::acknowledge))
        .routes(routes!(alerts::silence))
        .routes(routes!(audit::list))
        .routes(routes!(overview::read))
        .routes(routes!(tickets::create))
        .routes(routes!(tickets::live))
        .routes(routes!(tunnels::list, tunnels::create))
        .routes(routes!(tunnels::read))
        .routes(routes!(tunnels::close))
        .routes(routes!(tunnels::stream))
        .routes(routes!(recordings::list))
        .routes(routes!(recordings::read, recordings::delete))
        .routes(routes!(recordings::events))
        .routes(routes!(recordings::cast))
        .routes(routes!(recordings::bytes))
        .routes(routes!(recordings::verify))
}

fn documented() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Api::openapi())
        .nest("/api/v1", api())
        .routes(routes!(status::healthz))
        .routes(routes!(status::readyz))
        .routes(routes!(status::metrics))
        .routes(routes!(document))
}

/// Gives this document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "status",
    responses((status = 200, body = Object)))]
async fn document(
    _caller: SignedIn,
    axum::Extension(document): axum::Extension<Document>,
) -> Response {
    let mut response = document.0.to_string().into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[derive(Debug, Clone)]
struct Document(Arc<str>);

/// How long an answer waits for what devices said before it, in milliseconds.
const SETTLE_MAX_MS: u64 = 2_000;

/// Makes the router of a server.
pub fn router(app: Arc<App>) -> Router {
    let (router, document) = documented().split_for_parts();
    let document = completed(document);
    let text = serde_json::to_string(&document).expect("the document is plain data");
    router
        .fallback(|| async { Error::not_found("path") })
        .layer(axum::Extension(Document(text.into())))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), settled))
        .layer(middleware::from_fn(head::check))
        .layer(middleware::from_fn(security_headers))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(metrics::observe))
        .layer(middleware::from_fn(problem::render))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), identify))
        .with_state(app)
}

/// The document that is served, for tests and for `docs/`.
pub fn specification() -> utoipa::openapi::OpenApi {
    completed(documented().into_openapi())
}

/// Adds what all operations share: security schemes, the path's parameters, the problem.
fn completed(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let components = document.components.get_or_insert_default();
    let scheme = |kind| SecurityScheme::Http(Http::new(kind));
    components.add_security_scheme("bearer", scheme(HttpAuthScheme::Bearer));
    components.add_security_scheme("device", scheme(HttpAuthScheme::Basic));
    for (path, item) in &mut document.paths.paths {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.patch,
            &mut item.head,
            &mut item.options,
        ];
        for operation in operations.into_iter().flatten() {
            complete(path, operation);
        }
    }
    document
}

fn complete(path: &str, operation: &mut Operation) {
    let in_path: Vec<_> =
        path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
    let parameters = operation.parameters.get_or_insert_default();
    // What a handler's own extractor says of a path is a guess: the template is right.
    parameters.retain(|parameter| !is_in_path(parameter));
    for name in in_path {
        let schema = ObjectBuilder::new().schema_type(Type::String).build();
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(schema))
            .build();
        parameters.push(RefOr::T(parameter));
    }
    let problem = || ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let other = ResponseBuilder::new().description("A problem (RFC 9457).").build();
    let responses = &mut operation.responses.responses;
    responses.entry("default".to_owned()).or_insert(RefOr::T(other));
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        if response.description.is_empty() {
            reason(status).clone_into(&mut response.description);
        }
        let is_error = status == "default" || status.starts_with(['4', '5']);
        if is_error && response.content.is_empty() {
            response.content.insert("application/problem+json".to_owned(), RefOr::T(problem()));
        }
    }
    let function = operation.operation_id.take().unwrap_or_default();
    operation.operation_id = Some(operation_id(path, &function));
}

/// Says what a status means where its route has no more to say.
fn reason(status: &str) -> &'static str {
    let status: Option<StatusCode> = status.parse().ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or("An answer.")
}

/// Names an operation, as a generated client will: the nouns of its path, then its handler.
///
/// `GET /api/v1/projects/{project}/devices` by `list` is `devices_list`. A handler that is called
/// like the last noun is not said twice.
fn operation_id(path: &str, function: &str) -> String {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    let path = path.strip_prefix("/projects/{project}/").unwrap_or(path);
    let nouns = path.split('/').filter(|part| !part.is_empty() && !part.starts_with('{'));
    let mut words: Vec<String> = nouns.map(|noun| noun.replace(['-', '.'], "_")).collect();
    let is_in_name =
        |noun: &mut String| function.starts_with(&**noun) || function.ends_with(&**noun);
    words.pop_if(is_in_name);
    words.push(function.to_owned());
    words.join("_")
}

fn is_in_path(parameter: &RefOr<Parameter>) -> bool {
    matches!(parameter, RefOr::T(parameter) if matches!(parameter.parameter_in, ParameterIn::Path))
}

/// Gives each request an id; the one that a client sends is only logged.
async fn identify(
    axum::extract::State(app): axum::extract::State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = app.clock.new_uuid().to_string();
    request.extensions_mut().insert(RequestId(id.clone()));
    let span =
        tracing::info_span!("request", id, method = %request.method(), path = request.uri().path());
    let mut response = tracing::Instrument::instrument(next.run(request), span).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    response
}

/// An answer knows of all that devices were acknowledged before it was asked for.
async fn settled(
    axum::extract::State(app): axum::extract::State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let is_asked = request.uri().path().starts_with("/api/");
    if is_asked && !app.engine.settled(SETTLE_MAX_MS).await {
        tracing::warn!("an answer may lack what devices said last: it waits to be decided");
    }
    next.run(request).await
}

/// For what a browser might do with an answer: nothing.
async fn security_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[expect(clippy::needless_pass_by_value, reason = "the layer hands it over so")]
fn panicked(
    panic: Box<dyn std::any::Any + Send + 'static>,
) -> axum::http::Response<axum::body::Body> {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(panic = text, "a request's handler panicked");
    Error::internal().into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_named_by_its_path_and_handler() {
        for (path, function, id) in [
            ("/api/v1/projects", "list", "projects_list"),
            ("/api/v1/projects/{project}", "read", "projects_read"),
            ("/api/v1/projects/{project}/commands", "list", "commands_list"),
            ("/api/v1/projects/{project}/commands/{id}/output", "read", "commands_output_read"),
            ("/api/v1/projects/{project}/commands/cancel", "cancel_many", "commands_cancel_many"),
            ("/api/v1/projects/{project}/settings", "set_settings", "set_settings"),
            ("/api/v1/service-tokens", "create", "service_tokens_create"),
            ("/api/v1/openapi.json", "document", "openapi_json_document"),
            ("/healthz", "healthz", "healthz"),
        ] {
            assert_eq!(operation_id(path, function), id, "{path}");
        }
    }

    #[test]
    fn each_operation_is_described_and_names_its_path_s_parameters() {
        let document = specification();
        assert!(document.paths.paths.len() > 35);
        for (path, item) in &document.paths.paths {
            let operations = [&item.get, &item.put, &item.post, &item.delete, &item.patch];
            for operation in operations.into_iter().flatten() {
                assert!(operation.summary.is_some(), "{path} has no summary");
                assert!(operation.operation_id.is_some(), "{path} has no id");
                let parameters = operation.parameters.as_ref().map_or(0, |parameters| {
                    parameters.iter().filter(|parameter| is_in_path(parameter)).count()
                });
                assert_eq!(parameters, path.matches('{').count(), "{path}");
            }
        }
    }
}
