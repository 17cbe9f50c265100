//! The agent's configuration file: any text is a configuration or a refusal that says why.

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Err(why) = quarterdeck_agent::fuzz::config_file(text) {
        assert!(!why.is_empty());
    }
}
