//! Waiting for a condition, always with a bound.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Runs a test on an actix system of its own.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    actix::System::new().block_on(test)
}

/// Polls `check` until it gives something, at most 20 s.
pub async fn until<T>(what: &str, check: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(Duration::from_secs(20), what, check).await
}

/// Polls `check` until it gives something, at most so long.
pub async fn until_within<T>(bound: Duration, what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {bound:?} for: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A `GET` on a connection of its own; `None` when nobody answers within a second.
pub async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let exchange = async {
        let mut socket = TcpStream::connect(address).await.ok()?;
        let text = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(text.as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        (!answer.is_empty()).then_some(answer)
    };
    timeout(Duration::from_secs(1), exchange).await.ok().flatten()
}
