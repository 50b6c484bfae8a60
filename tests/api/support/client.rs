//! Typed calls over real HTTP.

use super::described;
use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use awc::{Client, ClientRequest, Connector};
use bytes::Bytes;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// Calls one listener with one credential.
#[derive(Clone)]
pub struct Caller {
    pub address: SocketAddr,
    pub credential: Option<String>,
    client: Client,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Caller {
    pub fn new(address: SocketAddr, credential: Option<&str>) -> Self {
        let connector = Connector::new().limit(0);
        let client = Client::builder()
            .connector(connector)
            .timeout(Duration::from_secs(60))
            .disable_redirects()
            .finish();
        Self { address, credential: credential.map(str::to_owned), client }
    }

    /// A request with the credential, to be sent by the test itself.
    pub fn request(&self, method: Method, path: &str) -> ClientRequest {
        let request = self.client.request(method, format!("http://{}{path}", self.address)).no_decompress();
        match &self.credential {
            Some(credential) => request.insert_header(("authorization", format!("Bearer {credential}"))),
            None => request,
        }
    }

    /// Sends a request and reads the whole answer, which must be as it is described.
    pub async fn send(request: ClientRequest, body: impl Into<Bytes>) -> Answer {
        let (method, path) = (request.get_method().to_string(), request.get_uri().path().to_owned());
        let mut response = request.send_body(body.into()).await.expect("an answer");
        let body = response.body().limit(256 << 20).await.expect("a whole body");
        let answer = Answer { status: response.status().as_u16(), headers: response.headers().clone(), body };
        described::check(&method, &path, &answer);
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        Self::send(self.request(Method::GET, path), Bytes::new()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        Self::send(self.request(Method::DELETE, path), Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, body.to_string()).await
    }

    /// Posts this text as JSON, untouched.
    pub async fn post_text(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = self.request(Method::POST, path).insert_header(("content-type", "application/json"));
        Self::send(request, body.into()).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        let request = self.request(Method::PATCH, path).insert_header(("content-type", "application/json"));
        Self::send(request, body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        let request = self.request(Method::PUT, path).insert_header(("content-type", "application/json"));
        Self::send(request, body.to_string()).await
    }

    /// A chat completion that is no stream.
    pub async fn chat(&self, model: &str) -> Answer {
        let body = serde_json::json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]});
        self.post("/v1/chat/completions", &body).await
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// `error.code`, checked for the whole envelope of contract §2.
    pub fn error_code(&self) -> String {
        let error = &self.json()["error"];
        for field in ["message", "type", "code", "source", "request_id"] {
            assert!(error[field].is_string(), "error.{field} in {}", self.text());
        }
        assert!(error.as_object().unwrap().contains_key("param"), "error.param in {}", self.text());
        assert_eq!(error["source"], "gateway");
        assert_eq!(error["request_id"].as_str(), self.header("x-request-id"));
        error["code"].as_str().unwrap().to_owned()
    }
}
