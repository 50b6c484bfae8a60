//! A connection to a server that a test may cut: one replica loses it, the others do not.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireState {
    /// They pass.
    Whole,
    /// Connections are reset, new ones too.
    Cut,
    /// Connections stay open and are taken; nothing passes, in neither direction.
    Black,
    /// The test is over.
    Gone,
}

/// Forwards from `address` to a server, on a thread of its own, so that a busy test does not slow it down.
pub struct Wire {
    pub address: SocketAddr,
    state: watch::Sender<WireState>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    pub fn to(server: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (state, changes) = watch::channel(WireState::Whole);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                accept(TcpListener::from_std(listener).unwrap(), server, changes).await;
            });
        });
        Self { address, state, thread: Some(thread) }
    }

    fn set(&self, state: WireState) {
        self.state.send_replace(state);
    }

    /// Resets what is open, and refuses.
    pub fn cut(&self) {
        self.set(WireState::Cut);
    }

    /// Swallows everything in silence. What was on its way arrives when it is healed.
    pub fn blacken(&self) {
        self.set(WireState::Black);
    }

    pub fn heal(&self) {
        self.set(WireState::Whole);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.set(WireState::Gone);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, mut changes: watch::Receiver<WireState>) {
    let pass = changes.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((socket, _)) = accepted {
                    tokio::spawn(forward(socket, server, pass.clone()));
                }
            }
            _ = changes.wait_for(|state| *state == WireState::Gone) => return,
        }
    }
}

async fn forward(mut socket: TcpStream, server: SocketAddr, mut changes: watch::Receiver<WireState>) {
    let over = |state: &WireState| matches!(state, WireState::Cut | WireState::Gone);
    let mut pass = changes.clone();
    // In silence not even the server learns of the connection.
    let open = tokio::select! {
        biased;
        _ = changes.wait_for(over) => false,
        _ = pass.wait_for(|state| *state == WireState::Whole) => true,
    };
    let other = if open { TcpStream::connect(server).await.ok() } else { None };
    let Some(mut other) = other else { return reset(&socket) };
    _ = socket.set_nodelay(true);
    _ = other.set_nodelay(true);
    let cut = {
        let (from, to) = socket.split();
        let (back_from, back_to) = other.split();
        tokio::select! {
            () = copy(from, back_to, pass.clone()) => false,
            () = copy(back_from, to, pass) => false,
            _ = changes.wait_for(over) => true,
        }
    };
    if cut {
        reset(&socket);
        reset(&other);
    }
}

/// Its end is a reset and no end in good order.
fn reset(socket: &TcpStream) {
    _ = socket.set_zero_linger();
}

/// Copies while the wire is whole. An end on one side ends both: nobody here half-closes.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<WireState>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = from.read(&mut buffer).await {
        let whole = state.wait_for(|state| *state == WireState::Whole).await.is_ok();
        if read == 0 || !whole || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
