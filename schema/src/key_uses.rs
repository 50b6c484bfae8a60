//! When each key was last used: coarse, written in batches, and no part of a key's version.

use crate::error::StoreError;
use crate::store::{PATIENCE, Store, read, transaction};
use crate::tables::{key_uses, keys};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use std::collections::HashSet;

/// Keys in one statement.
const CHUNK: usize = 500;

/// Notes the uses, pairs of a key's id and Unix microseconds, each key once. Keys that are gone are left out,
/// and a use before the one that is noted changes nothing.
pub async fn note(store: &Store, uses: &[(String, i64)]) -> Result<(), StoreError> {
    for uses in uses.chunks(CHUNK) {
        note_chunk(store, uses.to_vec()).await?;
    }
    Ok(())
}

async fn note_chunk(store: &Store, uses: Vec<(String, i64)>) -> Result<(), StoreError> {
    transaction!(store, |conn| {
        let ids: Vec<&String> = uses.iter().map(|(id, _)| id).collect();
        let there: Vec<String> = keys::table.filter(keys::id.eq_any(ids)).select(keys::id).load(conn).await?;
        let there: HashSet<String> = there.into_iter().collect();
        for (id, at) in uses.iter().filter(|(id, _)| there.contains(id)) {
            let row = (key_uses::key_id.eq(id), key_uses::last_used_at.eq(at));
            let insert = diesel::insert_into(key_uses::table).values(row).on_conflict_do_nothing();
            if insert.execute(conn).await? == 0 {
                let older = key_uses::table.find(id).filter(key_uses::last_used_at.lt(at));
                diesel::update(older).set(key_uses::last_used_at.eq(at)).execute(conn).await?;
            }
        }
        Ok(())
    })
}

/// The latest use of each of these keys that was ever used.
pub async fn of(store: &Store, ids: Vec<String>) -> Result<Vec<(String, i64)>, StoreError> {
    read!(store, PATIENCE, |conn| {
        let query = key_uses::table.filter(key_uses::key_id.eq_any(ids));
        Ok(query.select((key_uses::key_id, key_uses::last_used_at)).load(conn).await?)
    })
}
