//! How upstreams fail.

/// How an upstream failed a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Connect,
    /// No head of an answer in time, or silence within it.
    Timeout,
    /// 500, 502, 503 or 504.
    Status,
    /// The connection broke before a head, or what came is not HTTP.
    Broken,
    /// The answer was cut.
    Cut,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Connect, Self::Timeout, Self::Status, Self::Broken, Self::Cut];

    /// The value of the label `kind`.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Broken => "broken",
            Self::Cut => "cut",
        }
    }
}
