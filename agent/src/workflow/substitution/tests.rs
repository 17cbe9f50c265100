//! Tables of what is written and what it becomes, each named by the rule that it holds.

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
        "${.unknown}",
        "${.some.unknown.path}",
        "${.topic.x}",
        "${payload.n}",
        "${}",
        "${",
        "${.payload.n",
        "$.payload.n}",
        "}",
        "${ .payload.n}",
        "${.payloadx}",
        "$${",
        "${.payload.n ",
        "${x ${.payload.n}",
        "${.payload.xs[}",
        "${.payload.xs[a]}",
        "${.payload.xs]}",
        "${.payload.xs[0}",
        "${.payload[0]}",
        "${.payload.xs[0]x}",
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
        assert_eq!(
            (line.program(context).as_str(), line.arguments(context)),
            ("x", expected.iter().map(ToString::to_string).collect())
        );
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
