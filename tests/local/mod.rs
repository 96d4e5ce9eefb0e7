//! The local AWS: ministack with our scan plane in front of it, on 127.0.0.1, started and ended by whoever uses it.
//!
//! One instance serves all stories of a test binary; each story is an account of its own, so stories do not see each other. It fails,
//! it never skips. Whatever way the test binary ends, the local AWS ends with it: it watches its standard input.
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use scan_plane::ScanPlane;

pub mod answers;
pub mod canary;
pub mod code;
pub mod events;
pub mod faults;
pub mod images;
pub mod pipeline;
pub mod scan_plane;
pub mod scans;
pub mod story;
pub mod wire;

#[derive(Debug)]
pub struct LocalAws {
    pub plane: ScanPlane,
    /// The local AWS itself, past the scan plane: for what a test does in its own name.
    pub direct: String,
    /// Logs and all that this instance writes.
    pub folder: PathBuf,
    process: Mutex<Option<(Child, ChildStdin)>>,
}

impl LocalAws {
    /// The instance of this process, started by the first who asks. Functions may do what their roles may, and nothing else.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<LocalAws> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(true))
    }

    /// One on which everybody may do everything: what the CDK CLI deploys asks for TLS, which there is none of here.
    pub fn without_iam() -> &'static Self {
        Box::leak(Box::new(Self::start(false)))
    }

    fn start(enforces_iam: bool) -> Self {
        let python = python();
        let runs = target().join("local-aws");
        end_what_is_left(&runs);
        let plane = ScanPlane::start();
        // A free port may be taken before ministack binds it; then another one is tried.
        for attempt in 1..=5 {
            let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port on 127.0.0.1").port();
            let folder = runs.join(format!("{}-{port}", std::process::id()));
            let mut process = spawn(&python, &folder, port, &plane, enforces_iam);
            let direct = format!("http://127.0.0.1:{port}");
            if is_ready(&mut process.0, port) {
                plane.in_front_of(direct.clone());
                return Self { plane, direct, folder, process: Mutex::new(Some(process)) };
            }
            let log = folder.join("ministack.log");
            assert!(attempt < 5, "the local AWS does not start; its log is {}\n{}", log.display(), tail(&log, 30));
        }
        unreachable!("the loop returns or panics")
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("ministack.log")
    }

    /// Ends it and everything it started.
    pub fn stop(&self) {
        let Some((mut child, stdin)) = self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() else { return };
        drop(stdin);
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if !matches!(child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        kill_group(child.id());
        let _ = child.wait();
        let _ = std::fs::remove_file(self.folder.join("process"));
        for part in ["home", "tmp"] {
            let _ = std::fs::remove_dir_all(self.folder.join(part));
        }
    }
}

impl Drop for LocalAws {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Cargo's target folder: that of the program which runs, `target/debug/deps/stories-...` or `target/debug/examples/demo`.
pub fn target() -> PathBuf {
    profile().parent().expect("a target folder").to_owned()
}

/// Where the dev binaries lie.
pub fn profile() -> PathBuf {
    let program = std::env::current_exe().expect("the program's own path");
    program.ancestors().nth(2).expect("target/debug").to_owned()
}

pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn python() -> PathBuf {
    let local = project().join("tests/local");
    let made = Command::new("python3")
        .arg(local.join("pinned_python.py"))
        .arg(local.join("requirements.txt"))
        .arg(target().join("python"))
        .stderr(Stdio::inherit())
        .output();
    let made = made.expect("python3 3.10 or newer is installed: `make doctor`");
    assert!(made.status.success(), "the local AWS's Python could not be set up: `make doctor`");
    PathBuf::from(String::from_utf8(made.stdout).expect("a path").trim())
}

/// The functions inherit the environment of ministack, so it starts from an empty one.
fn spawn(python: &Path, folder: &Path, port: u16, plane: &ScanPlane, enforces_iam: bool) -> (Child, ChildStdin) {
    let code = target().join("local-aws/code");
    for folder in [&folder.join("home"), &folder.join("tmp"), &code] {
        std::fs::create_dir_all(folder).expect("a folder below target/");
    }
    let log = std::fs::File::create(folder.join("ministack.log")).expect("a log file");
    let mut child = Command::new(python)
        .arg(project().join("tests/local/launch.py"))
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", folder.join("home"))
        .env("TMPDIR", folder.join("tmp"))
        .env("PYTHONUNBUFFERED", "1")
        .env("BIND_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", port.to_string())
        .env("IOT_MTLS_ENABLED", "0")
        .env("MINISTACK_HOST", "127.0.0.1")
        .env("MINISTACK_REGION", wire::REGION)
        // An account's own key is its root, and may do everything.
        .env("AUTH", enforces_iam.to_string())
        .env("AWS_ENDPOINT_URL", plane.origin())
        .env("PLANE_PORT", plane.port())
        .env("CODE_DIR", code)
        .env("TEST_ANSWER_ORIGIN", plane.origin())
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().expect("a log file"))
        .stderr(log)
        .spawn()
        .expect("the local AWS's Python runs");
    std::fs::write(folder.join("process"), child.id().to_string()).expect("a run file");
    let stdin = child.stdin.take().expect("a pipe");
    (child, stdin)
}

fn is_ready(child: &mut Child, port: u16) -> bool {
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let mut answer = String::new();
            let asked = stream.write_all(b"GET /_ministack/ready HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
            if asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200") {
                return true;
            }
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    false
}

/// Ends what an earlier run left, if anything, and forgets all but the newest logs.
fn end_what_is_left(runs: &Path) {
    let mut old: Vec<_> =
        std::fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.join("ministack.log").is_file()).collect();
    old.retain(|folder| {
        let starter = folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('-').next()).unwrap_or_default().to_owned();
        !Path::new("/proc").join(starter).exists()
    });
    for folder in &old {
        let file = folder.join("process");
        if let Ok(id) = std::fs::read_to_string(&file) {
            let command = std::fs::read_to_string(Path::new("/proc").join(&id).join("cmdline")).unwrap_or_default();
            if let (true, Ok(id)) = (command.contains("tests/local/launch.py"), id.parse()) {
                kill_group(id);
            }
            let _ = std::fs::remove_file(file);
        }
        for part in ["home", "tmp"] {
            let _ = std::fs::remove_dir_all(folder.join(part));
        }
    }
    old.sort_by_key(|folder| folder.join("ministack.log").metadata().and_then(|file| file.modified()).ok());
    for folder in old.iter().rev().skip(5) {
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// There is no safe function for this in the standard library; every shell has one.
fn kill_group(leader: u32) {
    let _ = Command::new("sh").args(["-c", &format!("kill -s KILL -- -{leader}")]).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

pub fn tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
