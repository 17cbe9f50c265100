//! A stub of the server's HTTP interface: `enroll`, `uploads` and a device's `configuration`.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;

/// What was asked, and what is answered.
#[derive(Default)]
pub struct State {
    /// Bodies of the enrolments.
    pub enrolments: Vec<Value>,
    pub enroll_answer: Value,
    /// Statuses of the next answers, before it goes well.
    pub failing: Vec<u16>,
    pub uploads: HashMap<String, Vec<u8>>,
    pub configuration: Value,
    pub authorizations: Vec<String>,
    /// Whether whoever asks for a file waits for ever.
    pub is_hanging: bool,
}

pub struct Stub {
    address: SocketAddr,
    pub state: Arc<Mutex<State>>,
}

impl Stub {
    pub fn start(enroll_answer: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { enroll_answer, ..State::default() }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || {
                    // A client that goes away is the client's business.
                    let _ = serve(&stream, &state);
                });
            }
        });
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn fail_next(&self, statuses: &[u16]) {
        self.state.lock().unwrap().failing = statuses.iter().rev().copied().collect();
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut writer = stream;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
                None => break,
            };
        }
        let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        while path.starts_with("/api/v1/uploads/") && state.lock().unwrap().is_hanging {
            thread::sleep(Duration::from_millis(50));
        }
        let authorization = headers.get("authorization").cloned().unwrap_or_default();
        let (status, answer) =
            respond(&mut state.lock().unwrap(), method, path, body, authorization);
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", answer.len());
        writer.write_all(head.as_bytes())?;
        writer.write_all(&answer)?;
    }
}

fn respond(
    state: &mut State,
    method: &str,
    path: &str,
    body: Vec<u8>,
    authorization: String,
) -> (u16, Vec<u8>) {
    let path = path.split('?').next().unwrap_or(path);
    let route = path.strip_prefix("/api/v1/").unwrap_or("");
    if route == "enroll" {
        state.enrolments.push(serde_json::from_slice(&body).unwrap());
    } else {
        state.authorizations.push(authorization);
    }
    if let Some(status) = state.failing.pop() {
        return (status, br#"{"detail":"the stub says no"}"#.to_vec());
    }
    match (method, route.split_once('/')) {
        ("POST", None) if route == "enroll" => (200, state.enroll_answer.to_string().into_bytes()),
        ("PUT", Some(("uploads", id))) => {
            state.uploads.insert(id.to_owned(), body);
            (201, b"{}".to_vec())
        }
        ("GET", Some(("uploads", id))) => match state.uploads.get(id) {
            Some(content) => (200, content.clone()),
            None => (404, b"{}".to_vec()),
        },
        ("GET", Some(("projects", rest))) if rest.ends_with("/configuration") => {
            (200, state.configuration.to_string().into_bytes())
        }
        _ => (404, b"{}".to_vec()),
    }
}
