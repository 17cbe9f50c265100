# The daily commands. CI runs the same ones: see .ci/run.

# List them.
default:
    @just --list

# All that must pass before anything lands; as root on Debian it installs what tests need.
ci:
    .ci/run

# Format everything.
fmt:
    cargo fmt --all

# Warnings are errors.
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# All tests, or those whose name contains NAME.
test *NAME:
    cargo test --workspace --locked -- {{ NAME }}

# End-to-end tests alone: real programs, real processes.
e2e *NAME:
    cargo test -p quarterdeck-tests --locked --test e2e -- {{ NAME }}

# Fuzz one parser by coverage for SECONDS (or one FILE again); with the short run's inputs in `just test`. Needs a C++ compiler.
fuzz TARGET WHAT="600":
    tests/fuzz/run {{ TARGET }} {{ WHAT }}

# The console on a live demo fleet.
demo *ARGS:
    cargo demo {{ ARGS }}

# The console on a fleet in memory, without terminals: `just fake --rows 100000 --churn 50000 -- --low-bandwidth`.
fake *ARGS:
    cargo run --quiet -p quarterdeck-tests --bin fake_fleet -- {{ ARGS }}

# Ten million chunks of any bytes, and resizes, into terminal panes.
fuzz-pane CHUNKS="10000000" SEED="24301":
    QUARTERDECK_FUZZ_CHUNKS={{ CHUNKS }} QUARTERDECK_FUZZ_SEED={{ SEED }} cargo test --release --locked -p quarterdeck-console --test pane_fuzz -- --nocapture

# What a pane takes in, beside the vt100 crate.
bench-pane *ARGS:
    cargo bench --locked -p quarterdeck-console --bench pane -- {{ ARGS }}

# One benchmark, its figure beside its peer's: fanout, ingest, memory, agent_idle, workflows, console, tunnels; add --short for a quick run, of tunnels --keys for a part.
bench NAME *ARGS:
    cargo bench --locked -p quarterdeck-tests --bench {{ NAME }} -- {{ ARGS }}

# The three programs as they are shipped.
release:
    cargo build --release --locked --workspace --bins
