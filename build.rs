//! Compiles the service of the server API into what reflection tells about it.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FOLDER: &str = "src/control/grpc";
    println!("cargo::rerun-if-changed={FOLDER}/api.proto");
    let mut compiler = protox::Compiler::new([FOLDER])?;
    compiler.open_file("api.proto")?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("api.bin");
    Ok(std::fs::write(out, compiler.encode_file_descriptor_set())?)
}
