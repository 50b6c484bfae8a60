//! The bytes themselves.

use super::*;
use crate::ledger::Entry;
use crate::ledger::journal::frame::{self, Kind};
use crate::ledger::journal::scan::{Item, Scanner};

fn full_row() -> LedgerRow {
    LedgerRow {
        cost: Cost {
            input: Usd::from_pico(5),
            cached_input: Usd::from_pico(4),
            output: Usd::from_pico(3),
            unpriced: true,
        },
        error_code: Some("upstream_truncated"),
        target_pod: Some("pod-1".into()),
        session_id: Some("s".into()),
        mcp_server: None,
        mcp_tool: None,
        ..row(1)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_format_of_version_1_is_fixed() {
    // A journal that another build wrote must be read by this one: if this fails, the format has changed, and
    // needs a new version or a new kind of record.
    let mut bytes = Vec::new();
    frame::append(&mut bytes, Kind::Row, |out| Entry::from(&full_row()).encode(out)).unwrap();
    assert_eq!(hex(&bytes), GOLDEN);
    assert_eq!(hex(&header()), "6f626c6574684a0a0100000018c41cb7");
}

#[test]
fn a_row_from_before_costs_were_told_by_kind_is_read_and_a_reader_from_then_reads_a_row_of_now() {
    let row = full_row();
    let old = Entry { charge: None, ..Entry::from(&row) };
    let mut bytes = Vec::new();
    frame::append(&mut bytes, Kind::Row, |out| old.encode(out)).unwrap();
    assert_eq!(hex(&bytes), WITHOUT_CHARGE);
    let (_, payload, _) = frame::record(&bytes).unwrap();
    assert_eq!(Entry::decode(payload), Some(old.clone()));
    let mut now = Vec::new();
    assert!(Entry::from(&row).encode(&mut now));
    assert!(now.starts_with(payload), "what is new follows what was there");
    assert_eq!(postcard::from_bytes::<Entry<'_>>(&now).ok(), Some(old));
}

const GOLDEN: &str = "9400000092342c770210000000000000000000000000000000010272310210000000000000000000000000000000001000000000000000000000000000000000016d016d142f76312f636861742f636f6d706c6574696f6e73000466617374c8010112757073747265616d5f7472756e6361746564036f6666070300040008757073747265616d18000101020105706f642d31010173000005060a0801";

const WITHOUT_CHARGE: &str = "9100000029ed82050210000000000000000000000000000000010272310210000000000000000000000000000000001000000000000000000000000000000000016d016d142f76312f636861742f636f6d706c6574696f6e73000466617374c8010112757073747265616d5f7472756e6361746564036f6666070300040008757073747265616d18000101020105706f642d3101017300000506";

#[test]
fn a_row_comes_back_as_it_went_in() {
    let row = full_row();
    let mut bytes = Vec::new();
    assert!(Entry::from(&row).encode(&mut bytes));
    assert_eq!(Entry::decode(&bytes), Some(Entry::from(&row)));
    assert_eq!(Entry::decode(&bytes[..bytes.len() - 1]), None);
}

#[test]
fn a_journal_of_another_version_is_not_touched() {
    let mut other = header();
    other[8] = 2;
    let sum = crc32c::crc32c(&other[..12]).to_le_bytes();
    other[12..].copy_from_slice(&sum);
    assert_eq!(Replay::default().segment(1, &other, true), Err(HeaderFault::Version(2)));
}

#[test]
fn text_inside_a_record_cannot_pass_for_a_record() {
    // A whole frame as the request id of a row: once its own row is damaged, it must not be found.
    let mut inner = Vec::new();
    frame::append(&mut inner, Kind::Row, |out| Entry::from(&row(9)).encode(out)).unwrap();
    // What a header may hold is visible ASCII: no length that is believed can be written with it.
    let id: String = inner.iter().map(|byte| char::from(byte % 94 + 33)).collect();
    let mut bytes = Vec::new();
    let outer = LedgerRow { request_id: id.into(), ..row(1) };
    frame::append(&mut bytes, Kind::Row, |out| Entry::from(&outer).encode(out)).unwrap();
    bytes[9] ^= 1;
    let items: Vec<_> = Scanner::new(&bytes, 0).collect();
    assert_eq!(items, [Item::Damage(0..bytes.len())]);
}
