//! A server that says what a test tells it to, and remembers what it was asked.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What was asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With its query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `METHOD /path` without query.
    pub fn route(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{} {}", self.method, path.strip_prefix("/api/v1").unwrap_or(path))
    }

    pub fn query(&self, key: &str) -> Option<String> {
        let url = url::Url::parse(&format!("http://stub{}", self.path)).expect("a URL");
        url.query_pairs().find(|(k, _)| k == key).map(|(_, value)| value.into_owned())
    }
}

/// What it answers.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Hangs up without an answer.
    pub is_cut: bool,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status, headers, body: body.to_string().into_bytes(), is_cut: false }
    }

    pub fn ok(body: &Value) -> Self {
        Self::json(200, body)
    }

    pub fn page(items: &[Value], next_cursor: Option<&str>, total: usize) -> Self {
        Self::ok(&json!({"items": items, "next_cursor": next_cursor, "total": total}))
    }

    pub fn problem(status: u16, code: &str, detail: &str) -> Self {
        Self::json(
            status,
            &json!({"type": "about:blank", "title": "Problem", "status": status, "code": code, "detail": detail}),
        )
    }

    pub fn cut() -> Self {
        Self { status: 0, headers: vec![], body: vec![], is_cut: true }
    }
}

/// Says what is answered to a request.
type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

#[derive(Debug)]
pub struct Stub {
    pub url: String,
    asked: Arc<Mutex<Vec<Request>>>,
    /// WebSockets that were opened, in order.
    pub sockets: tokio::sync::Mutex<tokio::sync::mpsc::UnboundedReceiver<TcpStream>>,
}

impl Stub {
    pub async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (sender, sockets) = tokio::sync::mpsc::unbounded_channel();
        let handler: Arc<Handler> = Arc::new(handler);
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&handler), Arc::clone(&log), sender.clone()));
            }
        });
        Self { url, asked, sockets: tokio::sync::Mutex::new(sockets) }
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().expect("not poisoned").clone()
    }

    pub fn routes(&self) -> Vec<String> {
        self.asked().iter().map(Request::route).collect()
    }
}

async fn serve(
    stream: TcpStream,
    handler: Arc<Handler>,
    log: Arc<Mutex<Vec<Request>>>,
    sockets: tokio::sync::mpsc::UnboundedSender<TcpStream>,
) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        log.lock().expect("not poisoned").push(request.clone());
        if let Some(key) = request.header("sec-websocket-key") {
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n\r\n",
                derive_accept_key(key.as_bytes())
            );
            if stream.write_all(answer.as_bytes()).await.is_ok() {
                let _ = sockets.send(stream.into_inner());
            }
            return;
        }
        let reply = handler(&request);
        if reply.is_cut {
            return;
        }
        let mut head =
            format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\n", reply.status, reply.body.len());
        for (key, value) in reply.headers {
            let _ = writeln!(head, "{key}: {value}\r");
        }
        head.push_str("\r\n");
        if stream.write_all(head.as_bytes()).await.is_err()
            || stream.write_all(&reply.body).await.is_err()
        {
            return;
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
        let Some((key, value)) = line.trim_end().split_once(':') else { break };
        headers.push((key.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(key, _)| key == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().expect("a number"))];
    stream.read_exact(&mut body).await.ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Request { method, path, headers, body })
}
