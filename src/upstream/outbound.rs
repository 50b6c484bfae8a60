//! Connects only where outgoing connections may go: what a name resolves to is checked here, for each new
//! connection, so a name that resolves to something else later gains nothing.
//!
//! Is: a resolver, the rule over its addresses, and the connect to those that are left. Nothing is resolved a
//! second time between the check and the connect.

use actix_rt::net::TcpStream;
use actix_tls::connect::{
    ConnectError, ConnectInfo, Connection, Connector, ConnectorService, Host, Resolver, ResolverService,
};
use actix_web::dev::Service;
use futures_util::future::LocalBoxFuture;
use obleth_core::net::{Blocked, Outbound};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

/// See the module head.
#[derive(Clone)]
pub(super) struct Guarded {
    resolver: ResolverService,
    /// Given addresses, it resolves nothing itself.
    connector: ConnectorService,
    rule: Arc<Outbound>,
}

impl Guarded {
    pub fn new(rule: Arc<Outbound>) -> Self {
        Self::with(&Resolver::default(), rule)
    }

    fn with(resolver: &Resolver, rule: Arc<Outbound>) -> Self {
        Self { resolver: resolver.service(), connector: Connector::default().service(), rule }
    }

    /// Those of `found` that may be connected to.
    fn allowed(
        &self,
        host: &str,
        found: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, Blocked> {
        let (mut allowed, mut blocked) = (Vec::new(), None);
        for address in found {
            match self.rule.check(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(why) => blocked = Some((address.ip(), why)),
            }
        }
        match blocked {
            Some((address, why)) if allowed.is_empty() => {
                tracing::warn!(host, %address, "an upstream is not connected to: its address {why}");
                Err(why)
            }
            _ => Ok(allowed),
        }
    }
}

impl<R: Host + 'static> Service<ConnectInfo<R>> for Guarded {
    type Response = Connection<R, TcpStream>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, target: ConnectInfo<R>) -> Self::Future {
        let (this, resolving) = (self.clone(), self.resolver.call(target));
        Box::pin(async move {
            let target = resolving.await?;
            let refused =
                |why: Blocked| ConnectError::Io(io::Error::new(io::ErrorKind::PermissionDenied, why));
            let allowed = this.allowed(target.hostname(), target.addrs()).map_err(refused)?;
            this.connector.call(target.set_addrs(allowed)).await
        })
    }
}

/// Whether a connection was not made because its address is not allowed.
pub(super) fn is_blocked(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Blocked>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_tls::connect::Resolve;
    use std::error::Error;
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    /// A name server whose every name has these addresses.
    struct Names(Vec<IpAddr>);

    impl Resolve for Names {
        fn lookup<'a>(
            &'a self,
            _: &'a str,
            port: u16,
        ) -> LocalBoxFuture<'a, Result<Vec<SocketAddr>, Box<dyn Error>>> {
            Box::pin(async move { Ok(self.0.iter().map(|ip| SocketAddr::new(*ip, port)).collect()) })
        }
    }

    const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    async fn connect(names: &[IpAddr], rule: &Outbound, port: u16) -> Result<IpAddr, bool> {
        let resolver = Resolver::custom(Names(names.to_vec()));
        let guarded = Guarded::with(&resolver, Arc::new(rule.clone()));
        let target = ConnectInfo::new("upstream.example").set_port(port);
        match guarded.call(target).await {
            Ok(connection) => Ok(connection.io_ref().peer_addr().unwrap().ip()),
            Err(ConnectError::Io(error)) => Err(is_blocked(&error)),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_name_is_connected_to_only_where_the_rule_allows() {
        actix_rt::System::new().block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let usual = Outbound::default();
            let strict = Outbound { block_private: true, allowed: Vec::new() };
            let listed = Outbound { block_private: true, allowed: vec!["127.0.0.0/8".parse().unwrap()] };
            assert_eq!(connect(&[METADATA], &usual, port).await, Err(true));
            assert_eq!(connect(&[LOOPBACK], &usual, port).await, Ok(LOOPBACK));
            assert_eq!(connect(&[METADATA, LOOPBACK], &usual, port).await, Ok(LOOPBACK), "the rest is used");
            assert_eq!(connect(&[LOOPBACK, METADATA], &strict, port).await, Err(true));
            assert_eq!(connect(&[METADATA, LOOPBACK], &listed, port).await, Ok(LOOPBACK));
            drop(listener);
            assert_eq!(connect(&[LOOPBACK], &usual, port).await, Err(false), "refused by the other side");
        });
    }
}
