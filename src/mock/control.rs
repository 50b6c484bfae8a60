//! `GET /stats` and `POST /control`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::{
    ask::Refusal,
    backend::{Backend, Mode},
};

/// The longest model name that can be controlled, in bytes.
const MAX_NAME: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    model: String,
    mode: Mode,
}

pub(super) async fn stats(backend: web::Data<Backend>) -> HttpResponse {
    HttpResponse::Ok().json(backend.stats())
}

pub(super) async fn control(backend: web::Data<Backend>, body: web::Bytes) -> HttpResponse {
    let control = match read(&body) {
        Ok(control) => control,
        Err(refusal) => return refusal.response(),
    };
    if !backend.control(&control.model, control.mode) {
        return Refusal::new("model", "model: too many models are controlled by name".to_owned()).response();
    }
    HttpResponse::Ok().json(serde_json::json!({"model": control.model, "mode": control.mode}))
}

fn read(body: &[u8]) -> Result<Control, Refusal> {
    let json = &mut serde_json::Deserializer::from_slice(body);
    let control: Control = serde_path_to_error::deserialize(json).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        let param = named_field(&path, &message);
        let message = if param.is_empty() { message } else { format!("{param}: {message}") };
        Refusal { param, message }
    })?;
    if control.model.is_empty() || control.model.len() > MAX_NAME {
        return Err(Refusal::new("model", format!("model: must be `*` or a name of 1 to {MAX_NAME} bytes")));
    }
    Ok(control)
}

/// The field at fault; a missing one is named in serde's message only.
fn named_field(path: &str, message: &str) -> String {
    if path != "." {
        return path.to_owned();
    }
    let quoted = message.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
    quoted.map(|(field, _)| field.to_owned()).unwrap_or_default()
}
