//! The cases of `workflows/cases`, on the pure engine: a simulator around it runs
//! their scripts for real, keeps a bus in memory, and restarts "the agent" from
//! what was saved. Each must end by the primary reading.

#![cfg(unix)]

#[path = "workflows/case.rs"]
mod case;
#[path = "workflows/check.rs"]
mod check;
#[path = "workflows/process.rs"]
mod process;
#[path = "workflows/world.rs"]
mod world;

use std::collections::BTreeSet;

macro_rules! cases {
    ($($test:ident: $folder:literal,)*) => {
        $(
            #[test]
            fn $test() {
                let wrong = case::run($folder);
                assert!(wrong.is_empty(), "{}:\n{}", $folder, wrong.join("\n"));
            }
        )*

        const FOLDERS: &[&str] = &[$($folder),*];
    };
}

cases! {
    workflow_case_001: "001-proceed-chain-keeps-unknown-fields",
    workflow_case_004: "004-firmware-example-happy-path",
    workflow_case_007: "007-firmware-example-refused-at-init",
    workflow_case_011: "011-topic-and-whole-message-placeholders",
    workflow_case_014: "014-unknown-payload-path-is-the-empty-string",
    workflow_case_017: "017-values-are-neither-split-nor-expanded-again",
    workflow_case_01a: "01a-array-index-in-a-path",
    workflow_case_022: "022-a-range-starting-at-zero-also-is-the-success-handler",
    workflow_case_025: "025-on-error-wins-over-the-workflow-default",
    workflow_case_028: "028-a-script-that-cannot-be-launched-without-handler",
    workflow_case_02b: "02b-a-retry-loop-ends",
    workflow_case_032: "032-invalid-on-success-and-on-exit-0",
    workflow_case_035: "035-invalid-on-exit-0-and-on-stdout",
    workflow_case_038: "038-invalid-unknown-action",
    workflow_case_03b: "03b-invalid-failed-state-with-a-script",
    workflow_case_03e: "03e-invalid-state-without-any-action",
    workflow_case_03h: "03h-unknown-keys-of-a-state-are-ignored",
    workflow_case_041: "041-json-outside-of-the-markers-is-ignored",
    workflow_case_044: "044-on-stdout-without-status-uses-on-error",
    workflow_case_047: "047-on-stdout-with-a-status-which-is-not-listed",
    workflow_case_04a: "04a-expected-exit-code-injects-the-output-and-its-reason-trumps",
    workflow_case_04d: "04d-reason-of-the-output-trumps-the-one-of-on-success",
    workflow_case_04g: "04g-an-excerpt-which-is-not-an-object-is-ignored-with-on-success",
    workflow_case_051: "051-background-script-is-not-awaited",
    workflow_case_054: "054-the-reason-of-on-exec-is-set",
    workflow_case_057: "057-on-success-given-as-an-array-of-one-state-as-in-the-doc",
    workflow_case_061: "061-await-agent-restart-succeeds-after-a-crash",
    workflow_case_064: "064-an-init-retained-before-the-agent-starts-is-executed",
    workflow_case_071: "071-sub-operation-failure",
    workflow_case_074: "074-input-script-then-explicit-input",
    workflow_case_077: "077-output-with-unknown-paths",
    workflow_case_07a: "07a-await-operation-completion-times-out",
    workflow_case_07d: "07d-sub-operation-awaiting-a-restart",
    workflow_case_081: "081-state-on-timeout-applies-to-a-script",
    workflow_case_084: "084-timeout-without-any-handler",
    workflow_case_087: "087-a-script-which-exits-by-itself-on-sigterm",
    workflow_case_092: "092-cleanup-on-a-custom-terminal-state",
    workflow_case_095: "095-garbage-on-a-command-topic-is-survived",
    workflow_case_098: "098-a-cleared-command-is-left-alone",
    workflow_case_09b: "09b-proceed-with-a-detailed-on-success",
    workflow_case_102: "102-a-pending-command-keeps-its-version-across-a-restart",
    workflow_case_111: "111-iterate-over-nothing",
}

#[test]
fn workflow_cases_are_all_run() {
    let listed: BTreeSet<String> = FOLDERS.iter().map(ToString::to_string).collect();
    assert_eq!(case::folders(), listed);
}
