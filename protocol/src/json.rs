//! Walks a whole JSON text once, before it is read into a type, and finds what no type says: a
//! name that stands twice in one object, and NUL, which a text in PostgreSQL cannot hold.
//!
//! Twice the same name is refused at any depth. Programs differ in which of the two they take, so
//! what one has checked another would not run.

use std::{collections::HashSet, fmt};

use serde::{
    Deserializer as _,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor},
};

/// What is wrong with a text that is JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The path of the field; empty when it is the whole.
    pub field: String,
    pub expected: &'static str,
}

const ONCE: &str = "given twice; expected once";
const NO_NUL: &str = "a text may not have the character U+0000";

/// Finds the first fault of a text; an error when it is no JSON at all.
pub fn check(text: &str) -> serde_json::Result<Option<Fault>> {
    let mut walk = Walk::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_any(&mut walk)?;
    deserializer.end()?;
    Ok(walk.fault)
}

/// Where the walk is, as `targets.devices[1]`, and what it has found.
#[derive(Debug, Default)]
struct Walk {
    path: String,
    fault: Option<Fault>,
}

impl Walk {
    fn found(&mut self, expected: &'static str) {
        // A fault of a name is told by the name that can be shown.
        let field = self.path.replace('\0', "");
        self.fault.get_or_insert(Fault { field, expected });
    }

    /// Does `step` one level deeper, at `name`.
    fn within<T>(&mut self, name: fmt::Arguments<'_>, step: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        // Nothing is told any more once something was found.
        if self.fault.is_none() {
            fmt::Write::write_fmt(&mut self.path, name).expect("a String takes anything");
        }
        let done = step(self);
        self.path.truncate(length);
        done
    }
}

impl<'de> DeserializeSeed<'de> for &mut Walk {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Walk {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if text.contains('\0') {
            self.found(NO_NUL);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for at in 0_usize.. {
            let item = self.within(format_args!("[{at}]"), |walk| items.next_element_seed(walk))?;
            if item.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = fields.next_key::<String>()? {
            let dot = if self.path.is_empty() { "" } else { "." };
            self.within(format_args!("{dot}{name}"), |walk| {
                if name.contains('\0') {
                    walk.found(NO_NUL);
                }
                if names.contains(&name) {
                    walk.found(ONCE);
                }
                fields.next_value_seed(&mut *walk)
            })?;
            names.insert(name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<(String, &'static str)> {
        let fault = check(text).expect(text);
        fault.map(|fault| (fault.field, fault.expected))
    }

    #[test]
    fn a_name_that_stands_twice_is_found_at_any_depth() {
        let twice = |field: &str| Some((field.to_owned(), ONCE));
        assert_eq!(found(r#"{"a":1,"a":1}"#), twice("a"));
        assert_eq!(found(r#"{"a":{"b":[0,{"c":1,"\u0063":2}]}}"#), twice("a.b[1].c"));
        assert_eq!(found(r#"{"a":[{"x":1},{"x":1}],"x":{"a":1}}"#), None);
        // The first is told, wherever the next.
        assert_eq!(found(r#"{"a":{"b":1,"b":2},"c":"\u0000"}"#), twice("a.b"));
    }

    #[test]
    fn nul_is_found_in_texts_and_names() {
        let nul = |field: &str| Some((field.to_owned(), NO_NUL));
        assert_eq!(found(r#"{"notes":"a\u0000b"}"#), nul("notes"));
        assert_eq!(found(r#"{"a":["x","\u0000"]}"#), nul("a[1]"));
        assert_eq!(found(r#"{"a\u0000b":1}"#), nul("ab"));
        assert_eq!(found(r#"{"a":"\\u0000"}"#), None);
    }

    #[test]
    fn what_is_no_json_is_an_error_whatever_was_found_before() {
        for text in ["", "{", r#"{"a":1,"a":2"#, r#"{"a":1,"a":2}}"#, r#"{"a":"\ud800"}"#] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
