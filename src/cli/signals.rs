//! SIGTERM, Ctrl-C, and the end of the terminal.

use std::io;
use tokio::signal::unix::{self, SignalKind, signal};

/// Which signal came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM: from an init system or an orchestrator.
    Terminate,
    /// SIGINT or SIGHUP: Ctrl-C, or the terminal is gone.
    Interrupt,
}

/// All of them, from the moment of listening on.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    /// Only at a terminal: a server that `nohup` started outlives it.
    hangup: Option<unix::Signal>,
}

impl Signals {
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: None,
        })
    }

    /// The same, and the end of the terminal.
    pub fn listen_at_terminal() -> io::Result<Self> {
        Ok(Self { hangup: Some(signal(SignalKind::hangup())?), ..Self::listen()? })
    }

    /// The next of any.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
            () = hung_up(self.hangup.as_mut()) => Signal::Interrupt,
        }
    }
}

async fn hung_up(hangup: Option<&mut unix::Signal>) {
    match hangup {
        Some(hangup) => _ = hangup.recv().await,
        None => std::future::pending().await,
    }
}
