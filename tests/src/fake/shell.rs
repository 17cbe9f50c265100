//! A shell that exists only in memory: what is typed comes back, a few commands are known.
//!
//! ```text
//!   new ─▶ greeting ─▶ typed(keys) ─▶ output … ─▶ exit_code
//! ```
//!
//! Pure. It has what a terminal is tested with: lines, colours, an alternate
//! screen, questions to the terminal, and wishes that no device may have fulfilled.

/// One shell.
#[derive(Debug, Clone)]
pub struct Shell {
    prompt: String,
    line: String,
    size: (u16, u16),
    is_full_screen: bool,
    /// Set once it has ended.
    pub exit_code: Option<i32>,
}

impl Shell {
    /// A login shell on a device, in a terminal of so many columns and rows.
    pub fn new(device: &str, size: (u16, u16)) -> Self {
        let host = device.split('.').next().unwrap_or(device);
        Self {
            prompt: format!("\x1b[32mroot@{host}\x1b[0m:~# "),
            line: String::new(),
            size,
            is_full_screen: false,
            exit_code: None,
        }
    }

    /// What it says first.
    pub fn greeting(&self) -> String {
        format!("Welcome. Type help for what this shell knows.\r\n{}", self.prompt)
    }

    /// The terminal has another size.
    pub const fn resize(&mut self, size: (u16, u16)) {
        self.size = size;
    }

    /// Takes keys, gives back output.
    pub fn typed(&mut self, keys: &[u8]) -> String {
        let mut out = String::new();
        for c in String::from_utf8_lossy(keys).chars() {
            if self.exit_code.is_some() {
                break;
            }
            match c {
                'q' if self.is_full_screen => {
                    self.is_full_screen = false;
                    out.push_str("\x1b[?1049l");
                    out.push_str(&self.prompt);
                }
                _ if self.is_full_screen => {}
                '\r' => {
                    out.push_str("\r\n");
                    let line = std::mem::take(&mut self.line);
                    out.push_str(&self.run(line.trim()));
                    if self.exit_code.is_none() && !self.is_full_screen {
                        out.push_str(&self.prompt);
                    }
                }
                '\x03' => {
                    self.line.clear();
                    out.push_str("^C\r\n");
                    out.push_str(&self.prompt);
                }
                '\x7f' => {
                    if self.line.pop().is_some() {
                        out.push_str("\x08 \x08");
                    }
                }
                c if c.is_control() => {
                    let shown = format!("^{}", char::from((c as u8) ^ 0x40));
                    self.line.push_str(&shown);
                    out.push_str(&shown);
                }
                c => {
                    self.line.push(c);
                    out.push(c);
                }
            }
        }
        out
    }

    fn run(&mut self, line: &str) -> String {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" => String::new(),
            "help" => "seq N  size  ask  wish  ring  top  exit [CODE]\r\n".to_owned(),
            "seq" => {
                let lines = (1..=rest.parse().unwrap_or(10_u32)).map(|n| n.to_string());
                lines
                    .flat_map(|n| ["line ".to_owned(), n, " of the flood\r\n".to_owned()])
                    .collect()
            }
            "size" => format!("{}x{}\r\n", self.size.0, self.size.1),
            // Where is the cursor? The answer comes as if it were typed.
            "ask" => "\x1b[6n".to_owned(),
            "wish" => "\x1b]52;c;c3RvbGVu\x07\x1b]0;not mine\x07\x1b]9;look\x07done\r\n".to_owned(),
            "ring" => "\x07".to_owned(),
            "top" => {
                self.is_full_screen = true;
                "\x1b[?1049h\x1b[2J\x1b[H\x1b[7mload 0.42, q leaves\x1b[0m\r\n  1 init".to_owned()
            }
            "exit" => {
                self.exit_code = Some(rest.parse().unwrap_or(0));
                "logout\r\n".to_owned()
            }
            other => format!("sh: {other}: not found\r\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_echoes_runs_and_ends() {
        let mut shell = Shell::new("pi-1.fra1", (80, 24));
        assert!(shell.greeting().ends_with("root@pi-1\x1b[0m:~# "));
        assert_eq!(shell.typed(b"sx\x7fize"), "sx\x08 \x08ize");
        assert!(shell.typed(b"\r").starts_with("\r\n80x24\r\n"));
        assert!(shell.typed(b"seq 2\r").contains("line 2 of the flood\r\n"));
        assert!(shell.typed(b"top\r").contains("?1049h"));
        assert_eq!(shell.typed(b"xyz"), "");
        assert!(shell.typed(b"q").contains("?1049l"));
        assert!(shell.typed(b"\x1b[1;5R").ends_with("^[[1;5R"));
        shell.typed(b"\x03exit 3\r");
        assert_eq!(shell.exit_code, Some(3));
        assert_eq!(shell.typed(b"more\r"), "");
    }
}
