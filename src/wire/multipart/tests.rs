use super::*;
use proptest::prelude::*;

const TYPE: &str = "multipart/form-data; boundary=XyZ";

fn route() -> Route {
    Route::of("/v1/audio/transcriptions").unwrap()
}

/// A body of parts given as headers and value.
fn body(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (headers, value) in parts {
        body.extend_from_slice(format!("--XyZ\r\n{headers}\r\n\r\n").as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--XyZ--\r\n");
    body
}

const MODEL: &str = "Content-Disposition: form-data; name=\"model\"";
const FILE: &str =
    "Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav";

fn read(parts: &[(&str, &[u8])]) -> Result<Form, BodyError> {
    Form::read(route(), TYPE, &body(parts))
}

#[test]
fn a_transcription_form_is_read() {
    let file = b"RIFF\r\n--Xy\r\n--XyZno\r\n\0\xff";
    let form = read(&[
        (FILE, file),
        (MODEL, b"whisper-1"),
        ("content-disposition:form-data;NAME=stream", b"True"),
        ("Content-Disposition: form-data; name=\"prompt\"", "hällo".as_bytes()),
        ("Content-Disposition: form-data; name=\"language\"", b"de"),
    ])
    .unwrap();
    assert_eq!((form.model.as_str(), form.stream), ("whisper-1", true));
    assert_eq!(form.media_bytes, u64::try_from(file.len()).unwrap());
    assert_eq!((form.weight.media_parts, form.weight.text_bytes), (1, 6));
}

#[test]
fn the_boundary_is_read_as_mail_writes_it() {
    for (content_type, expected) in [
        ("multipart/form-data; boundary=abc", Some("abc")),
        ("Multipart/Form-Data;charset=utf-8; BOUNDARY=\"a b:c\"", Some("a b:c")),
        ("multipart/form-data; boundary=\"a\\bc\"", Some("abc")),
        ("multipart/form-data;boundary=----WebKitFormBoundaryAbc", Some("----WebKitFormBoundaryAbc")),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/form-data; boundary=\"\"", None),
        ("multipart/form-data; boundary=a; boundary=b", None),
        ("multipart/form-data; boundary=\"a", None),
        ("multipart/mixed; boundary=a", None),
        ("multipart/form-data; boundary=\"a\r\nb\"", None),
    ] {
        assert_eq!(boundary(content_type).as_deref(), expected, "{content_type}");
    }
    let longest = "b".repeat(70);
    assert_eq!(boundary(&format!("multipart/form-data; boundary={longest}")), Some(longest.clone()));
    assert_eq!(boundary(&format!("multipart/form-data; boundary={longest}b")), None);
    assert!(is_form("multipart/form-data; boundary=x") && !is_form("application/json"));
}

#[test]
fn the_model_part_occurs_once_and_is_no_file() {
    let duplicate = Err(BodyError::DuplicateField { field: "model" });
    assert_eq!(read(&[(MODEL, b"a"), (MODEL, b"a")]), duplicate);
    let file = "Content-Disposition: form-data; name=\"model\"; filename=\"m\"";
    let wrong = Err(BodyError::WrongType { field: "model" });
    assert_eq!(read(&[(file, b"a")]), wrong);
    assert_eq!(read(&[(MODEL, b"")]), wrong);
    assert_eq!(read(&[(MODEL, b"\xff")]), wrong);
    assert_eq!(read(&[(FILE, b"a")]), Err(BodyError::ModelMissing));
}

#[test]
fn a_name_that_can_be_read_in_two_ways_is_refused() {
    for headers in [
        "Content-Disposition: form-data; name*=utf-8''model",
        "Content-Disposition: form-data; name=\"mod\\el\"",
        "Content-Disposition: form-data; name=model; name=x",
        "Content-Disposition: form-data; name=x\r\nContent-Disposition: form-data; name=\"model\"",
        "Content-Disposition: attachment; name=\"model\"",
        "Content-Disposition: form-data",
        "Content-Type: text/plain",
    ] {
        assert_eq!(read(&[(headers, b"m")]), Err(FormFault::Name.into()), "{headers}");
    }
    for headers in [
        "Content-Disposition: form-data; name=x;\r\n name=\"model\"",
        "Content-Disposition : form-data; name=\"model\"",
        "Content-Disposition: form-data; name=\"model",
        "Content-Disposition: form-data; name=\"x\"\nContent-Disposition: form-data; name=\"model\"",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64",
    ] {
        assert_eq!(read(&[(headers, b"m")]), Err(FormFault::Headers.into()), "{headers}");
    }
}

#[test]
fn a_form_without_its_ends_is_typed() {
    let read = |body: &[u8]| Form::read(route(), TYPE, body).unwrap_err();
    let whole = body(&[(MODEL, b"m")]);
    for cut in 7..whole.len() - 4 {
        assert_eq!(read(&whole[..cut]), FormFault::Unterminated.into(), "{cut}");
    }
    assert_eq!(read(b""), BodyError::Empty);
    assert_eq!(read(b"preamble\r\n--XyZ\r\n"), FormFault::Start.into());
    assert_eq!(read(b"--XyZ--x"), FormFault::Trailing.into());
    assert_eq!(read(&[&whole[..], b"--XyZ\r\n"].concat()), FormFault::Trailing.into());
    assert_eq!(Form::read(route(), "application/json", &whole), Err(FormFault::Boundary.into()));
}

#[test]
fn numbers_and_flags_are_checked() {
    let with = |name: &str, value: &[u8]| {
        let headers = format!("Content-Disposition: form-data; name=\"{name}\"");
        read(&[(MODEL, b"m"), (&headers, value)])
    };
    assert_eq!(with("n", b"4").unwrap().choices, 4);
    assert_eq!(with("n", b"0"), Err(BodyError::WrongType { field: "n" }));
    assert_eq!(with("stream", b"maybe"), Err(BodyError::WrongType { field: "stream" }));
    assert!(!with("stream", b"false").unwrap().stream);
}

proptest! {
    #[test]
    fn only_the_model_changes(
        file in prop::collection::vec(any::<u8>(), 0..80),
        model in "[a-z/]{1,20}",
        other in "[a-z]{1,20}",
        first in any::<bool>(),
    ) {
        let parts = |model: &str| {
            let mut parts = [(FILE, file.clone()), (MODEL, model.as_bytes().to_vec())];
            if first { parts.reverse(); }
            let parts: Vec<(&str, &[u8])> = parts.iter().map(|(h, v)| (*h, v.as_slice())).collect();
            body(&parts)
        };
        let before = Bytes::from(parts(&model));
        let form = Form::read(route(), TYPE, &before).unwrap();
        prop_assert_eq!(&form.model, &model);
        prop_assert_eq!(form.rewrite(&before, &other).into_bytes(), parts(&other));
        let same = form.rewrite(&before, &model);
        prop_assert_eq!(same.pieces, vec![before]);
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(
        content_type in prop_oneof![Just(TYPE.to_owned()), ".{0,40}", "multipart/form-data; boundary=.{0,9}"],
        parts in prop::collection::vec(prop::sample::select(vec![
            "--XyZ", "\r\n", "--", "\n", "Content-Disposition: form-data; name=\"model\"", ";", "=", "\"", "\\", ":", " ", "x", "é",
        ]), 0..30),
    ) {
        let _ = Form::read(route(), &content_type, parts.concat().as_bytes());
    }
}
