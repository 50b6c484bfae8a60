//! The routing table of the management API: each route with the least role that may call it, its query, what it takes,
//! gives and refuses. The routes, their `allow` headers, the rule of access and the OpenAPI document all come from here,
//! so there is no route without a rule and none that is not described.

use super::audit::AuditQuery;
use super::cache::What;
use super::check::{CheckQuery, Checked};
use super::config::ImportQuery;
use super::fairshare::{ExplainView, LiveQuery, LiveView};
use super::health::WithHealth;
use super::keys::{KeyPatch, KeysQuery};
use super::openapi::AnyObject;
use super::place::{Entry, Place, table};
use super::usage::{LogsQuery, SeriesQuery, StatementQuery, SummaryQuery};
use super::{NoQuery, Paging, Version, version};
use super::{
    audit, budgets, cache, check, config, fairshare, groups, keys, mcp_servers, models, openapi, stats,
    tenants, tokens, usage,
};
use crate::error::Code::{self, Conflict, NotFound, StaleVersion};
use crate::stats::Report;
use obleth_actors::accounting::usage::{LogView, SeriesView, StatementView, SummaryView};
use obleth_actors::admin::{
    AuditView, CapacitySpec, CapacityView, Export, GroupSpec, GroupView, KeySpec, KeyView, KeyWithSecret,
    McpServerSpec, ModelSpec, Page, Plan, Rotate, Sections, TenantSpec, TenantView, TokenSpec, TokenView,
    TokenWithSecret,
};

/// Of a route that changes what is there.
const CHANGE: &[Code] = &[Conflict, StaleVersion];

table! {
    "/models" {
        get(Paging) Viewer models::list, "All models, by name.", |it| it.gives::<Page<WithHealth>>(200);
        post(NoQuery) Operator models::create, "Registers a model.",
            |it| it.takes::<ModelSpec>().gives::<WithHealth>(201).refuses(&[Conflict]);
    }
    "/models/{name:.+}/check" {
        post(CheckQuery) Operator check::check, "Makes one tiny call to a model's upstream.",
            |it| it.gives::<Checked>(200);
    }
    "/models/{name:.+}" {
        get(NoQuery) Viewer models::one, "One model.", |it| it.gives::<WithHealth>(200);
        patch(NoQuery) Operator models::patch, "Changes fields of a model.",
            |it| it.patches::<ModelSpec>().gives::<WithHealth>(200).refuses(CHANGE);
        put(NoQuery) Operator models::put, "Replaces a model, or registers it.",
            |it| it.replaces::<ModelSpec>("model_name").gives::<WithHealth>(200).gives::<WithHealth>(201)
                .refuses(CHANGE);
        delete(NoQuery) Operator models::delete, "Deletes a model.",
            |it| it.gives_nothing().refuses(&[StaleVersion]);
    }
    "/tenants" {
        get(Paging) Viewer tenants::list, "All tenants, by name.", |it| it.gives::<Page<TenantView>>(200);
        post(NoQuery) Operator tenants::create, "Makes a tenant.",
            |it| it.takes::<TenantSpec>().gives::<TenantView>(201).refuses(&[Conflict]);
    }
    "/tenants/{id}/keys" {
        get(Paging) Viewer keys::of_tenant, "The keys of a tenant.", |it| it.gives::<Page<KeyView>>(200);
        post(NoQuery) Operator keys::create, "Makes a key; its secret is shown this once.",
            |it| it.takes::<KeySpec>().gives::<KeyWithSecret>(201).refuses(&[Conflict]);
    }
    "/tenants/{id}/budget" {
        get(NoQuery) Viewer budgets::of_tenant, "What a tenant has left of its limits.",
            |it| it.gives::<budgets::View>(200);
    }
    "/tenants/{id}" {
        get(NoQuery) Viewer tenants::one, "One tenant.", |it| it.gives::<TenantView>(200);
        patch(NoQuery) Operator tenants::patch, "Changes fields of a tenant.",
            |it| it.patches::<TenantSpec>().gives::<TenantView>(200).refuses(CHANGE);
        delete(NoQuery) Operator tenants::delete, "Deletes a tenant and its keys.",
            |it| it.gives_nothing().refuses(&[StaleVersion]);
    }
    "/keys" {
        get(KeysQuery) Viewer keys::list, "All keys.",
            |it| it.gives::<Page<KeyView>>(200).refuses(&[NotFound]);
    }
    "/keys/{id}/rotate" {
        post(NoQuery) Operator keys::rotate, "Gives a key a new secret; the old one works for the overlap.",
            |it| it.may_take::<Rotate>().gives::<KeyWithSecret>(200).refuses(CHANGE);
    }
    "/keys/{id}/budget" {
        get(NoQuery) Viewer budgets::of_key, "What a key has left of its limits.",
            |it| it.gives::<budgets::View>(200);
    }
    "/keys/{id}" {
        get(NoQuery) Viewer keys::one, "One key.", |it| it.gives::<KeyView>(200);
        patch(NoQuery) Operator keys::patch, "Changes fields of a key.",
            |it| it.patches::<KeyPatch>().gives::<KeyView>(200).refuses(CHANGE);
        delete(NoQuery) Operator keys::delete, "Deletes a key.",
            |it| it.gives_nothing().refuses(&[StaleVersion]);
    }
    "/groups" {
        get(Paging) Viewer groups::list, "All groups, by name.", |it| it.gives::<Page<GroupView>>(200);
        post(NoQuery) Operator groups::create, "Makes a group.",
            |it| it.takes::<GroupSpec>().gives::<GroupView>(201).refuses(&[Conflict]);
    }
    "/groups/{name:.+}" {
        get(NoQuery) Viewer groups::one, "One group.", |it| it.gives::<GroupView>(200);
        patch(NoQuery) Operator groups::patch, "Changes fields of a group.",
            |it| it.patches::<GroupSpec>().gives::<GroupView>(200).refuses(CHANGE);
        delete(NoQuery) Operator groups::delete, "Deletes a group that has no tenants.",
            |it| it.gives_nothing().refuses(CHANGE);
    }
    "/mcp-servers" {
        get(Paging) Viewer mcp_servers::list, "All MCP servers, by name.",
            |it| it.gives::<Page<mcp_servers::WithHealth>>(200);
        post(NoQuery) Operator mcp_servers::create, "Registers an MCP server.",
            |it| it.takes::<McpServerSpec>().gives::<mcp_servers::WithHealth>(201).refuses(&[Conflict]);
    }
    "/mcp-servers/{name}" {
        get(NoQuery) Viewer mcp_servers::one, "One MCP server.", |it| it.gives::<mcp_servers::WithHealth>(200);
        patch(NoQuery) Operator mcp_servers::patch, "Changes fields of an MCP server.",
            |it| it.patches::<McpServerSpec>().gives::<mcp_servers::WithHealth>(200).refuses(CHANGE);
        delete(NoQuery) Operator mcp_servers::delete, "Deletes an MCP server.",
            |it| it.gives_nothing().refuses(&[StaleVersion]);
    }
    "/fairshare/live" {
        get(LiveQuery) Viewer fairshare::live, "Who runs, waits, and is entitled to what.",
            |it| it.gives::<LiveView>(200);
    }
    "/fairshare/explain/{request_id:.+}" {
        get(NoQuery) Viewer fairshare::explain, "Why one request waits or waited.",
            |it| it.gives::<ExplainView>(200);
    }
    "/cache" {
        delete(What) Operator cache::purge, "Forgets kept answers.",
            |it| it.gives_nothing().refuses(&[NotFound]);
    }
    "/cache/stats" {
        get(NoQuery) Viewer cache::stats, "What the response cache has done.",
            |it| it.gives::<cache::Stats>(200);
    }
    "/capacity" {
        get(NoQuery) Viewer fairshare::capacity, "How many requests run at once.",
            |it| it.gives::<CapacityView>(200);
        put(NoQuery) Operator fairshare::set_capacity, "Sets how many requests run at once.",
            |it| it.takes::<CapacitySpec>().gives::<CapacityView>(200).refuses(&[StaleVersion]);
    }
    "/usage/summary" {
        get(SummaryQuery) Viewer usage::summary, "Sums of the ledger.", |it| it.gives::<SummaryView>(200);
    }
    "/usage/series" {
        get(SeriesQuery) Viewer usage::series, "Sums of the ledger over time.",
            |it| it.gives::<SeriesView>(200);
    }
    "/usage/statement" {
        get(StatementQuery) Viewer usage::statement, "The bill of a tenant.",
            |it| it.gives::<StatementView>(200);
    }
    "/usage/export.csv" {
        get(LogsQuery) Viewer usage::export, "Rows of the ledger as CSV, newest first.",
            |it| it.without(&["limit", "cursor"]).gives_text("text/csv", 200);
    }
    "/usage/logs" {
        get(LogsQuery) Viewer usage::logs, "Rows of the ledger, newest first.",
            |it| it.gives::<Page<LogView>>(200);
    }
    "/usage/logs/{request_id:.+}" {
        get(NoQuery) Viewer usage::log, "The ledger's row of one request.", |it| it.gives::<LogView>(200);
    }
    "/stats" {
        get(NoQuery) Viewer stats::stats, "How long requests took lately.", |it| it.gives::<Report>(200);
    }
    "/admin-tokens" {
        get(Paging) Admin tokens::list, "The tokens of the management API.",
            |it| it.gives::<Page<TokenView>>(200);
        post(NoQuery) Admin tokens::create, "Makes a token; its secret is shown this once.",
            |it| it.takes::<TokenSpec>().gives::<TokenWithSecret>(201).refuses(&[Conflict]);
    }
    "/admin-tokens/{id}" {
        delete(NoQuery) Admin tokens::delete, "Deletes a token.",
            |it| it.gives_nothing().refuses(&[StaleVersion]);
    }
    "/audit" {
        get(AuditQuery) Viewer audit::list, "Who changed what, newest first.",
            |it| it.gives::<Page<AuditView>>(200);
    }
    "/config/export" {
        get(NoQuery) Viewer config::export, "The registry as one document, without secrets.",
            |it| it.gives::<Export>(200);
    }
    "/config/import" {
        post(ImportQuery) Operator config::import, "Makes the registry what a document says, or tells what that takes.",
            |it| it.takes::<Sections>().gives::<Plan>(200).refuses(CHANGE);
    }
    "/openapi.json" {
        get(NoQuery) Viewer openapi::document, "This description.", |it| it.gives::<AnyObject>(200);
    }
    "/version" {
        get(NoQuery) Viewer version, "The version of obleth.", |it| it.gives::<Version>(200);
    }
}
