//! The bundled mock as an upstream: a realistic pace, slots, counters.

use super::client::Caller;
use actix_web::dev::ServerHandle;
use obleth::mock::{MockOptions, start};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};

/// A mock that serves until it is stopped.
pub struct Mock {
    pub address: SocketAddr,
    handle: ServerHandle,
}

impl Mock {
    pub fn start(options: MockOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = start(listener, options).unwrap();
        let mock = Self { address: server.addr(), handle: server.handle() };
        actix_rt::spawn(server.run());
        mock
    }

    /// The base URL, with `/v1`.
    pub fn base(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// `GET /stats`.
    pub async fn stats(&self) -> Value {
        Caller::new(self.address, None).get("/stats").await.expect(200).json()
    }

    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}
