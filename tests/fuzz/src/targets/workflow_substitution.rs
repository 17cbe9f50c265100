//! A command line with path expressions, and a value that is filled into it. The first line is
//! the command line, the rest the value.

use quarterdeck_agent::workflow::{
    message::Payload,
    substitution::{CommandLine, Context, Template},
    topic::CommandTopic,
};

pub(super) fn run(input: &[u8]) {
    let Some((written, value)) = super::chosen(input) else { return };
    let value = String::from_utf8_lossy(value);
    let topic = CommandTopic::parse("te/device/main///cmd/op/1").expect("valid");
    let payload = Payload::from_iter([("x".to_owned(), value.as_ref().into())]);
    let empty = Payload::new();
    let with = |payload| Context { topic: &topic, status: "init", payload };
    let (context, without) = (with(&payload), with(&empty));

    let alone = Template::parse("${.payload.x}");
    assert_eq!(alone.text(context), value, "a value is not looked at again");
    let template = Template::parse(written);
    if !template.has_expressions() {
        assert_eq!(template.text(context), written, "what is no expression stays as it is");
    }
    let Ok(line) = CommandLine::parse(written) else { return };
    let arguments = line.arguments(context);
    assert_eq!(arguments.len(), line.arguments(without).len(), "a value is never split");
    let _ = line.program(context);
}
