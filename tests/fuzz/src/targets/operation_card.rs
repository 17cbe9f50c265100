//! What tells of an operation: the file beside a workflow, as the agent reads it, and what
//! devices announce, as the server reads it. The first line says which: `card` or `announced`.

use quarterdeck_agent::workflow::card;
use quarterdeck_protocol::operations::{
    AnnouncedOperation, DESCRIPTION_MAX_CHARS, ICON_MAX_CHARS, TITLE_MAX_CHARS, read_announced,
};
use serde_json::Value;

pub(super) fn run(input: &[u8]) {
    match super::chosen(input) {
        Some(("card", file)) => {
            let Ok(card) = card::parse("flash", "flash.json", file) else { return };
            announced(
                &[serde_json::to_value(AnnouncedOperation::of(&card)).expect("plain data")],
                true,
            );
        }
        Some(("announced", text)) => {
            let Ok(Value::Array(cards)) = serde_json::from_slice(text) else { return };
            announced(&cards, false);
        }
        _ => {}
    }
}

/// What is taken is bounded, and is taken again as it was; what the agent says is always taken.
fn announced(said: &[Value], is_the_agents: bool) {
    let (cards, problems) = read_announced(said);
    assert!(!is_the_agents || problems.is_empty(), "{problems:?}");
    for card in &cards {
        assert!(card.title.chars().count() <= TITLE_MAX_CHARS);
        assert!(card.icon.chars().count() <= ICON_MAX_CHARS);
        assert!(card.description.chars().count() <= DESCRIPTION_MAX_CHARS);
    }
    let again: Vec<_> =
        cards.iter().map(|card| serde_json::to_value(card).expect("plain data")).collect();
    let (same, problems) = read_announced(&again);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(same, cards);
}
