//! `/cache`: what the response cache has done, and forgetting what it keeps.

use super::{ok, query, refuse, write};
use crate::app::Gateway;
use crate::error::{Code, Fault};
use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::admin::Write;
use obleth_actors::cache::ModelCounts;
use obleth_actors::shapes::{Id, Money};
use obleth_core::ids::TenantId;
use obleth_core::registry::Registry;
use obleth_core::response_cache::Purge;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct What {
    /// The answers of this tenant alone.
    #[schemars(with = "Option<Id>")]
    tenant_id: Option<String>,
    /// The answers of this model alone.
    model: Option<String>,
}

impl What {
    fn read(request: &HttpRequest, records: &Registry) -> Result<Purge, Fault> {
        let what: Self = query(request)?;
        let wrong = |_| Fault::new(Code::InvalidRequest, "tenant_id must be a UUID").at("tenant_id");
        let tenant = what.tenant_id.map(|id| id.parse().map(TenantId).map_err(wrong)).transpose()?;
        if tenant.is_some_and(|id| records.tenant(id).is_none()) {
            return Err(Fault::new(Code::NotFound, "no such tenant").at("tenant_id"));
        }
        let unknown = || Fault::new(Code::NotFound, "no such model").at("model");
        let named = |name: String| records.model_named(&name).map(|model| model.id).ok_or_else(unknown);
        Ok(Purge { tenant, model: what.model.map(named).transpose()? })
    }
}

/// `DELETE /cache`.
pub async fn purge(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    let purge = match What::read(&request, &gateway.registry.load()) {
        Ok(purge) => purge,
        Err(fault) => return refuse(&request, &fault),
    };
    write(&gateway, &request, Write::PurgeCache(purge), StatusCode::NO_CONTENT).await
}

/// `GET /cache/stats`. Counts are since the start of this process.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CacheStats")]
pub(super) struct Stats {
    enabled: bool,
    max_bytes: u64,
    max_entry_bytes: usize,
    bytes: u64,
    entries: u64,
    /// Bytes of answers that are on their way to several.
    in_flight_bytes: usize,
    #[serde(flatten)]
    all: Counts,
    models: Vec<ModelStats>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModelCacheStats")]
struct ModelStats {
    model: Arc<str>,
    bytes: u64,
    entries: u64,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Default, Serialize, JsonSchema)]
#[schemars(rename = "CacheCounts")]
struct Counts {
    hits: u64,
    misses: u64,
    coalesced: u64,
    bypassed: u64,
    tokens_saved: u64,
    #[schemars(with = "Money")]
    saved_usd: String,
}

impl Counts {
    fn of(counts: &ModelCounts) -> Self {
        Self {
            hits: counts.hits,
            misses: counts.misses,
            coalesced: counts.coalesced,
            bypassed: counts.bypassed,
            tokens_saved: counts.tokens_saved,
            saved_usd: counts.saved.to_string(),
        }
    }
}

/// `GET /cache/stats`.
pub async fn stats(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    ok(&request, &view(&gateway))
}

fn view(gateway: &Gateway) -> Stats {
    let cache = &gateway.handles.cache;
    let records = gateway.registry.load();
    let by_model = cache.stats();
    let all = by_model.iter().fold(ModelCounts::default(), |all, (_, one)| all.and(one));
    let named = by_model.iter().filter_map(|(id, counts)| Some((records.model(*id)?, counts)));
    let mut models: Vec<ModelStats> = named
        .map(|(model, counts)| ModelStats {
            model: Arc::clone(&model.name),
            bytes: counts.bytes,
            entries: counts.entries,
            counts: Counts::of(counts),
        })
        .collect();
    models.sort_by(|one, other| one.model.cmp(&other.model));
    let (bytes, entries) = cache.size();
    Stats {
        enabled: cache.is_on(),
        max_bytes: cache.settings().max_bytes,
        max_entry_bytes: cache.settings().max_entry_bytes,
        bytes,
        entries,
        in_flight_bytes: cache.in_flight_bytes(),
        all: Counts::of(&all),
        models,
    }
}
