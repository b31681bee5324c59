//! What the tests of the built binary share: where the binary is, and tools of other languages, installed once per
//! target folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Server under test: the binary of this build, or the one that the environment variable `RINGCAST_BIN` names (any
/// server of this protocol, to see whether a test is right).
pub fn binary() -> PathBuf {
    match std::env::var_os("RINGCAST_BIN") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_ringcast")),
    }
}

/// Folder of the tests, as checked out.
pub fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Runs `install` on an empty folder under the target folder unless an earlier run did so with the same content of
/// the files `inputs`. Test programs that run side by side wait for each other.
pub fn installed(name: &str, inputs: &[PathBuf], install: impl FnOnce(&Path)) -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(cache).expect("the target folder can be written");
    let lock = File::create(cache.join(format!("{name}.lock"))).expect("the target folder can be written");
    lock.lock().expect("the file system has locks");

    let folder = cache.join(name);
    let stamp = cache.join(format!("{name}.stamp"));
    let wanted: Vec<u8> = inputs.iter().flat_map(read).collect();
    if fs::read(&stamp).ok().as_ref() != Some(&wanted) || !folder.exists() {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                panic!("{}: {error}", folder.display())
            }
            Ok(()) | Err(_) => {}
        }
        fs::create_dir_all(&folder).expect("the target folder can be written");
        install(&folder);
        fs::write(&stamp, &wanted).expect("the target folder can be written");
    }
    folder
}

/// Python of a virtual environment that holds the packages of a requirements file.
pub fn python(name: &str, requirements: &Path) -> PathBuf {
    let folder = installed(name, &[requirements.to_owned()], |folder| {
        let remedy = "apt-get install python3 python3-venv";
        run(Command::new("python3").args(["-m", "venv"]).arg(folder), remedy);
        let pip = folder.join("bin/pip");
        run(Command::new(pip).args(["install", "--quiet", "-r"]).arg(requirements), "access to PyPI");
    });
    folder.join("bin/python")
}

/// Runs a command to its end. A failure, or a program that is not there, fails the test with what would help.
#[track_caller]
pub fn run(command: &mut Command, remedy: &str) -> String {
    let program = command.get_program().to_owned();
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("{}: {error}; it needs: {remedy}", name(&program)),
    };
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{} ended with {}; it needs: {remedy}\n{printed}{}",
        name(&program),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}

fn name(program: &OsStr) -> String {
    program.to_string_lossy().into_owned()
}

fn read(path: &PathBuf) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
