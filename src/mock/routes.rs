//! From a request to an answer: read it, take a slot, answer in the mode that is set.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{self, Bytes, Data},
};

use super::{
    answers,
    ask::{self, Api, Ask, Refusal},
    backend::{Backend, Mode},
    control, frames,
    generation::Generation,
    stream,
};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    for (path, api) in Api::ALL {
        let handler = move |request: HttpRequest, body: Bytes, backend: Data<Backend>| {
            answer(api, request, body, backend.into_inner())
        };
        config.route(path, web::post().to(handler));
    }
    config
        .route("/v1/models", web::get().to(answers::models))
        .route("/v1/models/{model:.*}", web::get().to(answers::model))
        .route("/health", web::get().to(HttpResponse::Ok))
        .route("/stats", web::get().to(control::stats))
        .route("/control", web::post().to(control::control));
}

pub(super) async fn unknown(request: HttpRequest) -> HttpResponse {
    let message = format!("no such route: {} {}", request.method(), request.path());
    ask::error(StatusCode::NOT_FOUND, "invalid_request_error", "not_found", "", &message)
}

async fn answer(api: Api, request: HttpRequest, body: Bytes, backend: Arc<Backend>) -> HttpResponse {
    backend.arrived(request.headers());
    let ask = match read(api, &request, &body) {
        Ok(ask) => ask,
        Err(refusal) => {
            backend.refused();
            return refusal.response();
        }
    };
    // A client that waits for a slot does not need its body kept.
    drop(body);
    if api == Api::CountTokens {
        backend.counted();
        return HttpResponse::Ok().json(serde_json::json!({"input_tokens": ask.prompt_tokens}));
    }
    let mode = backend.mode(&ask.model);
    if mode == Mode::Fail {
        backend.refused();
        let message = "the mock was told to fail";
        return ask::error(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal_error", "", message);
    }
    let generation = Generation::begin(Arc::clone(&backend), &ask).await;
    if mode == Mode::Stall {
        return std::future::pending().await;
    }
    generate(&backend, ask, mode, generation).await
}

fn read(api: Api, request: &HttpRequest, body: &[u8]) -> Result<Ask, Refusal> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Ask::read(api, content_type.unwrap_or_default(), body)
}

async fn generate(backend: &Backend, ask: Ask, mode: Mode, mut generation: Generation) -> HttpResponse {
    let pace = backend.pace(mode);
    let answer = answers::Answer::new(ask, backend.tokens);
    if answer.ask.stream && answer.ask.api.writes_text() {
        return stream::response(frames::Script::of(&answer), pace, mode, generation);
    }
    generation.whole(pace, answer.tokens, answer.ask.choices).await;
    let (content_type, body) = answer.body();
    if mode == Mode::Cut {
        return stream::cut_response(content_type, body, generation);
    }
    generation.complete();
    HttpResponse::Ok().content_type(content_type).body(body)
}
