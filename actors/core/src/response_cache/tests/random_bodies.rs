//! Bodies of chance: written in two ways they are the same, changed anywhere they are not; no bytes at all make
//! the reader fall.

use crate::response_cache::{Canonical, LeftOut};
use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Bool(bool),
    /// Digits and a power of ten.
    Number(i64, i8),
    Text(String),
    List(Vec<Value>),
    /// Keys differ.
    Object(Vec<(String, Value)>),
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<(i64, i8)>().prop_map(|(digits, power)| Value::Number(digits, power)),
        ".{0,6}".prop_map(Value::Text),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
            prop::collection::btree_map(".{0,4}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Writes a value the way the dice say.
fn write(value: &Value, dice: &mut impl FnMut(usize) -> usize, out: &mut String) {
    out.push_str(["", " ", "\n\t"][dice(3)]);
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(yes) => out.push_str(&yes.to_string()),
        Value::Number(digits, power) => match dice(3) {
            0 => out.push_str(&format!("{digits}e{power}")),
            1 => out.push_str(&format!("{digits}.000E{power}")),
            _ => out.push_str(&format!("{digits}00e{}", i32::from(*power) - 2)),
        },
        Value::Text(text) => write_text(text, dice, out),
        Value::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                write(item, dice, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            for at in (1..members.len()).rev() {
                members.swap(at, dice(at + 1));
            }
            out.push('{');
            for (at, (key, value)) in members.into_iter().enumerate() {
                out.push_str(if at > 0 { " ,\r\n" } else { "" });
                write_text(key, dice, out);
                out.push_str([":", " : "][dice(2)]);
                write(value, dice, out);
            }
            out.push('}');
        }
    }
    out.push_str(["", " "][dice(2)]);
}

fn write_text(text: &str, dice: &mut impl FnMut(usize) -> usize, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        if dice(3) == 0 || letter < ' ' || matches!(letter, '"' | '\\') {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(letter);
        }
    }
    out.push('"');
}

fn form(value: &Value, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut dice = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(bound).unwrap()).unwrap()
    };
    let mut body = String::new();
    write(&Value::Object(vec![("top".to_owned(), value.clone())]), &mut dice, &mut body);
    Canonical::of(body.as_bytes(), &LeftOut::default()).unwrap_or_else(|_| panic!("{body}")).bytes
}

/// The same value with one place changed.
fn changed(value: &Value, at: &Index) -> Value {
    match value {
        Value::Null => Value::Bool(false),
        Value::Bool(yes) => Value::Bool(!yes),
        Value::Number(digits, power) => Value::Number(digits.wrapping_add(1), *power),
        Value::Text(text) => Value::Text(format!("{text}x")),
        Value::List(items) if items.is_empty() => Value::List(vec![Value::Null]),
        Value::List(items) => {
            let mut items = items.clone();
            let place = at.index(items.len());
            items[place] = changed(&items[place], at);
            Value::List(items)
        }
        Value::Object(members) if members.is_empty() => Value::Object(vec![(String::new(), Value::Null)]),
        Value::Object(members) => {
            let mut members = members.clone();
            let place = at.index(members.len());
            members[place].1 = changed(&members[place].1, at);
            Value::Object(members)
        }
    }
}

proptest! {
    #[test]
    fn the_same_value_has_one_form_however_it_is_written(value in value(), one: u64, other: u64) {
        prop_assert_eq!(form(&value, one), form(&value, other));
    }

    #[test]
    fn a_changed_value_has_another_form(value in value(), at: Index, one: u64, other: u64) {
        prop_assert_ne!(form(&value, one), form(&changed(&value, &at), other));
    }

    #[test]
    fn no_bytes_make_the_reader_fall(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Canonical::of(&bytes, &LeftOut::default());
    }

    #[test]
    fn no_cut_or_patched_body_makes_the_reader_fall(value in value(), seed: u64, at: Index, byte: u8) {
        let mut body = form(&value, seed);
        let place = at.index(body.len());
        body[place] = byte;
        let _ = Canonical::of(&body, &LeftOut::default());
        body.truncate(place);
        let _ = Canonical::of(&body, &LeftOut::default());
    }
}
