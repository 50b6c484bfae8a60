//! What the routing table is made of: places and their routes.

use super::access::permit;
use super::openapi::Operation;
use crate::error::Fault;
use actix_web::dev::ServiceRequest;
use actix_web::middleware::{Next, from_fn};
use actix_web::{HttpRequest, Resource, Route, web};
use obleth_actors::admin::Role;
use std::fmt;
use std::future::ready;

/// What is at one path.
#[derive(Debug)]
pub struct Place {
    /// As actix matches it, behind `/api/v1`.
    pub path: &'static str,
    pub entries: &'static [Entry],
}

/// One route.
pub struct Entry {
    pub method: &'static str,
    /// The least role that may call it.
    pub role: Role,
    /// What it does, in a few words.
    pub about: &'static str,
    /// The handler's name.
    pub name: &'static str,
    pub(super) route: fn() -> Route,
    /// What is wrong with a query.
    pub(super) check: fn(&HttpRequest) -> Result<(), Fault>,
    /// Adds to the description what is taken, given and refused.
    pub(super) describe: for<'a> fn(Operation<'a>) -> Operation<'a>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.method, self.role.as_str())
    }
}

/// `"/path" { method(Query) Role handler "about", description; ... }`
macro_rules! table {
    ($($path:literal {
        $($method:ident($query:ty) $role:ident $handler:path, $about:literal, $describe:expr;)+
    })+) => {
        /// All routes.
        pub const TABLE: &[Place] = &[$(Place {
            path: $path,
            entries: &[$(Entry {
                method: $crate::http::admin::place::method!($method),
                role: obleth_actors::admin::Role::$role,
                about: $about,
                name: stringify!($handler),
                route: || actix_web::web::$method().to($handler),
                check: |request| super::query::<$query>(request).map(|_| ()),
                describe: |it| {
                    let describe: for<'a> fn(openapi::Operation<'a>) -> openapi::Operation<'a> = $describe;
                    describe(it.asks::<$query>())
                },
            }),+],
        }),+];
    };
}

macro_rules! method {
    (get) => {
        "GET"
    };
    (post) => {
        "POST"
    };
    (patch) => {
        "PATCH"
    };
    (put) => {
        "PUT"
    };
    (delete) => {
        "DELETE"
    };
}

pub(super) use {method, table};

impl Place {
    /// The methods, as `allow` lists them.
    pub fn allowed(&self) -> String {
        let methods: Vec<_> = self.entries.iter().map(|entry| entry.method).collect();
        methods.join(", ")
    }

    /// The place as actix serves it.
    pub(super) fn resource(&self) -> Resource {
        let allowed = self.allowed();
        let resource = web::resource(self.path);
        let resource = self.entries.iter().fold(resource, |resource, entry| resource.route(entry.guarded()));
        let refuse = move |request: HttpRequest| ready(super::method_not_allowed(&request, &allowed));
        resource.default_service(web::to(refuse))
    }
}

impl Entry {
    fn guarded(&self) -> Route {
        let (role, check) = (self.role, self.check);
        (self.route)()
            .wrap(from_fn(move |request: ServiceRequest, next: Next<_>| permit(role, check, request, next)))
    }
}
