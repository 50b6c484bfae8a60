//! Who may call the management API: the root token of the configuration, or a token with a role.
//!
//! Is: the check of the credential, of the role, and of how often an address failed. Is not: the rule, which is
//! the routing table's. Invariant: a valid token is never refused for the failures of others.

use super::refuse;
use crate::app::Gateway;
use crate::error::{Code, Fault, X_REQUEST_ID};
use crate::lifecycle::Phase;
use crate::pipeline::{bearer, request_id_of};
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderValue, WWW_AUTHENTICATE};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{HttpMessage, HttpRequest};
use obleth_actors::admin::{AdminToken, Origin, Role};
use obleth_core::registry::KeyDigest;
use secrecy::ExposeSecret;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use subtle::ConstantTimeEq;

mod failures;

pub use failures::Failures;

/// The one who calls, as the handlers of this request find it.
#[derive(Clone, Debug)]
struct Visitor(Arc<AdminToken>);

fn address_of(peer: Option<std::net::SocketAddr>) -> IpAddr {
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical())
}

/// The holder of the credential in `request`, or why there is none.
fn visitor(gateway: &Gateway, request: &ServiceRequest) -> Result<Arc<AdminToken>, Fault> {
    let secret = bearer(request.headers()).unwrap_or_default();
    // Digests are of one length and compared whole: the time tells nothing of the token.
    let digest = |text: &str| KeyDigest::of(text, None).to_hex();
    let root = digest(gateway.settings.admin_token.expose_secret());
    if bool::from(digest(secret).as_bytes().ct_eq(root.as_bytes())) {
        let (id, name) = (Arc::from("root"), Arc::from("root"));
        return Ok(Arc::new(AdminToken { id, name, role: Role::Admin }));
    }
    if let Some(token) = gateway.handles.admin.token(secret) {
        return Ok(token);
    }
    if !secret.is_empty() && unsure(gateway) {
        return Err(Fault::new(Code::StoreUnavailable, "this token cannot be checked now"));
    }
    Err(Fault::new(Code::Unauthorized, "an admin token is required: Authorization: Bearer ..."))
}

/// While the database is away, or was not read yet, a token may exist that is not known here.
fn unsure(gateway: &Gateway) -> bool {
    gateway.lifecycle.phase() == Phase::Loading || gateway.handles.accounting.health().is_away()
}

/// Lets only holders of a valid token in, and notes who they are.
pub async fn guard(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    // The answer, the audit and the log name the request by one id.
    if let Ok(id) = HeaderValue::from_str(&request_id_of(request.headers())) {
        request.headers_mut().insert(X_REQUEST_ID, id);
    }
    let Some(gateway) = request.app_data::<Data<Gateway>>().cloned() else {
        let fault = Fault::new(Code::Internal, "the listener has no gateway");
        let answer = refuse(request.request(), &fault);
        return Ok(request.into_response(answer).map_into_right_body());
    };
    match visitor(&gateway, &request) {
        Ok(token) => {
            request.extensions_mut().insert(Visitor(token));
        }
        Err(fault) => {
            let answer = turned_away(&gateway, &request, fault);
            return Ok(request.into_response(answer).map_into_right_body());
        }
    }
    if request.path().contains("%00") {
        // No name and no id has one, and PostgreSQL takes none.
        let fault = Fault::new(Code::NotFound, "there is nothing of this name");
        let answer = refuse(request.request(), &fault);
        return Ok(request.into_response(answer).map_into_right_body());
    }
    Ok(next.call(request).await?.map_into_left_body())
}

/// The answer to a caller without a valid token; the log hears of the first ones only.
fn turned_away(gateway: &Gateway, request: &ServiceRequest, fault: Fault) -> actix_web::HttpResponse {
    let address = address_of(request.peer_addr());
    if let Some(wait) = gateway.failures.note(address, gateway.clock.now()) {
        let text = "too many calls without a valid token from this address";
        return refuse(request.request(), &Fault::new(Code::TooManyFailures, text).retry_after(wait));
    }
    tracing::warn!(
        target: "obleth::admin",
        %address,
        "a management call without a valid token was refused"
    );
    let mut answer = refuse(request.request(), &fault);
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

/// Lets a caller with at least this role and a query without fault through.
pub async fn permit<B: MessageBody + 'static>(
    least: Role,
    check: fn(&HttpRequest) -> Result<(), Fault>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let allowed = if role(request.request()).is_some_and(|role| role >= least) {
        check(request.request())
    } else {
        let text = format!("this takes a token of the role {}", least.as_str());
        Err(Fault::new(Code::RoleForbidden, text))
    };
    match allowed {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(fault) => {
            let answer = refuse(request.request(), &fault);
            Ok(request.into_response(answer).map_into_right_body())
        }
    }
}

/// The role of the one who calls.
pub fn role(request: &HttpRequest) -> Option<Role> {
    request.extensions().get::<Visitor>().map(|Visitor(token)| token.role)
}

/// Who makes the change that this request asks for.
pub fn origin(request: &HttpRequest) -> Origin {
    let token = request.extensions().get::<Visitor>().map(|Visitor(token)| Arc::clone(token));
    let (actor_id, actor_name) = match token {
        Some(token) => (Arc::clone(&token.id), Arc::clone(&token.name)),
        None => (Arc::from("unknown"), Arc::from("unknown")),
    };
    Origin {
        actor_id,
        actor_name,
        method: request.method().as_str().into(),
        request_id: request_id_of(request.headers()),
        address: Some(address_of(request.peer_addr())),
        role: role(request).unwrap_or(Role::Viewer),
    }
}
