//! What the demo prints: one line for each thing that happens, with the time since the start; colour on a terminal
//! only.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

const DIM: &str = "2";
const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    start: Instant,
    colour: bool,
}

impl Screen {
    /// `NO_COLOR` turns colour off, too (no-color.org).
    pub fn new() -> Screen {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Screen { start: Instant::now(), colour }
    }

    pub fn heading(&self, text: &str) {
        println!("\n{}", self.paint(BOLD, text));
    }

    pub fn boot(&self, text: &str) {
        self.line(DIM, "boot", text);
    }

    pub fn info(&self, text: &str) {
        self.line(DIM, "guest", text);
    }

    pub fn call(&self, text: &str) {
        self.line(BOLD, "host", text);
    }

    pub fn event(&self, text: &str) {
        self.line(CYAN, "event", text);
    }

    pub fn stdout(&self, text: &str) {
        self.line(GREEN, "stdout", text);
    }

    pub fn stderr(&self, text: &str) {
        self.line(YELLOW, "stderr", text);
    }

    pub fn took(&self, what: &str, time: Duration) {
        println!("  {what:<36} {:>8.1} ms", time.as_secs_f64() * 1e3);
    }

    pub fn good(&self, text: &str) {
        println!("\n{}", self.paint(GREEN, text));
    }

    pub fn bad(&self, text: &str) {
        println!("\n{}", self.paint(RED, text));
    }

    fn line(&self, colour: &str, source: &str, text: &str) {
        let at = format!("{:8.3}", self.start.elapsed().as_secs_f64());
        println!("{} {} {text}", self.paint(DIM, &at), self.paint(colour, &format!("{source:<6}")));
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}
