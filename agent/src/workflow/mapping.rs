//! `input` and `output` tables: values with path expressions in them (U3, U9, U10, U13).

use serde_json::Value;

use super::{
    message::{Payload, STATUS},
    substitution::{Context, Template},
};

/// A value whose texts may hold path expressions.
#[derive(Debug, Clone, PartialEq)]
pub enum Mapping {
    Literal(Value),
    Text(Template),
    List(Vec<Mapping>),
    Table(Vec<(String, Mapping)>),
}

/// An `input` or `output`: a table, or one expression for a whole object.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Fields {
    #[default]
    None,
    Table(Vec<(String, Mapping)>),
    Whole(Template),
}

impl Mapping {
    pub fn evaluate(&self, context: Context<'_>) -> Value {
        match self {
            Self::Literal(value) => value.clone(),
            Self::Text(template) => template.value(context),
            Self::List(items) => items.iter().map(|item| item.evaluate(context)).collect(),
            Self::Table(fields) => Value::Object(table(fields, context)),
        }
    }
}

impl Fields {
    /// Evaluates all of it; `status` is never among the fields (U6), nor is what is no object.
    pub fn evaluate(&self, context: Context<'_>) -> Payload {
        let mut fields = match self {
            Self::None => Payload::new(),
            Self::Table(fields) => table(fields, context),
            Self::Whole(template) => match template.value(context) {
                Value::Object(fields) => fields,
                _ => Payload::new(),
            },
        };
        fields.remove(STATUS);
        fields
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

fn table(fields: &[(String, Mapping)], context: Context<'_>) -> Payload {
    fields.iter().map(|(key, field)| (key.clone(), field.evaluate(context))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::topic::CommandTopic;
    use serde_json::json;

    #[test]
    fn u10_u13_expressions_are_found_inside_arrays_and_tables() {
        let topic = CommandTopic::parse("te/device/main///cmd/a/1").expect("valid");
        let payload = json!({"y": 7, "o": {"k": [1]}, "status": "x"});
        let payload = payload.as_object().expect("an object");
        let context = Context { topic: &topic, status: "successful", payload };
        let text = |source: &str| Mapping::Text(Template::parse(source));
        let fields = Fields::Table(vec![
            ("status".to_owned(), text("executing")),
            ("st".to_owned(), text("${.payload.status}")),
            ("l".to_owned(), Mapping::List(vec![text("${.payload.y}"), text("y=${.payload.y}")])),
            ("t".to_owned(), Mapping::Table(vec![("k".to_owned(), text("${.payload.o}"))])),
            ("n".to_owned(), Mapping::Literal(json!(3))),
        ]);
        assert_eq!(
            Value::Object(fields.evaluate(context)),
            json!({"st": "successful", "l": [7, "y=7"], "t": {"k": {"k": [1]}}, "n": 3})
        );
    }

    #[test]
    fn a_whole_object_may_be_one_expression() {
        let topic = CommandTopic::parse("te/device/main///cmd/a/1").expect("valid");
        let payload = json!({"o": {"k": 1, "status": "x"}, "n": 1});
        let payload = payload.as_object().expect("an object");
        let context = Context { topic: &topic, status: "init", payload };
        let whole = |source| Fields::Whole(Template::parse(source)).evaluate(context);
        assert_eq!(Value::Object(whole("${.payload.o}")), json!({"k": 1}));
        assert!(whole("${.payload.n}").is_empty());
    }
}
