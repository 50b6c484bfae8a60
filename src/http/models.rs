//! `GET /v1/models` and `GET /v1/models/{name}`: the registry, limited to what the key may use.

use crate::app::Worker;
use crate::error::{Code, Fault, X_REQUEST_ID};
use crate::pipeline::{Caller, authenticate, request_id_of};
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::clock::unix_micros;
use obleth_core::registry::{Model, may_use};
use serde::Serialize;
use std::sync::Arc;

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<View<'a>>,
}

#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    owned_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_window: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
}

impl<'a> View<'a> {
    fn of(model: &'a Model, name: &'a str) -> Self {
        Self {
            id: name,
            object: "model",
            created: model.created_unix,
            owned_by: "obleth",
            context_window: model.context_window,
            max_output_tokens: model.max_output_tokens,
        }
    }
}

fn shown(caller: &Caller, model: &Model) -> bool {
    model.enabled && may_use(&caller.tenant, &caller.key, &model.name)
}

/// All models of the caller, by name.
pub fn list(worker: &Worker, request: &HttpRequest) -> HttpResponse {
    let request_id = request_id_of(request.headers());
    let caller = match authenticate(&worker.gateway, request.headers(), unix_micros()) {
        Ok(caller) => caller,
        Err(fault) => return fault.respond(&request_id),
    };
    let registry = worker.gateway.registry.load();
    let mut models: Vec<&Arc<Model>> = registry.models().filter(|model| shown(&caller, model)).collect();
    models.sort_by(|one, other| one.name.cmp(&other.name));
    let data = models.into_iter().map(|model| View::of(model, &model.name)).collect();
    HttpResponse::Ok().insert_header((X_REQUEST_ID, &*request_id)).json(List { object: "list", data })
}

/// One model of the caller, by name or alias.
pub fn one(worker: &Worker, request: &HttpRequest, name: &str) -> HttpResponse {
    let request_id = request_id_of(request.headers());
    let caller = match authenticate(&worker.gateway, request.headers(), unix_micros()) {
        Ok(caller) => caller,
        Err(fault) => return fault.respond(&request_id),
    };
    let registry = worker.gateway.registry.load();
    let name = percent_encoding::percent_decode_str(name).decode_utf8().unwrap_or_default();
    match registry.model_named(&name).filter(|model| shown(&caller, model)) {
        Some(model) => {
            HttpResponse::Ok().insert_header((X_REQUEST_ID, &*request_id)).json(View::of(model, &name))
        }
        None => {
            Fault::new(Code::ModelNotFound, "there is no model of this name").at("model").respond(&request_id)
        }
    }
}
