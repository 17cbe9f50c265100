//! A workflow file: any bytes are a workflow that can be run, or a refusal that says where.

use quarterdeck_agent::{
    domain::Moment,
    workflow::{
        catalogue::{self, Whose, Workflow},
        command::Command,
        definition::{Action, Definition, FAILED, INIT, SUCCESSFUL},
        engine::{Event, step},
        graph,
        message::Payload,
        topic::CommandTopic,
    },
};

/// How far a command is moved; a loop of a definition has no end.
const STEPS_MAX: usize = 30;

pub(super) fn run(input: &[u8]) {
    for whose in [Whose::Device, Whose::Child] {
        run_for(whose, input);
    }
}

fn run_for(whose: Whose, input: &[u8]) {
    match catalogue::read(whose, "fuzz.toml", input) {
        (_, Workflow::Invalid(invalid)) => {
            let lines = input.split(|byte| *byte == b'\n').count();
            assert!(!invalid.problems.is_empty(), "a refusal says what is wrong");
            assert!(invalid.problems.iter().all(|problem| problem.line <= lines));
            let operation = invalid.operation.clone().unwrap_or_else(|| "op".to_owned());
            let ended = play(&Definition::ill_formed(&operation, &invalid.reason()));
            assert_eq!(ended, FAILED, "commands of an invalid file fail");
        }
        (operation, Workflow::Valid { definition, text }) => {
            assert_eq!(operation.as_deref(), Some(&*definition.operation));
            assert!(definition.state(INIT).is_some(), "each command starts there");
            for end in [SUCCESSFUL, FAILED] {
                assert!(matches!(definition.action(end), Some(Action::Cleanup)));
            }
            let again = Definition::parse("fuzz.toml", &text).expect("it was valid");
            assert_eq!(*definition, again);
            let drawn = graph::draw(&definition);
            assert!(
                drawn.chars().all(|c| c == '\n' || !c.is_control()),
                "nothing acts on a terminal"
            );
            play(&definition);
        }
    }
}

/// Moves a command as far as nothing outside is needed; gives the state it is in.
fn play(definition: &Definition) -> String {
    let topic = CommandTopic::parse("te/device/main///cmd/op/1").expect("valid");
    let mut command = Command::new(topic, Payload::new());
    let mut events = vec![Event::Start];
    for _ in 0..STEPS_MAX {
        let Some(event) = events.pop() else { break };
        let Ok(taken) = step(definition, &command, event, Moment::from_millis(0)) else { break };
        command = taken.next;
        events = vec![Event::Continue];
    }
    command.status.to_string()
}
