//! Tunnels of a device, with real terminals, programs and connections, over a
//! channel that loses and delays; the other end is the same machine.

#[path = "tunnels/far.rs"]
mod far;

use std::time::Duration;

use far::{Far, bytes_of, noise};
use quarterdeck_agent::tunnel::policy::Policy;
use quarterdeck_protocol::tunnel::{
    Content, Item,
    close::CloseCode,
    control::{Control, Target},
    mark::{Exit, Mark, Signal, Size},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

const SOON: Duration = Duration::from_mins(1);

fn terminal(script: &str) -> Target {
    Target::Terminal {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        size: Size::new(80, 24).expect("not 0"),
        term: "xterm".to_owned(),
        env: [("PS1".to_owned(), "$ ".to_owned())].into(),
        user: None,
    }
}

fn exec(script: &str) -> Target {
    Target::Exec {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: [].into(),
        user: None,
    }
}

#[tokio::test]
async fn a_terminal_echoes_every_byte_over_a_lossy_network() {
    let mut far = Far::new(Policy::default(), 10);
    let tunnel = far.open(terminal("stty raw -echo; echo ready; exec cat")).await.expect("opens");
    let stream = far.stream(tunnel);
    far.read_until(&stream, "ready").await;
    let sent = noise(200_000);
    let echoed = async {
        let mut echoed: Vec<u8> = Vec::new();
        while echoed.len() < sent.len() {
            echoed.extend(bytes_of(&far.read(&stream).await));
        }
        echoed
    };
    let (written, echoed) = tokio::join!(stream.write(sent.clone().into()), echoed);
    written.expect("open");
    assert!(echoed == sent, "what came back differs");
}

#[tokio::test]
async fn an_exec_has_its_streams_apart_and_passes_its_exit_on() {
    let mut far = Far::new(Policy::default(), 10);
    let tunnel = far.open(exec("cat; echo trouble >&2; exit 7")).await.expect("opens");
    let main = far.stream(tunnel);
    let sent = noise(500_000);
    let write = async {
        main.write(sent.clone().into()).await.expect("open");
        main.finish();
    };
    let ((), (stdout, exit)) = tokio::join!(write, far.read_all(&main));
    assert!(stdout == sent, "stdout differs: {} bytes", stdout.len());
    assert_eq!(exit, Some(Exit::Code(7)));
    let errors = far.incoming(tunnel).await;
    errors.finish();
    assert_eq!(far.read_all(&errors).await.0, b"trouble\n");
    let closed = far.closed(tunnel).await;
    assert_eq!(closed, CloseCode::Finished);
}

#[tokio::test]
async fn a_network_that_was_away_costs_no_byte() {
    let mut far = Far::new(Policy::default(), 0);
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done";
    let tunnel = far.open(exec(script)).await.expect("opens");
    let main = far.stream(tunnel);
    main.finish();
    let cuts = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            far.cut(true);
            tokio::time::sleep(Duration::from_millis(200)).await;
            far.cut(false);
        }
    };
    let ((), (stdout, exit)) = tokio::join!(cuts, far.read_all(&main));
    let lines: Vec<_> = (0..20_000).map(|i| format!("line {i}\n")).collect();
    let expected = lines.concat();
    assert!(stdout == expected.as_bytes(), "{} of {} bytes", stdout.len(), expected.len());
    assert_eq!(exit, Some(Exit::Code(0)));
}

#[tokio::test]
async fn a_flood_stops_at_once_when_it_is_interrupted() {
    let mut far = Far::new(Policy::default(), 0);
    let tunnel =
        far.open(terminal("trap 'echo stopped' INT; yes; echo $?; cat")).await.expect("opens");
    let stream = far.stream(tunnel);
    far.read_until(&stream, "y\r\ny\r\n").await;
    // Nobody reads for a while: the program waits, it is not buffered without end.
    tokio::time::sleep(Duration::from_millis(300)).await;
    stream.write(b"\x03"[..].into()).await.expect("open");
    let after = far.read_until(&stream, "stopped").await;
    assert!(after < 700_000, "{after} bytes came after the interrupt");
}

#[tokio::test]
async fn a_resize_is_applied_and_stands_in_the_output() {
    let mut far = Far::new(Policy::default(), 0);
    let tunnel = far.open(terminal("stty size; read x; stty size; read x")).await.expect("opens");
    let stream = far.stream(tunnel);
    let size = Size::new(132, 50).expect("not 0");
    assert_eq!(
        far.read(&stream).await,
        Item::Content(Content::Mark(Mark::Resize(Size::new(80, 24).expect("not 0"))))
    );
    far.read_until(&stream, "24 80").await;
    stream.mark(Mark::Resize(size)).await.expect("open");
    let echoed = async {
        while far.read(&stream).await != Item::Content(Content::Mark(Mark::Resize(size))) {}
    };
    timeout(SOON, echoed).await.expect("the resize is echoed");
    stream.write(b"\n"[..].into()).await.expect("open");
    far.read_until(&stream, "50 132").await;
}

#[tokio::test]
async fn a_signal_reaches_the_foreground_and_the_exit_tells_it() {
    let mut far = Far::new(Policy::default(), 0);
    let tunnel = far.open(terminal("echo ready; exec sleep 1000")).await.expect("opens");
    let stream = far.stream(tunnel);
    far.read_until(&stream, "ready").await;
    stream.mark(Mark::Signal(Signal::Terminate)).await.expect("open");
    let (_, exit) = far.read_all(&stream).await;
    assert_eq!(exit, Some(Exit::Signal(15)));
}

#[tokio::test]
async fn a_signal_on_a_stream_of_its_own_waits_for_no_input() {
    let mut far = Far::new(Policy::default(), 0);
    let tunnel = far.open(exec("echo ready; exec sleep 1000")).await.expect("opens");
    let main = far.stream(tunnel);
    far.read_until(&main, "ready").await;
    // More than pipe, windows and buffers hold: it never leaves as a whole.
    let input = async {
        let _ = main.write(noise(8_000_000).into()).await;
        std::future::pending::<()>().await;
    };
    let ended = async {
        let signals = far.stream(tunnel);
        signals.mark(Mark::Signal(Signal::Interrupt)).await.expect("open");
        far.read_all(&main).await.1
    };
    tokio::select! {
        exit = timeout(SOON, ended) => assert_eq!(exit.expect("in time"), Some(Exit::Signal(2))),
        () = input => {}
    }
}

#[tokio::test]
async fn closing_hangs_the_program_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let heard = folder.path().join("heard");
    let script = format!(
        "trap 'echo hup > {}; exit' HUP; echo ready; while :; do sleep 0.05; done",
        heard.display()
    );
    let mut far = Far::new(Policy::default(), 0);
    let tunnel = far.open(terminal(&script)).await.expect("opens");
    let stream = far.stream(tunnel);
    far.read_until(&stream, "ready").await;
    far.say(&Control::close(tunnel.id, CloseCode::Killed, "by an admin")).await;
    assert_eq!(far.closed(tunnel).await, CloseCode::Killed);
    assert_eq!(std::fs::read_to_string(&heard).expect("it was told"), "hup\n");
}

#[tokio::test]
async fn what_an_exec_left_behind_is_heard_to_its_end() {
    let mut far = Far::new(Policy::default(), 0);
    let script = "(sleep 1; echo late; echo error >&2) & echo now; exit 3";
    let tunnel = far.open(exec(script)).await.expect("opens");
    let main = far.stream(tunnel);
    main.finish();
    let errors = far.incoming(tunnel).await;
    errors.finish();
    let ((out, exit), (err, _)) = tokio::join!(far.read_all(&main), far.read_all(&errors));
    assert_eq!(String::from_utf8_lossy(&out), "now\nlate\n");
    assert_eq!((exit, &err[..]), (Some(Exit::Code(3)), &b"error\n"[..]));
    assert_eq!(far.closed(tunnel).await, CloseCode::Finished);
}

#[tokio::test]
async fn closing_hangs_an_exec_up_before_its_pipes_close() {
    let folder = tempfile::tempdir().expect("a folder");
    let heard = folder.path().join("heard");
    // More than a pipe holds: nobody reads it, and it goes on all the same.
    let script = format!(
        "trap 'head -c 200000 /dev/zero; echo hup > {}; exit' HUP; echo ready; \
         while :; do sleep 0.05; done",
        heard.display()
    );
    let mut far = Far::new(Policy::default(), 0);
    let tunnel = far.open(exec(&script)).await.expect("opens");
    let main = far.stream(tunnel);
    far.read_until(&main, "ready").await;
    far.say(&Control::close(tunnel.id, CloseCode::Killed, "by an admin")).await;
    assert_eq!(far.closed(tunnel).await, CloseCode::Killed);
    assert_eq!(std::fs::read_to_string(&heard).expect("it was told"), "hup\n");
}

#[tokio::test]
async fn connections_are_apart_and_a_slow_one_blocks_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let mut far = Far::new(Policy::default(), 5);
    let target = Target::Tcp { host: "localhost".to_owned(), port };
    let tunnel = far.open(target).await.expect("opens");
    // One whose echo nobody reads.
    let slow = far.stream(tunnel);
    let flood = async {
        let _ = slow.write(noise(3_000_000).into()).await;
        std::future::pending::<()>().await;
    };
    let others = async {
        for _ in 0..5 {
            let stream = far.stream(tunnel);
            let sent = noise(100_000);
            let write = async {
                stream.write(sent.clone().into()).await.expect("open");
                stream.finish();
            };
            let ((), (echoed, _)) = tokio::join!(write, far.read_all(&stream));
            assert!(echoed == sent, "{} bytes", echoed.len());
        }
    };
    tokio::select! {
        () = others => {}
        () = flood => {}
    }
}

#[tokio::test]
async fn the_device_listens_and_opens_a_stream_for_each_connection() {
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        free.local_addr().expect("bound").port()
    };
    let mut far = Far::new(Policy::default(), 5);
    let target = Target::TcpListen { host: "127.0.0.1".to_owned(), port };
    let tunnel = far.open(target).await.expect("opens");
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    socket.write_all(b"hello").await.expect("connected");
    let stream = far.incoming(tunnel).await;
    far.read_until(&stream, "hello").await;
    stream.write(b"world"[..].into()).await.expect("open");
    stream.finish();
    let mut answer = String::new();
    timeout(SOON, socket.read_to_string(&mut answer)).await.expect("in time").expect("text");
    assert_eq!(answer, "world");
}

#[tokio::test]
async fn what_the_owner_does_not_allow_is_refused() {
    let policy = Policy { tunnels_max: 1, ..Policy::default() };
    let mut far = Far::new(policy, 0);
    let someone = Target::Exec {
        argv: vec!["id".to_owned()],
        env: [].into(),
        user: Some("nobody".to_owned()),
    };
    for (target, code) in [
        (Target::Tcp { host: "10.255.255.1".to_owned(), port: 22 }, CloseCode::NotAllowed),
        (someone, CloseCode::NotAllowed),
        (exec_of("/no/such/program"), CloseCode::LaunchFailed),
    ] {
        assert_eq!(far.open(target.clone()).await.map(|_| ()), Err(code), "{target:?}");
    }
    far.open(exec("cat")).await.expect("opens");
    assert_eq!(far.open(exec("cat")).await.map(|_| ()), Err(CloseCode::Busy));
}

fn exec_of(program: &str) -> Target {
    Target::Exec { argv: vec![program.to_owned()], env: [].into(), user: None }
}

#[tokio::test]
async fn an_open_that_comes_twice_is_done_once() {
    let mut far = Far::new(Policy::default(), 0);
    let tunnel = far.open(exec("echo once")).await.expect("opens");
    far.ask(tunnel, exec("echo once")).await;
    assert!(matches!(far.answer().await, Control::Opened { .. }));
    let main = far.stream(tunnel);
    main.finish();
    assert_eq!(far.read_all(&main).await.0, b"once\n");
    let errors = far.incoming(tunnel).await;
    errors.finish();
    far.read_all(&errors).await;
    assert_eq!(far.closed(tunnel).await, CloseCode::Finished);
    far.ask(tunnel, exec("echo once")).await;
    assert!(matches!(far.answer().await, Control::Close { .. }));
}

#[tokio::test]
async fn a_program_that_a_crash_cut_off_is_not_started_again() {
    let mut far = Far::new(Policy::default(), 0);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("starts");
    let script = format!("echo started >> {}; sleep 1000", file.display());
    let tunnel = far.open(exec(&script)).await.expect("opens");
    let starts = || std::fs::read_to_string(&file).unwrap_or_default();
    let started = async {
        while starts().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, started).await.expect("in time");
    // The server did not hear that it was opened, and asks again.
    let mut far = far.crash(Policy::default());
    far.ask(tunnel, exec(&script)).await;
    let answer = far.answer().await;
    let Control::Close { tunnel_id, reason, .. } = answer else { panic!("{answer:?}") };
    assert_eq!((tunnel_id, reason), (tunnel.id, CloseCode::AgentRestarted));
    // What is asked for after it is opened, and the file tells what was.
    let next = far.open(exec("cat")).await;
    assert!(next.is_ok(), "{next:?}");
    assert_eq!(starts(), "started\n");
}

#[tokio::test]
async fn what_is_there_is_told_when_the_network_is_back() {
    let mut far = Far::new(Policy::default(), 0);
    let tunnel = far.open(exec("cat")).await.expect("opens");
    far.cut(true);
    far.cut(false);
    let word = far.answer().await;
    let Control::Opened { tunnel_id, .. } = word else { panic!("{word:?}") };
    assert_eq!(tunnel_id, tunnel.id);
}

#[tokio::test]
async fn the_agents_stop_is_told() {
    let mut far = Far::new(Policy::default(), 0);
    let tunnel = far.open(terminal("echo ready; exec sleep 1000")).await.expect("opens");
    let stream = far.stream(tunnel);
    far.read_until(&stream, "ready").await;
    far.stop();
    assert_eq!(far.closed(tunnel).await, CloseCode::AgentStopped);
}
