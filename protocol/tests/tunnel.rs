//! Two ends of tunnels over a channel that loses, doubles, reorders, delays and
//! cuts, while either end may begin anew: equal bytes, or an explicit end.

#[path = "tunnel/hostile.rs"]
mod hostile;
#[path = "tunnel/world.rs"]
mod world;

use proptest::{prelude::*, test_runner::RngSeed};
use quarterdeck_protocol::tunnel::close::CloseCode;
use world::{Faults, Plan, Restart, World};

fn faults() -> impl Strategy<Value = Faults> {
    (0_u32..40, 0_u32..20, 0_u32..30, 0_u64..80_000, 0_u64..60_000).prop_map(
        |(lost_percent, doubled_percent, late_percent, delay_us, late_us)| Faults {
            lost_percent,
            doubled_percent,
            late_percent,
            delay_us,
            late_us,
        },
    )
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        0_usize..150_000,
        0_usize..150_000,
        1_usize..4,
        100_usize..20_000,
        any::<bool>(),
        0_u64..50_000,
    )
        .prop_map(|(near_bytes, device_bytes, streams, chunk, device_opens, slow_us)| Plan {
            near_bytes,
            device_bytes,
            streams,
            chunk,
            device_opens,
            slow_us,
        })
}

fn seed() -> RngSeed {
    match ProptestConfig::default().rng_seed {
        RngSeed::Random => RngSeed::Fixed(1),
        given @ RngSeed::Fixed(_) => given,
    }
}

/// Lets one end or the other begin anew at these times, and looks at what it cost.
fn check_restarts(seed: u64, faults: Faults, plan: &Plan, mut restarts: Vec<(u64, Restart)>) {
    let mut world = World::new(seed, faults, plan);
    restarts.sort_by_key(|(at_us, _)| *at_us);
    let has = |kind| restarts.iter().any(|(_, restart)| *restart == kind);
    let may_lose = has(Restart::NearForgets) && has(Restart::DeviceKeeps);
    for (at_us, restart) in restarts {
        world.run(at_us);
        world.restart(restart);
    }
    world.run(4_000_000);
    world.heal();
    assert!(world.run_until_done(90_000_000), "not done: {world:?}");
    world.check_equal_or_explicit(may_lose);
}

proptest! {
    // The same cases each time; others with PROPTEST_RNG_SEED.
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, rng_seed: seed(), ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_channel_does_the_bytes_are_equal(
        seed in any::<u64>(), faults in faults(), plan in plan(), cuts in prop::collection::vec((0_u64..3_000_000, 0_u64..2_000_000), 0..3),
    ) {
        let mut world = World::new(seed, faults, &plan);
        for (at_us, for_us) in cuts {
            world.cut(at_us, for_us);
        }
        world.run(4_000_000);
        world.heal();
        prop_assert!(world.run_until_done(60_000_000), "not done: {:?}", world);
        world.check_equal();
    }

    #[test]
    fn an_end_that_begins_anew_goes_on_or_says_why_not(
        seed in any::<u64>(), faults in faults(), plan in plan(),
        restarts in prop::collection::vec(
            (0_u64..3_000_000, prop_oneof![
                Just(Restart::NearForgets), Just(Restart::NearKeeps), Just(Restart::DeviceKeeps),
            ]), 1..5),
    ) {
        check_restarts(seed, faults, &plan, restarts);
    }

    #[test]
    fn a_device_that_lost_everything_ends_the_stream_explicitly(
        seed in any::<u64>(), faults in faults(), plan in plan(), at_us in 0_u64..2_000_000,
    ) {
        let mut world = World::new(seed, faults, &Plan { device_opens: false, ..plan });
        world.run(at_us);
        let open = world.open_streams();
        world.restart(Restart::DeviceLost);
        world.run(4_000_000);
        world.heal();
        prop_assert!(world.run_until_done(90_000_000), "not done: {:?}", world);
        world.check_prefixes();
        for key in open {
            let code = world.near_closed(key).map(|closed| closed.code);
            prop_assert!(
                matches!(code, Some(CloseCode::Unknown | CloseCode::Finished)),
                "{key:?} {code:?}"
            );
        }
    }
}

/// Streams are over at the near end when it begins anew, and known there no more; then comes the
/// first that it hears of a later one.
#[test]
fn a_stream_that_was_over_before_a_restart_is_unknown_after_it() {
    let faults = Faults {
        lost_percent: 9,
        doubled_percent: 12,
        late_percent: 17,
        delay_us: 51_331,
        late_us: 55_186,
    };
    let plan = Plan {
        near_bytes: 146_454,
        device_bytes: 113_391,
        streams: 3,
        chunk: 14_475,
        device_opens: true,
        slow_us: 10_624,
    };
    let restarts = vec![(336_813, Restart::NearForgets)];
    check_restarts(463_213_555_162_487_270, faults, &plan, restarts);
}

#[test]
fn a_clean_channel_is_used_without_a_single_repetition() {
    let plan = Plan { near_bytes: 2_000_000, device_bytes: 2_000_000, ..Plan::default() };
    let mut world = World::new(1, Faults { delay_us: 20_000, ..Faults::default() }, &plan);
    assert!(world.run_until_done(60_000_000), "{world:?}");
    world.check_equal();
    assert_eq!(world.repeated_bytes(), 0);
}

#[test]
fn one_lost_message_costs_one_message() {
    let plan = Plan { near_bytes: 0, device_bytes: 3_000_000, ..Plan::default() };
    let mut world = World::new(1, Faults { delay_us: 5_000, ..Faults::default() }, &plan);
    world.lose_nth_from_device(9);
    assert!(world.run_until_done(60_000_000), "{world:?}");
    world.check_equal();
    assert!(world.repeated_bytes() <= 64 * 1024, "{}", world.repeated_bytes());
}

#[test]
fn a_reconnect_is_taken_up_at_once() {
    let plan = Plan { near_bytes: 0, device_bytes: 1_000_000, ..Plan::default() };
    let mut world = World::new(3, Faults { delay_us: 20_000, ..Faults::default() }, &plan);
    world.cut(60_000, 30_000_000);
    world.run(30_060_000);
    assert!(world.run_until_done(31_000_000), "within a second of the reconnect: {world:?}");
    world.check_equal();
}
