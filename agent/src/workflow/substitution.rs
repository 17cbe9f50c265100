//! Path expressions in command lines, inputs and outputs (source 003, rules S1–S11, U10–U13).
//!
//! | written | becomes |
//! | --- | --- |
//! | `${.}` | topic and payload as one JSON object |
//! | `${.topic}` `${.topic.root_prefix}` `${.topic.target}` `${.topic.operation}` `${.topic.cmd_id}` | text |
//! | `${.payload}` | the whole payload |
//! | `${.payload.a.b}` `${.payload.xs[0]}` `${.payload.xs[-1].k}` | the value there; the empty text when there is none |
//! | anything else | what was written |
//!
//! A template is taken apart when its definition is read: cut after each `}`, and
//! each piece at its first `${`. What a value brings in is never looked at
//! again: it is neither split, nor expanded, nor seen by a shell (S2, S8).

use std::borrow::Cow;

use serde_json::Value;

use super::{
    message::{Message, Payload, STATUS},
    topic::CommandTopic,
};

/// What expressions are evaluated on: one message of a command.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub topic: &'a CommandTopic,
    pub status: &'a str,
    pub payload: &'a Payload,
}

impl Context<'_> {
    fn message(&self) -> Message<'_> {
        Message { status: self.status, payload: self.payload }
    }
}

/// A text with path expressions in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: Box<str>,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Expression(Path),
}

/// Where a value stands in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    Message,
    Topic,
    RootPrefix,
    Target,
    Operation,
    CommandId,
    /// Below the payload; without steps the payload itself.
    Payload(Vec<Step>),
}

/// One step down into a JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Key(String),
    /// Negative from the end.
    Index(i64),
}

/// A command line: tokenized first, each token then a template (S1, S2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    source: Box<str>,
    program: Template,
    arguments: Vec<Template>,
}

/// Says why a text is no command line (D5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommandLine {
    #[error("a quote is not closed")]
    Quote,
    #[error("it names no program")]
    Empty,
}

impl Template {
    pub fn parse(source: &str) -> Self {
        let mut pieces = Vec::new();
        for cut in source.split_inclusive('}') {
            let (before, rest) = cut.split_at(cut.find("${").unwrap_or(cut.len()));
            push_literal(&mut pieces, before);
            let inner = rest.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
            match inner.and_then(Path::parse) {
                Some(path) => pieces.push(Piece::Expression(path)),
                None => push_literal(&mut pieces, rest),
            }
        }
        Self { source: source.into(), pieces }
    }

    /// What was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn has_expressions(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Expression(_)))
    }

    /// The path, if the whole text is one expression.
    pub fn as_path(&self) -> Option<&Path> {
        match self.pieces.as_slice() {
            [Piece::Expression(path)] => Some(path),
            _ => None,
        }
    }

    /// Fills in the values as text (S4).
    pub fn text(&self, context: Context<'_>) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Expression(path) => text.push_str(&path.text(context)),
            }
        }
        text
    }

    /// Fills in the values; one expression alone keeps its type (U3), else the result is text (U13).
    pub fn value(&self, context: Context<'_>) -> Value {
        match self.as_path() {
            Some(path) => path.value(context),
            None => Value::String(self.text(context)),
        }
    }

    /// Lists the texts that values bring in.
    pub fn substituted<'a>(&'a self, context: Context<'a>) -> impl Iterator<Item = String> + 'a {
        self.pieces.iter().filter_map(move |piece| match piece {
            Piece::Literal(_) => None,
            Piece::Expression(path) => Some(path.text(context).into_owned()),
        })
    }
}

fn push_literal(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Literal(last)) => last.push_str(text),
        _ => pieces.push(Piece::Literal(text.to_owned())),
    }
}

impl Path {
    /// Reads what stands between `${` and `}`; nothing for an unknown root or an ill-formed path (S6, S9).
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "." => Self::Message,
            ".topic" => Self::Topic,
            ".topic.root_prefix" => Self::RootPrefix,
            ".topic.target" => Self::Target,
            ".topic.operation" => Self::Operation,
            ".topic.cmd_id" => Self::CommandId,
            ".payload" => Self::Payload(Vec::new()),
            _ => Self::Payload(steps(text.strip_prefix(".payload.")?)?),
        })
    }

    pub fn value(&self, context: Context<'_>) -> Value {
        match self {
            Self::Message => serde_json::json!({
                "topic": context.topic.as_str(), "payload": context.message().to_value()
            }),
            Self::Payload(steps) => match lookup(steps, context) {
                Found::Whole => context.message().to_value(),
                Found::Status => context.status.into(),
                Found::Value(value) => value.clone(),
                Found::Nothing => Value::String(String::new()),
            },
            Self::Topic
            | Self::RootPrefix
            | Self::Target
            | Self::Operation
            | Self::CommandId => Value::String(self.text(context).into_owned()),
        }
    }

    pub fn text<'a>(&self, context: Context<'a>) -> Cow<'a, str> {
        match self {
            Self::Message => self.value(context).to_string().into(),
            Self::Topic => context.topic.as_str().into(),
            Self::RootPrefix => context.topic.root().into(),
            Self::Target => context.topic.target().into(),
            Self::Operation => context.topic.operation().into(),
            Self::CommandId => context.topic.cmd_id().into(),
            Self::Payload(steps) => match lookup(steps, context) {
                Found::Whole => context.message().to_json().into(),
                Found::Status => context.status.into(),
                Found::Value(Value::String(text)) => text.as_str().into(),
                Found::Value(value) => value.to_string().into(),
                Found::Nothing => "".into(),
            },
        }
    }
}

fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut segments = path.split('.').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_none() {
            break; // a dot at the end adds nothing
        }
        let (key, mut indexes) = segment.split_at(segment.find(['[', ']']).unwrap_or(segment.len()));
        if !key.is_empty() || indexes.is_empty() {
            steps.push(Step::Key(key.to_owned()));
        }
        while !indexes.is_empty() {
            let (index, rest) = indexes.strip_prefix('[')?.split_once(']')?;
            steps.push(Step::Index(index.parse().ok()?));
            indexes = rest;
        }
    }
    Some(steps)
}

enum Found<'a> {
    Whole,
    Status,
    Value(&'a Value),
    Nothing,
}

fn lookup<'a>(steps: &[Step], context: Context<'a>) -> Found<'a> {
    let Some((first, rest)) = steps.split_first() else {
        return Found::Whole;
    };
    let Step::Key(key) = first else {
        return Found::Nothing; // the payload is no array
    };
    if key == STATUS {
        return if rest.is_empty() { Found::Status } else { Found::Nothing };
    }
    let mut value = context.payload.get(key);
    for step in rest {
        value = value.and_then(|value| match (step, value) {
            (Step::Key(key), Value::Object(fields)) => fields.get(key),
            (Step::Index(index), Value::Array(items)) => {
                let from_start = usize::try_from(*index).ok();
                let from_end =
                    || items.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
                items.get(from_start.or_else(from_end)?)
            }
            _ => None,
        });
    }
    value.map_or(Found::Nothing, Found::Value)
}

impl CommandLine {
    /// Splits a text into tokens as a shell would, without any expansion (S1, D5).
    pub fn parse(source: &str) -> Result<Self, InvalidCommandLine> {
        let tokens = shell_words::split(source).map_err(|_| InvalidCommandLine::Quote)?;
        let mut templates = tokens.iter().map(|token| Template::parse(token));
        let program = templates.next().ok_or(InvalidCommandLine::Empty)?;
        Ok(Self { source: source.trim().into(), program, arguments: templates.collect() })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// Names the program to start (S10).
    pub fn program(&self, context: Context<'_>) -> String {
        self.program.text(context)
    }

    /// Lists its arguments, one for each token (S2).
    pub fn arguments(&self, context: Context<'_>) -> Vec<String> {
        self.arguments.iter().map(|argument| argument.text(context)).collect()
    }

    /// Lists the texts that values bring in.
    pub fn substituted(&self, context: Context<'_>) -> Vec<String> {
        let templates = std::iter::once(&self.program).chain(&self.arguments);
        templates.flat_map(|template| template.substituted(context)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn topic() -> CommandTopic {
        CommandTopic::parse("te/device/main///cmd/make_it/123").expect("valid")
    }

    fn payload() -> Payload {
        let value = json!({
            "s": "two words; $(id) 'q' \"", "n": 42, "f": 1.5, "b": true, "z": null,
            "o": {"k": [1, "x"]}, "xs": ["a", "b", "c"], "ys": [{"k": "K"}, [7, 8]],
            "again": "${.payload.s}", "brace": "}${", "": {"": "empty"}, "@next": {"item": 3},
        });
        value.as_object().expect("an object").clone()
    }

    fn check(cases: &[(&str, &str)]) {
        let (topic, payload) = (topic(), payload());
        let context = Context { topic: &topic, status: "init", payload: &payload };
        for (written, expected) in cases {
            assert_eq!(Template::parse(written).text(context), *expected, "{written}");
        }
    }

    #[test]
    fn s3_topic_and_payload_are_found() {
        check(&[
            ("${.topic}", "te/device/main///cmd/make_it/123"),
            ("${.topic.root_prefix}", "te"),
            ("${.topic.target}", "device/main//"),
            ("${.topic.operation}", "make_it"),
            ("${.topic.cmd_id}", "123"),
            ("${.payload.status}", "init"),
            ("${.payload.@next.item}", "3"),
        ]);
        let (topic, payload) = (topic(), payload());
        let context = Context { topic: &topic, status: "init", payload: &payload };
        let whole: Value = serde_json::from_str(&Template::parse("${.}").text(context)).expect("JSON");
        assert_eq!(whole["topic"], topic.as_str());
        assert_eq!(whole["payload"]["status"], "init");
        assert_eq!(whole["payload"]["n"], 42);
        let all: Value =
            serde_json::from_str(&Template::parse("${.payload}").text(context)).expect("JSON");
        assert_eq!(all, whole["payload"]);
    }

    #[test]
    fn s4_each_type_has_a_text() {
        check(&[
            ("${.payload.s}", "two words; $(id) 'q' \""),
            ("${.payload.n}", "42"),
            ("${.payload.f}", "1.5"),
            ("${.payload.b}", "true"),
            ("${.payload.z}", "null"),
            ("${.payload.o}", "{\"k\":[1,\"x\"]}"),
            ("${.payload.o.k}", "[1,\"x\"]"),
        ]);
    }

    #[test]
    fn s5_an_unknown_path_below_the_payload_is_the_empty_text() {
        check(&[
            ("${.payload.nope}", ""),
            ("${.payload.o.y.z}", ""),
            ("${.payload.s.deeper}", ""),
            ("${.payload.status.deeper}", ""),
            ("pre-${.payload.nope}-post", "pre--post"),
            ("${.payload.o..k}", ""),
        ]);
    }

    #[test]
    fn s6_s9_what_is_unknown_or_ill_formed_stays() {
        for text in [
            "${.unknown}", "${.some.unknown.path}", "${.topic.x}", "${payload.n}", "${}", "${",
            "${.payload.n", "$.payload.n}", "}", "${ .payload.n}", "${.payloadx}", "$${", "${.payload.n ",
            "${x ${.payload.n}", "${.payload.xs[}", "${.payload.xs[a]}", "${.payload.xs]}",
            "${.payload.xs[0}", "${.payload[0]}", "${.payload.xs[0]x}",
        ] {
            check(&[(text, text)]);
        }
    }

    #[test]
    fn s7_expressions_and_literals_mix() {
        check(&[
            ("a-${.payload.n}-${.topic.cmd_id}-z", "a-42-123-z"),
            ("${.payload.n}${.payload.n}", "4242"),
            ("{${.payload.n}}", "{42}"),
            ("${.payload.n}-${nope}", "42-${nope}"),
        ]);
    }

    #[test]
    fn s8_values_are_not_expanded_again() {
        check(&[
            ("${.payload.again}", "${.payload.s}"),
            ("${.payload.brace}.payload.n}", "}${.payload.n}"),
        ]);
    }

    #[test]
    fn s11_indexes_reach_into_arrays() {
        check(&[
            ("${.payload.xs[1]}", "b"),
            ("${.payload.xs[-1]}", "c"),
            ("${.payload.ys[0].k}", "K"),
            ("${.payload.ys[1][0]}", "7"),
            ("${.payload.xs[3]}", ""),
            ("${.payload.xs[-4]}", ""),
            ("${.payload.xs[-9223372036854775808]}", ""),
            ("${.payload.o[0]}", ""),
            ("${.payload.xs.0}", ""),
        ]);
    }

    #[test]
    fn a_dot_at_the_end_adds_nothing() {
        check(&[("${.payload.n.}", "42"), ("${.payload..}", "{\"\":\"empty\"}")]);
    }

    #[test]
    fn u3_u12_u13_a_lone_expression_keeps_its_type() {
        let (topic, payload) = (topic(), payload());
        let context = Context { topic: &topic, status: "init", payload: &payload };
        for (written, expected) in [
            ("${.payload.n}", json!(42)),
            ("${.payload.o}", json!({"k": [1, "x"]})),
            ("${.payload.z}", Value::Null),
            ("${.payload.nope}", json!("")),
            ("${.some.unknown.path}", json!("${.some.unknown.path}")),
            ("pre-${.payload.n}-post", json!("pre-42-post")),
            ("plain", json!("plain")),
        ] {
            assert_eq!(Template::parse(written).value(context), expected, "{written}");
        }
    }

    #[test]
    fn s1_a_line_is_split_before_anything_is_filled_in() {
        let (topic, payload) = (topic(), payload());
        let context = Context { topic: &topic, status: "init", payload: &payload };
        for (line, expected) in [
            ("x ${.payload.s} y", vec!["two words; $(id) 'q' \"", "y"]),
            ("x 'a b' \"c d\" e\\ f", vec!["a b", "c d", "e f"]),
            ("x a;b | c & * $HOME", vec!["a;b", "|", "c", "&", "*", "$HOME"]),
            ("x a # comment", vec!["a"]),
            ("x a#b '#c'", vec!["a#b", "#c"]),
            ("x ${.payload.nope} ''", vec!["", ""]),
            ("x pre-'${.payload.n}'-post", vec!["pre-42-post"]),
        ] {
            let line = CommandLine::parse(line).expect(line);
            assert_eq!((line.program(context).as_str(), line.arguments(context)), ("x", expected.iter().map(ToString::to_string).collect()));
        }
        let named = CommandLine::parse("/bin/${.payload.xs[0]}").expect("valid");
        assert_eq!(named.program(context), "/bin/a", "S10");
    }

    #[test]
    fn d5_what_is_no_command_line_is_refused() {
        assert_eq!(CommandLine::parse("x 'a").expect_err("quote"), InvalidCommandLine::Quote);
        assert_eq!(CommandLine::parse("x \"a").expect_err("quote"), InvalidCommandLine::Quote);
        for empty in ["", "  ", "# only a comment"] {
            assert_eq!(CommandLine::parse(empty).expect_err("empty"), InvalidCommandLine::Empty);
        }
    }

    proptest! {
        #[test]
        fn a_value_is_one_argument_whatever_it_holds(value in any::<String>(), other in ".*") {
            let payload = json!({"v": value, "w": other});
            let payload = payload.as_object().expect("an object");
            let topic = topic();
            let context = Context { topic: &topic, status: "init", payload };
            let line = CommandLine::parse("p a ${.payload.v} [${.payload.v}${.payload.w}]").expect("valid");
            let expected = vec!["a".to_owned(), value.clone(), format!("[{value}{other}]")];
            prop_assert_eq!(line.arguments(context), expected);
        }

        #[test]
        fn any_text_is_a_template_and_text_without_expressions_stays(text in any::<String>(), path in "[.a-z\\[\\]0-9${}-]{0,30}") {
            let (topic, payload) = (topic(), payload());
            let context = Context { topic: &topic, status: "init", payload: &payload };
            for text in [text, path.clone(), format!("${{.payload.{path}}}")] {
                let template = Template::parse(&text);
                let filled = template.text(context);
                if !template.has_expressions() {
                    prop_assert_eq!(&filled, &text);
                }
                prop_assert_eq!(template.source(), text);
            }
        }
    }
}
