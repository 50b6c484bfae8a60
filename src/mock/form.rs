//! The few fields of a `multipart/form-data` body that an audio route needs.

use memchr::memmem;

/// What a transcription form says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) model: Option<String>,
    pub(super) prompt_bytes: u64,
    pub(super) file_bytes: u64,
}

/// Reads a form; `None` when `content_type` names no boundary or no part could be found.
pub(super) fn read(content_type: &str, body: &[u8]) -> Option<Form> {
    let boundary =
        content_type.split(';').find_map(|p| p.trim().strip_prefix("boundary="))?.trim_matches('"');
    let delimiter = format!("--{boundary}");
    let mut form = Form::default();
    let mut rest = after(body, delimiter.as_bytes())?;
    while let Some(end) = memmem::find(rest, delimiter.as_bytes()) {
        let (part, next) = rest.split_at_checked(end)?;
        form.take(part);
        rest = next.get(delimiter.len()..)?;
    }
    Some(form)
}

impl Form {
    fn take(&mut self, part: &[u8]) -> Option<()> {
        let head_end = memmem::find(part, b"\r\n\r\n")?;
        let head = std::str::from_utf8(part.get(..head_end)?).ok()?;
        let value = part.get(head_end + 4..)?;
        let value = value.strip_suffix(b"\r\n").unwrap_or(value);
        let bytes = u64::try_from(value.len()).unwrap_or(u64::MAX);
        match field_name(head)? {
            "model" => self.model = String::from_utf8(value.to_vec()).ok(),
            "prompt" => self.prompt_bytes = bytes,
            "file" => self.file_bytes = bytes,
            _ => {}
        }
        Some(())
    }
}

/// The name in `Content-Disposition: form-data; name="model"`.
fn field_name(head: &str) -> Option<&str> {
    let line = head.lines().find(|line| {
        line.get(..20).is_some_and(|start| start.eq_ignore_ascii_case("content-disposition:"))
    })?;
    line.split(';').find_map(|part| part.trim().strip_prefix("name=")).map(|name| name.trim_matches('"'))
}

fn after<'a>(body: &'a [u8], needle: &[u8]) -> Option<&'a [u8]> {
    body.get(memmem::find(body, needle)? + needle.len()..)
}
