//! The list of all cases, each a test of its own; the file that includes it has a `run`.

macro_rules! cases {
    ($($test:ident: $folder:literal,)*) => {
        $(
            #[test]
            fn $test() {
                let wrong = crate::run($folder);
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
    workflow_case_b5_a_background_script_that_cannot_be_launched_fails_the_command: "b5-a-background-script-that-cannot-be-launched-fails-the-command",
    workflow_case_c2_a_cleared_id_may_be_used_again: "c2-a-cleared-id-may-be-used-again",
    workflow_case_c2_an_id_cleared_while_the_agent_was_away_may_be_used_again: "c2-an-id-cleared-while-the-agent-was-away-may-be-used-again",
    workflow_case_c3_a_command_that_is_cleared_while_it_runs_is_ended: "c3-a-command-that-is-cleared-while-it-runs-is-ended",
    workflow_case_d8_one_bad_file_harms_no_other: "d8-one-bad-file-harms-no-other",
    workflow_case_f10_an_init_of_a_command_on_the_board_changes_nothing: "f10-an-init-of-a-command-on-the-board-changes-nothing",
    workflow_case_f3_the_baton_is_passed_to_another_participant_and_back: "f3-the-baton-is-passed-to-another-participant-and-back",
    workflow_case_f9_a_slow_command_holds_up_no_other: "f9-a-slow-command-holds-up-no-other",
    workflow_case_p2_an_invalid_file_says_where_and_is_mended_at_once: "p2-an-invalid-file-says-where-and-is-mended-at-once",
    workflow_case_r3_an_agent_that_does_not_restart_in_time_is_told_so: "r3-an-agent-that-does-not-restart-in-time-is-told-so",
    workflow_case_r4_a_script_that_a_crash_cut_off_runs_again: "r4-a-script-that-a-crash-cut-off-runs-again",
    workflow_case_r6_a_finished_command_is_left_alone_by_a_restart: "r6-a-finished-command-is-left-alone-by-a-restart",
    workflow_case_t2_a_time_out_ends_the_whole_group: "t2-a-time-out-ends-the-whole-group",
    workflow_case_t6_a_child_that_holds_a_pipe_holds_nothing_up: "t6-a-child-that-holds-a-pipe-holds-nothing-up",
    workflow_case_u1_a_sub_operation_may_be_started_again_on_the_same_topic: "u1-a-sub-operation-may-be-started-again-on-the-same-topic",
    workflow_case_u14_sub_operations_nest_and_each_is_cleared: "u14-sub-operations-nest-and-each-is-cleared",
    workflow_case_u14_three_levels_of_sub_operations: "u14-three-levels-of-sub-operations",
    workflow_case_v1_a_file_that_changes_is_for_new_commands: "v1-a-file-that-changes-is-for-new-commands",
    workflow_case_v2_a_new_file_is_used_at_once: "v2-a-new-file-is-used-at-once",
    workflow_case_v4_without_its_file_a_pending_command_ends_and_no_new_one_begins: "v4-without-its-file-a-pending-command-ends-and-no-new-one-begins",
}

#[test]
fn workflow_cases_are_all_run() {
    let listed: std::collections::BTreeSet<String> =
        FOLDERS.iter().map(ToString::to_string).collect();
    assert_eq!(crate::case::folders(), listed);
}
