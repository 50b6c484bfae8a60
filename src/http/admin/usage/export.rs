//! `GET /usage/export.csv`: every row that fits the filters, a thousand at a time.

use super::super::{fault_of, query, refuse};
use super::LogsQuery;
use crate::app::Gateway;
use crate::error::{Code, Fault, X_REQUEST_ID};
use crate::pipeline::request_id_of;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use obleth_actors::accounting::Accounting;
use obleth_actors::accounting::usage::Export;
use obleth_actors::admin::AdminError;
use obleth_schema::ledger::LedgerFilter;
use std::future::ready;

/// Answers with a file. The first lines are read before its head leaves, so that a failure has a status; later ones
/// break the connection off, so that a part does not pass for the whole.
pub async fn export(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    let filter = match filter(&request) {
        Ok(filter) => filter,
        Err(fault) => return refuse(&request, &fault),
    };
    let accounting = gateway.handles.accounting.clone();
    let (first, next) = match accounting.export(&filter, &Export::Begin).await {
        Ok(begun) => begun,
        Err(error) => return refuse(&request, &fault_of(&error)),
    };
    let begun = stream::once(ready(Ok(Bytes::from(first))));
    HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8; header=present")
        .insert_header(("content-disposition", "attachment; filename=\"usage.csv\""))
        .insert_header(("cache-control", "no-store"))
        .insert_header((X_REQUEST_ID, &*request_id_of(request.headers())))
        .streaming(begun.chain(rest(accounting, filter, next)))
}

fn filter(request: &HttpRequest) -> Result<LedgerFilter, Fault> {
    let asked: LogsQuery = query(request)?;
    let paged = [("limit", asked.limit.is_some()), ("cursor", asked.cursor.is_some())];
    match paged.into_iter().find(|(_, given)| *given) {
        Some((field, _)) => Err(Fault::new(Code::InvalidRequest, "an export is not paged").at(field)),
        None => asked.filter(),
    }
}

fn rest(
    accounting: Accounting,
    filter: LedgerFilter,
    at: Export,
) -> impl Stream<Item = Result<Bytes, AdminError>> {
    stream::try_unfold((accounting, filter, at), |(accounting, filter, at)| async move {
        if at == Export::Done {
            return Ok(None);
        }
        let (lines, next) = accounting.export(&filter, &at).await?;
        Ok(Some((Bytes::from(lines), (accounting, filter, next))))
    })
}
