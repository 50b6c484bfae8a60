//! Watches a stream of events for the answer to its request, without keeping any of it.
//!
//! Is: a scanner over the bytes that knows lines, fields, and of the JSON in `data` the names at its top. An event
//! whose object has `result` or `error` and no `method` is a response, the end of the stream in all but name.
//! Is not: a parser; what is no JSON is never a response.

/// Longest name that matters.
const NAME: usize = 8;

/// Where in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// In the name of the field: so many bytes of `data` were seen, or it is another (`None`).
    Field(Option<u8>),
    /// In the value of `data`.
    Data,
    /// In the value of another field, or a comment.
    Other,
}

/// See the module head.
#[derive(Clone, Debug)]
pub struct Scan {
    line: Line,
    /// Bytes of this line.
    length: usize,
    /// The last byte was a CR: an LF next belongs to it.
    after_cr: bool,
    json: Json,
}

#[derive(Clone, Debug, Default)]
struct Json {
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The next string at the top is a name.
    wants_name: bool,
    /// The name that is being read.
    name: [u8; NAME],
    name_len: usize,
    in_name: bool,
    answers: bool,
    asks: bool,
    /// Its object is complete.
    whole: bool,
}

impl Default for Scan {
    fn default() -> Self {
        Self { line: Line::Field(Some(0)), length: 0, after_cr: false, json: Json::default() }
    }
}

impl Scan {
    /// Takes the next bytes; whether a response ends in them.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let mut found = false;
        for &byte in bytes {
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\r' | b'\n' => {
                    self.after_cr = byte == b'\r';
                    found |= self.end_line();
                }
                _ => {
                    self.after_cr = false;
                    self.length += 1;
                    self.take(byte);
                }
            }
        }
        found
    }

    fn take(&mut self, byte: u8) {
        match self.line {
            Line::Data => self.json.take(byte),
            Line::Other => {}
            Line::Field(Some(4)) if byte == b':' => self.line = Line::Data,
            Line::Field(Some(seen)) if b"data".get(usize::from(seen)) == Some(&byte) => {
                self.line = Line::Field(Some(seen + 1));
            }
            Line::Field(_) => self.line = if byte == b':' { Line::Other } else { Line::Field(None) },
        }
    }

    /// A line ends; an empty one ends the event. Whether that was a response.
    fn end_line(&mut self) -> bool {
        let blank = std::mem::take(&mut self.length) == 0;
        self.line = Line::Field(Some(0));
        if !blank {
            return false;
        }
        let json = std::mem::take(&mut self.json);
        json.whole && json.answers && !json.asks
    }
}

impl Json {
    fn take(&mut self, byte: u8) {
        if self.in_string {
            self.take_in_string(byte);
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.in_name = self.depth == 1 && self.wants_name;
                self.name_len = 0;
            }
            b'{' | b'[' => {
                self.depth = self.depth.saturating_add(1);
                self.wants_name = self.depth == 1 && byte == b'{';
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.whole |= self.depth == 0;
            }
            b':' if self.depth == 1 => self.wants_name = false,
            b',' if self.depth == 1 => self.wants_name = true,
            _ => {}
        }
    }

    fn take_in_string(&mut self, byte: u8) {
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
            if std::mem::take(&mut self.in_name) {
                self.end_name();
            }
            return;
        }
        if self.in_name {
            if let Some(place) = self.name.get_mut(self.name_len) {
                *place = byte;
            }
            self.name_len = self.name_len.saturating_add(1);
        }
    }

    fn end_name(&mut self) {
        match self.name.get(..self.name_len) {
            Some(b"result" | b"error") => self.answers = true,
            Some(b"method") => self.asks = true,
            _ => {}
        }
    }
}
