//! The JSON Schemas in `docs/schemas/` are those of the types.
//!
//! `UPDATE_SCHEMAS=1 cargo test -p quarterdeck-protocol --test schemas` writes them anew.

use std::{fs, path::Path};

use quarterdeck_protocol::{command, device, operations, payload, tunnel};
use schemars::{Schema, schema_for};

fn all() -> Vec<(String, serde_json::Value)> {
    let message = |name: &str, schema: Schema| (name.to_owned(), schema.to_value());
    let mut all = vec![
        message("command", schema_for!(command::CommandMessage)),
        message("command-cancel", schema_for!(command::CancelMessage)),
        message("command-response", schema_for!(command::Response)),
        message("status", schema_for!(device::StatusMessage)),
        message("health", schema_for!(device::HealthMessage)),
        message("tunnel-control", schema_for!(tunnel::control::Control)),
        message("service-failed", schema_for!(device::ServiceFailedMessage)),
    ];
    all.extend(
        operations::builtin()
            .into_iter()
            .map(|op| (format!("payload-{}", op.name), payload::form_schema(&op.name))),
    );
    all
}

#[test]
fn the_published_schemas_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas");
    let update = std::env::var_os("UPDATE_SCHEMAS").is_some();
    let mut expected = Vec::new();
    for (name, schema) in all() {
        let file = format!("{name}.json");
        let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
        if update {
            fs::write(folder.join(&file), &text).expect("docs/schemas is writable");
        }
        let published = fs::read_to_string(folder.join(&file)).unwrap_or_default();
        assert_eq!(published, text, "{file} is out of date: UPDATE_SCHEMAS=1 writes it anew");
        expected.push(file);
    }
    expected.sort();
    let mut found: Vec<_> = fs::read_dir(&folder)
        .expect("docs/schemas is there")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("a name in UTF-8"))
        .collect();
    found.sort();
    assert_eq!(found, expected, "a schema of no type");
}
