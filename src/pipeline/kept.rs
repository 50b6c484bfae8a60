//! A kept answer: no slot, no budget, no upstream call.

use super::admit::has_room;
use super::headers::decorate;
use super::lookup::Found;
use super::meter::no_stream;
use super::record::Record;
use super::resolve::Target;
use super::settle::Ending;
use crate::app::Worker;
use crate::upstream::Pieces;
use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{AGE, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use obleth_actors::cache::Head;
use obleth_core::ledger::CacheState;

/// Answers with what is kept. A stream is repeated in the pieces in which it came.
pub(super) async fn answer(
    worker: &Worker,
    mut record: Box<Record>,
    target: &Target,
    found: Found,
) -> HttpResponse {
    if let Err(fault) = has_room(worker) {
        return record.refuse(&fault).await;
    }
    let Found { entry, age } = found;
    if record.head_is_out() && !entry.head.events {
        return record.refuse(&no_stream()).await;
    }
    record.cache = CacheState::Hit;
    record.first_byte();
    let pieces: Vec<Bytes> = entry.pieces(!target.request.asked_for_usage()).collect();
    let bytes = pieces.iter().map(Bytes::len).sum::<usize>();
    let ending = Ending::answered(entry.head.status, entry.usage, u64::try_from(bytes).unwrap_or(u64::MAX));
    record.settled(&ending).await;
    let mut answer = HttpResponse::new(StatusCode::OK);
    let headers = answer.headers_mut();
    lines(&entry.head, false, headers);
    headers.insert(AGE, HeaderValue::from(age.as_secs()));
    decorate(&record, headers);
    answer.set_body(BoxBody::new(Pieces::new(pieces)))
}

/// Writes the lines of a head: all of them for the client whose request it was, else what is of the answer.
pub(super) fn lines(head: &Head, own: bool, headers: &mut HeaderMap) {
    for line in head.lines.iter().filter(|line| own || line.kept) {
        let name = HeaderName::try_from(&*line.name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(line.value.clone())) {
            headers.append(name, value);
        }
    }
}
