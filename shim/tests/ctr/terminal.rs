//! A container on a terminal: `ctr run -t` at the end of a pseudoterminal of the test's own.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{ExitStatus, Stdio};
use std::thread;

use nix::pty::{openpty, Winsize};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};
use tokio::time::timeout;

use crate::alone::alone;
use crate::world::{text, PATIENCE};

#[test]
fn a_terminal_is_the_containers() {
    alone(async |world| {
        // `ctr` sets the size when the container runs already.
        let size = "until stty size 2>/dev/null | grep '33 101'; do sleep 0.02; done";
        let script = format!("tty; read line; echo got $line; {size}; exit 5");
        let args = world.run(&["--rm", "--tty"], "c1", &["sh", "-c", &script]);
        let mut terminal = Terminal::start(world.command(&args));
        terminal.until("/dev/pts/0\n").await;
        terminal.types("typed\r");
        // The first is the echo of the container's own terminal: that of `ctr` is raw.
        terminal.until("typed\ngot typed\n33 101\n").await;
        assert_eq!(terminal.ended().await.code(), Some(5));
    });
}

/// A terminal of 33 rows and 101 columns, with a call of `ctr` on it.
struct Terminal {
    ctr: Child,
    master: File,
    output: UnboundedReceiver<Vec<u8>>,
    said: String,
}

impl Terminal {
    fn start(mut command: Command) -> Terminal {
        let size = Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("open a pseudoterminal");
        let end = || Stdio::from(pty.slave.try_clone().expect("share the terminal"));
        let ctr = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("run ctr");
        let master = File::from(pty.master);
        let (send, output) = unbounded_channel();
        let mut reader = master.try_clone().expect("share the terminal");
        // It ends with the last end of the terminal: reading is an error then (EIO).
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let _ = send.send(buffer[..count].to_vec());
            }
        });
        Terminal { ctr, master, output, said: String::new() }
    }

    /// Waits until this has been shown, and forgets all up to its end. Carriage returns do not count: both the
    /// container's terminal and ours add them.
    async fn until(&mut self, part: &str) {
        while !self.said.contains(part) {
            let more = timeout(PATIENCE, self.output.recv()).await;
            let more = more.unwrap_or_else(|_| panic!("the terminal shows {:?}, not {part:?}", self.said));
            let more = more.unwrap_or_else(|| panic!("the terminal has shown {:?}", self.said));
            self.said += &text(&more).replace('\r', "");
        }
        let end = self.said.find(part).expect("it was found") + part.len();
        self.said.drain(..end);
    }

    fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("write to the terminal");
    }

    async fn ended(mut self) -> ExitStatus {
        let ended = timeout(PATIENCE, self.ctr.wait()).await;
        ended.unwrap_or_else(|_| panic!("ctr has not ended: {:?}", self.said)).expect("wait for ctr")
    }
}
