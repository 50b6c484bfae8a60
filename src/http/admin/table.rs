//! The routing table of the management API: each route with the least role that may call it. The routes, their
//! `allow` headers, the rule of access and the OpenAPI document all come from here, so there is no route
//! without a rule.

use super::access::permit;
use super::{
    audit, budgets, cache, check, config, fairshare, groups, keys, mcp_servers, models, stats, tenants,
    tokens, usage, version,
};
use actix_web::dev::ServiceRequest;
use actix_web::guard::Post;
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
    route: fn() -> Route,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.method, self.role.as_str())
    }
}

/// `"/path" { method Role handler "about"; ... }`
macro_rules! table {
    ($($path:literal { $($method:ident $role:ident $handler:path, $about:literal;)+ })+) => {
        /// All routes.
        pub const TABLE: &[Place] = &[$(Place {
            path: $path,
            entries: &[$(Entry {
                method: method!($method),
                role: Role::$role,
                about: $about,
                route: || web::$method().to($handler),
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

table! {
    "/models" {
        get Viewer models::list, "All models, by name.";
        post Operator models::create, "Registers a model.";
    }
    "/models/{name:.+}/check" {
        post Operator check::check, "Makes one tiny call to a model's upstream.";
    }
    "/models/{name:.+}" {
        get Viewer models::one, "One model.";
        patch Operator models::patch, "Changes fields of a model.";
        put Operator models::put, "Replaces a model, or registers it.";
        delete Operator models::delete, "Deletes a model.";
    }
    "/tenants" {
        get Viewer tenants::list, "All tenants, by name.";
        post Operator tenants::create, "Makes a tenant.";
    }
    "/tenants/{id}/keys" {
        get Viewer keys::of_tenant, "The keys of a tenant.";
        post Operator keys::create, "Makes a key; its secret is shown this once.";
    }
    "/tenants/{id}/budget" {
        get Viewer budgets::of_tenant, "What a tenant has left of its limits, on this replica.";
    }
    "/tenants/{id}" {
        get Viewer tenants::one, "One tenant.";
        patch Operator tenants::patch, "Changes fields of a tenant.";
        delete Operator tenants::delete, "Deletes a tenant and its keys.";
    }
    "/keys" {
        get Viewer keys::list, "All keys.";
    }
    "/keys/{id}/rotate" {
        post Operator keys::rotate, "Gives a key a new secret; the old one works for the overlap.";
    }
    "/keys/{id}/budget" {
        get Viewer budgets::of_key, "What a key has left of its limits, on this replica.";
    }
    "/keys/{id}" {
        get Viewer keys::one, "One key.";
        patch Operator keys::patch, "Changes fields of a key.";
        delete Operator keys::delete, "Deletes a key.";
    }
    "/groups" {
        get Viewer groups::list, "All groups, by name.";
        post Operator groups::create, "Makes a group.";
    }
    "/groups/{name:.+}" {
        get Viewer groups::one, "One group.";
        patch Operator groups::patch, "Changes fields of a group.";
        delete Operator groups::delete, "Deletes a group that has no tenants.";
    }
    "/mcp-servers" {
        get Viewer mcp_servers::list, "All MCP servers, by name.";
        post Operator mcp_servers::create, "Registers an MCP server.";
    }
    "/mcp-servers/{name}" {
        get Viewer mcp_servers::one, "One MCP server.";
        patch Operator mcp_servers::patch, "Changes fields of an MCP server.";
        delete Operator mcp_servers::delete, "Deletes an MCP server.";
    }
    "/fairshare/live" {
        get Viewer fairshare::live, "Who runs, waits, and is entitled to what.";
    }
    "/fairshare/explain/{request_id:.+}" {
        get Viewer fairshare::explain, "Why one request waits or waited.";
    }
    "/cache" {
        delete Operator cache::purge, "Forgets kept answers.";
    }
    "/cache/stats" {
        get Viewer cache::stats, "What the response cache has done.";
    }
    "/capacity" {
        get Viewer fairshare::capacity, "How many requests run at once.";
        put Operator fairshare::set_capacity, "Sets how many requests run at once.";
    }
    "/usage/summary" {
        get Viewer usage::summary, "Sums of the ledger.";
    }
    "/usage/series" {
        get Viewer usage::series, "Sums of the ledger over time.";
    }
    "/usage/statement" {
        get Viewer usage::statement, "The bill of a tenant.";
    }
    "/usage/export.csv" {
        get Viewer usage::export, "Rows of the ledger as CSV, newest first.";
    }
    "/usage/logs" {
        get Viewer usage::logs, "Rows of the ledger, newest first.";
    }
    "/usage/logs/{request_id:.+}" {
        get Viewer usage::log, "The ledger's row of one request.";
    }
    "/stats" {
        get Viewer stats::stats, "How long requests took lately.";
    }
    "/admin-tokens" {
        get Admin tokens::list, "The tokens of the management API.";
        post Admin tokens::create, "Makes a token; its secret is shown this once.";
    }
    "/admin-tokens/{id}" {
        delete Admin tokens::delete, "Deletes a token.";
    }
    "/audit" {
        get Viewer audit::list, "Who changed what, newest first.";
    }
    "/config/export" {
        get Viewer config::export, "The registry as one document, without secrets.";
    }
    "/config/import" {
        post Operator config::import, "Makes the registry what the document says, or says what that takes.";
    }
    "/version" {
        get Viewer version, "The version of obleth.";
    }
}

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
        // A model's name may end in `/check`: only a POST is meant there.
        let resource = if self.path.ends_with("/check") { resource.guard(Post()) } else { resource };
        let resource = self.entries.iter().fold(resource, |resource, entry| resource.route(entry.guarded()));
        let refuse = move |request: HttpRequest| ready(super::method_not_allowed(&request, &allowed));
        resource.default_service(web::to(refuse))
    }
}

impl Entry {
    fn guarded(&self) -> Route {
        let role = self.role;
        (self.route)()
            .wrap(from_fn(move |request: ServiceRequest, next: Next<_>| permit(role, request, next)))
    }
}
