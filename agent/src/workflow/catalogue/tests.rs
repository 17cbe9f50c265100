use serde_json::json;

use super::*;

fn file(name: &str, text: &str) -> FolderFile {
    FolderFile { path: Path::new("/wf").join(name), content: Ok(text.as_bytes().to_vec()) }
}

fn workflow(operation: &str) -> String {
    format!("operation = \"{operation}\"\n[init]\naction = \"proceed\"\n")
}

fn rejections(catalogue: &Catalogue) -> Vec<String> {
    catalogue.rejected.iter().map(ToString::to_string).collect()
}

#[test]
fn workflow_catalogue_holds_each_builtin_operation_valid_and_without_a_note() {
    let catalogue = Catalogue::builtin();
    for operation in quarterdeck_protocol::operations::builtin() {
        let entry = catalogue.get(&operation.name).expect(&operation.name);
        let Workflow::Valid { definition, .. } = &entry.workflow else {
            panic!("{:?}", entry.workflow);
        };
        assert_eq!(definition.notes, [], "{}", operation.name);
        assert_eq!((&*definition.operation, &entry.card), (&*operation.name, &operation));
        assert!(entry.is_builtin() && entry.origin == Origin::Builtin);
    }
    assert_eq!(catalogue.entries().count(), BUILTIN.len());
    assert!(catalogue.rejected.is_empty());
}

#[test]
fn a_workflow_file_takes_the_place_of_the_builtin_one_whatever_its_name() {
    let catalogue = Catalogue::of(Whose::Device, vec![file("mine.toml", &workflow("ping"))]);
    let entry = catalogue.get("ping").expect("there");
    assert_eq!(entry.origin, Origin::File("/wf/mine.toml".into()));
    assert!(entry.overrides_builtin && entry.workflow.is_valid());
    assert_eq!(entry.definition().states()[0].line, 2);
    assert!(!catalogue.get("run_script").expect("there").overrides_builtin);
}

#[test]
fn only_toml_files_of_a_workflow_folder_count() {
    let text = workflow("op");
    let names = ["wf.toml.bak", "wf.TOML", "wf", ".wf.toml", ".#wf.toml", "toml", ".toml"];
    let files = names.map(|name| file(name, &text));
    let catalogue = Catalogue::of(Whose::Child, files.to_vec());
    assert_eq!((catalogue.entries().count(), catalogue.rejected.len()), (0, 0));
}

#[test]
fn an_invalid_workflow_file_fails_its_commands_and_harms_no_other() {
    let invalid = "operation = \"bad\"\n[init]\naction = \"fly\"\n";
    let files = vec![file("bad.toml", invalid), file("good.toml", &workflow("good"))];
    let catalogue = Catalogue::of(Whose::Device, files);
    assert!(catalogue.get("good").expect("there").workflow.is_valid());
    let definition = catalogue.get("bad").expect("there").definition();
    let mut leads = definition.states().iter().flat_map(|state| state.action.leads());
    let reason = leads.find_map(|lead| lead.reason).expect("a reason");
    assert!(reason.contains("/wf/bad.toml:3:10: init.action: \"fly\" is unknown"), "{reason}");
    assert!(catalogue.rejected.is_empty());
}

#[test]
fn an_invalid_workflow_file_does_not_give_way_to_the_builtin_one() {
    let catalogue = Catalogue::of(Whose::Device, vec![file("p.toml", "operation = \"ping\"\n")]);
    let entry = catalogue.get("ping").expect("there");
    assert!(!entry.workflow.is_valid() && entry.overrides_builtin);
}

#[test]
fn workflow_files_that_cannot_be_read_are_told() {
    let unreadable = FolderFile { path: "/wf/a.toml".into(), content: Err("denied".to_owned()) };
    let mut no_text = file("c.toml", "operation = \"c\"\n# ");
    no_text.content.as_mut().expect("bytes").push(0xff);
    let files = vec![
        unreadable,
        file("b.toml", "[init]\naction = \"proceed\"\n"),
        no_text,
        file("d.toml", &"#".repeat(WORKFLOW_MAX_BYTES + 1)),
    ];
    let catalogue = Catalogue::of(Whose::Child, files);
    let told = rejections(&catalogue);
    assert_eq!(told[0], "/wf/a.toml: cannot be read: denied");
    assert!(told[1].starts_with("/wf/b.toml:1:1: operation: is missing"), "{told:?}");
    assert_eq!(told[2], "/wf/d.toml:expected at most 256 KiB");
    assert_eq!(told.len(), 3);
    let invalid: Vec<_> = catalogue.invalid().map(ToString::to_string).collect();
    assert_eq!(invalid, ["/wf/c.toml:2:3: this is no UTF-8 text"]);
}

#[test]
fn of_several_workflow_files_for_an_operation_the_first_valid_one_counts() {
    let files = vec![
        file("c.toml", &workflow("op")),
        file("a.toml", "operation = \"op\"\n"),
        file("b.toml", &workflow("op")),
    ];
    let catalogue = Catalogue::of(Whose::Child, files);
    let entry = catalogue.get("op").expect("there");
    assert_eq!(entry.origin, Origin::File("/wf/b.toml".into()));
    assert!(entry.workflow.is_valid() && !entry.overrides_builtin);
    assert_eq!(
        rejections(&catalogue),
        [
            "/wf/a.toml: is for op too, but /wf/b.toml stands",
            "/wf/c.toml: is for op too, but /wf/b.toml stands",
        ]
    );
}

#[test]
fn a_card_beside_the_workflow_describes_its_operation() {
    let card = json!({"name": "Flash it", "dangerous": true, "reboots": true}).to_string();
    let files = vec![
        file("wf.toml", &workflow("flash")),
        file("flash.json", &card),
        file("broken.toml", &workflow("broken")),
        file("broken.json", "{\"dangerous\": 1}"),
        file("package.json", "no card at all"),
    ];
    let catalogue = Catalogue::of(Whose::Device, files);
    let flash = &catalogue.get("flash").expect("there").card;
    assert_eq!((&*flash.name, &*flash.title), ("flash", "Flash it"));
    assert!(flash.dangerous && flash.reboots);
    assert!(!catalogue.get("broken").expect("there").card.dangerous);
    assert_eq!(rejections(&catalogue), ["/wf/broken.json: dangerous: expected true or false"]);
}

#[test]
fn a_card_keeps_what_it_does_not_say_of_a_builtin_operation() {
    let files = vec![file("reboot_host.json", "{\"name\": \"Power cycle\"}")];
    let catalogue = Catalogue::of(Whose::Device, files);
    let card = &catalogue.get("reboot_host").expect("there").card;
    assert_eq!((&*card.title, card.dangerous, card.reboots), ("Power cycle", true, true));
}

#[test]
fn brackets_in_texts_and_comments_count_for_nothing() {
    let odd = "# [[ {{\nscript = \"p '[[' {\"\n#\"[\non_success = 'a'\ninput_script = \"\"\"\n[[{ \\\"\"\"\"\n";
    let states: Vec<_> = (0..200).map(|n| format!("[s{n}]\n{odd}")).collect();
    let states = states.concat();
    let text = format!("operation = \"op\"\n[init]\naction = \"proceed\"\n{states}");
    assert!(text.matches('[').count() > text.matches(']').count() + 500);
    let (_, workflow) = read(Whose::Device, "odd.toml", text.as_bytes());
    assert!(matches!(workflow, Workflow::Valid { .. }), "{workflow:?}");
}

#[test]
fn brackets_that_are_never_closed_are_refused_before_they_are_read() {
    let text = "operation = \"op\"\n[init]\non_exit.1 = { status = \"x\n".repeat(2_000);
    let (operation, workflow) = read(Whose::Device, "deep.toml", text.as_bytes());
    let Workflow::Invalid(invalid) = workflow else { panic!("it is valid") };
    assert_eq!(operation, None);
    assert!(invalid.reason().contains("nests deeper than 100 levels"), "{}", invalid.reason());
}

#[test]
fn a_child_has_the_operations_of_its_folder_and_nothing_that_is_built_in() {
    let own = "operation = \"restart\"\n[init]\naction = \"builtin\"\n\n[later]\noperation = \"builtin:restart\"\non_exec = \"init\"\n";
    let step = "operation = \"step\"\n[init]\naction = \"builtin:restart:restart\"\n";
    let files = vec![
        file("a.toml", &workflow("ping")),
        file("b.toml", own),
        file("c.toml", step),
        file("d.toml", &workflow("step")),
    ];
    assert!(
        Catalogue::of(Whose::Device, files.clone()).entries().all(|(_, e)| e.workflow.is_valid())
    );
    let catalogue = Catalogue::of(Whose::Child, files);
    let names: Vec<_> = catalogue.entries().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["ping", "restart", "step"]);
    let ping = catalogue.get("ping").expect("there");
    assert!(ping.workflow.is_valid() && !ping.is_builtin());
    let Workflow::Invalid(invalid) = &catalogue.get("restart").expect("there").workflow else {
        panic!("it is valid")
    };
    let lines: Vec<_> = invalid.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 5]);
    assert!(invalid.reason().contains("expected a script"), "{}", invalid.reason());
    assert_eq!(catalogue.get("step").expect("there").origin, Origin::File("/wf/d.toml".into()));
}
