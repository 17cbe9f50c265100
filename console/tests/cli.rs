//! The program `quarterdeck` against a server that says what each test needs.

mod cli {
    pub(crate) mod program;
    pub(crate) mod samples;
    pub(crate) use quarterdeck_tests::stub;

    mod help;
    mod listing;
    mod live;
    mod login;
    mod pane;
    mod refusals;
    mod running;
    mod session;
}
