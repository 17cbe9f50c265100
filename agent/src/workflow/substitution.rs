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

#[cfg(test)]
mod tests;

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
            Self::Topic | Self::RootPrefix | Self::Target | Self::Operation | Self::CommandId => {
                Value::String(self.text(context).into_owned())
            }
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
        let (key, mut indexes) =
            segment.split_at(segment.find(['[', ']']).unwrap_or(segment.len()));
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
