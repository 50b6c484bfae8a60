//! Headers and frames.
//!
//! Header, 16 bytes: `oblethJ` and a line feed, version (u32), CRC-32C of both. Frame: length of the payload
//! (u32), CRC-32C of length, kind and payload (u32), kind (one byte), payload. Numbers are little-endian.

/// Bytes of a header.
pub const HEADER: usize = 16;
/// Bytes of a frame besides its payload.
pub(super) const FRAME: usize = 9;
/// The largest payload: far above the largest row, and small enough that damage is seen as such.
const MAX_PAYLOAD: usize = 64 * 1024;
const MAGIC: [u8; 8] = *b"oblethJ\n";
const VERSION: u32 = 1;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Open,
    Row,
    Checkpoint,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Row => 2,
            Self::Checkpoint => 3,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Open),
            2 => Some(Self::Row),
            3 => Some(Self::Checkpoint),
            _ => None,
        }
    }
}

/// What is wrong with the beginning of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// Whole, but of a version this one cannot read: nothing in it may be touched.
    #[error("the journal was written by another version of obleth (format {0})")]
    Version(u32),
    /// Cut off or overwritten: what follows may still be read.
    #[error("the header is damaged")]
    Damaged,
}

/// The header of a new segment.
pub fn header() -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let fields = MAGIC.into_iter().chain(VERSION.to_le_bytes());
    bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
    let sum = crc32c::crc32c(bytes.get(..12).unwrap_or_default()).to_le_bytes();
    bytes.iter_mut().skip(12).zip(sum).for_each(|(byte, field)| *byte = field);
    bytes
}

/// Checks the header of a segment.
pub(super) fn check_header(bytes: &[u8]) -> Result<(), HeaderFault> {
    let (fields, version) = (bytes.get(..12), number_at(bytes, 8));
    let (Some(fields), Some(version), Some(sum)) = (fields, version, number_at(bytes, 12)) else {
        return Err(HeaderFault::Damaged);
    };
    if !fields.starts_with(&MAGIC) || crc32c::crc32c(fields) != sum {
        return Err(HeaderFault::Damaged);
    }
    if version == VERSION { Ok(()) } else { Err(HeaderFault::Version(version)) }
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Appends a record to `out`, its payload written by `fill`; its length, or `None` if there cannot be one.
pub(super) fn append(
    out: &mut Vec<u8>,
    kind: Kind,
    fill: impl FnOnce(&mut Vec<u8>) -> bool,
) -> Option<usize> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME]);
    let filled = fill(out);
    let framed = filled && seal(out.get_mut(start..).unwrap_or_default(), kind).is_some();
    if !framed {
        out.truncate(start);
    }
    framed.then_some(out.len() - start)
}

/// Fills in the nine bytes before the payload.
fn seal(frame: &mut [u8], kind: Kind) -> Option<()> {
    let length = frame.len().checked_sub(FRAME).filter(|length| *length <= MAX_PAYLOAD)?;
    let length = u32::try_from(length).ok()?.to_le_bytes();
    *frame.get_mut(8)? = kind.code();
    let sum = checksum(length, frame.get(8..)?).to_le_bytes();
    frame.iter_mut().zip(length.into_iter().chain(sum)).for_each(|(byte, field)| *byte = field);
    Some(())
}

fn checksum(length: [u8; 4], kind_and_payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), kind_and_payload)
}

/// The record at the beginning of `bytes`: its kind, its payload, its whole length. `None`: there is none.
pub(super) fn record(bytes: &[u8]) -> Option<(Kind, &[u8], usize)> {
    let length: [u8; 4] = *bytes.first_chunk()?;
    let payload = usize::try_from(u32::from_le_bytes(length)).ok().filter(|length| *length <= MAX_PAYLOAD)?;
    let kind = Kind::of(*bytes.get(8)?)?;
    let whole = FRAME + payload;
    let (sum, rest) = (number_at(bytes, 4)?, bytes.get(8..whole)?);
    (checksum(length, rest) == sum).then_some((kind, rest.get(1..)?, whole))
}

/// The end of a buffer, for the encoder.
struct Tail<'a>(&'a mut Vec<u8>);

impl Extend<u8> for Tail<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

/// Appends `value` to `out`; whether it could.
pub(in crate::ledger) fn encode(value: &impl serde::Serialize, out: &mut Vec<u8>) -> bool {
    postcard::to_extend(value, Tail(out)).is_ok()
}
