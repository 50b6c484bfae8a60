//! The heads of answers, mended where the HTTP client under us reads less than RFC 9112 allows.
//!
//! It takes an interim answer (100, 103) for the answer, and one of HTTP/1.1 that names no length for one
//! without a body; the body of the latter lasts until the connection ends (§6.3), which it knows of HTTP/1.0.

use memchr::memmem;

/// Longest head that is looked at; the client itself refuses one that long.
const LONGEST: usize = 128 * 1024;

/// Whether the first head in `bytes` is complete, or will never be one. Drops the interim heads before it,
/// and writes down as HTTP/1.0 one whose body ends with its connection.
pub fn mend(bytes: &mut Vec<u8>) -> bool {
    loop {
        let known = bytes.len().min(7);
        if bytes.get(..known) != b"HTTP/1.".get(..known) || bytes.len() > LONGEST {
            return true;
        }
        let Some(end) = memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
            return false;
        };
        let head = bytes.get(..end).unwrap_or_default();
        match head.get(9..12) {
            Some(b"101") => return true,
            Some([b'1', ..]) => {
                bytes.drain(..end);
            }
            Some(b"204" | b"304") => return true,
            _ => {
                if !names_length(head)
                    && let Some(minor) = bytes.get_mut(7)
                {
                    *minor = b'0';
                }
                return true;
            }
        }
    }
}

/// Whether `bytes` begin with a complete last head that names the length of its body: nothing is to be mended.
pub fn is_whole(bytes: &[u8]) -> bool {
    let status = bytes.get(9).is_some_and(|class| (b'2'..=b'5').contains(class));
    let head = memmem::find(bytes, b"\r\n\r\n").and_then(|end| bytes.get(..end + 4));
    bytes.starts_with(b"HTTP/1.1 ") && status && head.is_some_and(names_length)
}

fn names_length(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').any(|line| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
    })
}

#[cfg(test)]
mod tests {
    use super::{is_whole, mend};

    /// What is made of `text` whole, the same for every beginning of it that is said to be enough.
    fn mended(text: &str) -> (bool, String) {
        let mut bytes = text.as_bytes().to_vec();
        let done = mend(&mut bytes);
        if is_whole(text.as_bytes()) {
            assert_eq!((done, &*bytes), (true, text.as_bytes()), "what is whole is left alone");
        }
        (done, String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_head_is_held_until_it_is_whole() {
        for text in ["", "H", "HTTP/1.", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\na: b\r\n\r"] {
            assert_eq!(mended(text), (false, text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_http_is_not_held() {
        for text in ["X", "HTTQ", "SSH-2.0-x\r\n", "\u{15}\u{3}", "HTTP/2 200\r\n"] {
            assert_eq!(mended(text), (true, text.to_owned()));
        }
    }

    #[test]
    fn a_body_without_a_length_ends_with_its_connection() {
        let open = "HTTP/1.1 200 OK\r\ncontent-type: x\r\n\r\nbody content-length: 1";
        assert_eq!(mended(open), (true, open.replace("1.1", "1.0")));
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 101 Switching\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\nbody",
        ] {
            assert_eq!(mended(text), (true, text.to_owned()));
        }
    }

    #[test]
    fn an_ordinary_answer_is_whole_at_once() {
        assert!(is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo"));
        assert!(is_whole(b"HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n"));
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n",
            "HTTP/1.1 200 OK\r\na: b\r\n\r\nContent-Length: 4\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\n",
        ] {
            assert!(!is_whole(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn interim_heads_are_dropped() {
        let last = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
        assert_eq!(mended(&format!("{interim}{last}")), (true, last.to_owned()));
        assert_eq!(mended(interim), (false, String::new()));
    }
}
