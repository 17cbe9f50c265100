//! The table of targets: one file each, named as the folder of its seeds.

mod agent_config;
mod authorization;
mod command;
mod device_message;
mod http_body;
mod http_query;
mod ids;
mod journal;
mod live;
mod operation_card;
mod payload;
mod response;
mod server_config;
mod terminal_text;
mod topics;
mod workflow_definition;
mod workflow_substitution;

/// A parser, and what must hold of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// Panics when something is wrong with the parser; for wrong input it returns.
    pub run: fn(&[u8]),
}

/// Lists the modules above, and gives each a test of its name: the short run.
macro_rules! targets {
    ($($name:ident),+ $(,)?) => {
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), run: $name::run }),+];

        #[cfg(test)]
        mod short_run {
            $(
                #[test]
                fn $name() {
                    crate::short::run(&super::Target { name: stringify!($name), run: super::$name::run });
                }
            )+
        }
    };
}

targets! {
    agent_config,
    authorization,
    command,
    device_message,
    http_body,
    http_query,
    ids,
    journal,
    live,
    operation_card,
    payload,
    response,
    server_config,
    terminal_text,
    topics,
    workflow_definition,
    workflow_substitution,
}

/// Finds a target.
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// All names.
pub fn names() -> Vec<&'static str> {
    TARGETS.iter().map(|target| target.name).collect()
}

/// Splits an input into its first line, which chooses, and what is parsed.
fn chosen(input: &[u8]) -> Option<(&str, &[u8])> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&input[..end]).ok()?, &input[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_of_seeds_is_of_a_target() {
        let folder = crate::short::seeds_folder("x").parent().expect("in a folder").to_owned();
        for entry in std::fs::read_dir(folder).expect("readable") {
            let name = entry.expect("readable").file_name().into_string().expect("UTF-8");
            assert!(named(&name).is_some(), "seeds/{name} is of no target");
        }
    }
}
