//! Compiles the service of the server API into what reflection tells about it, and packs the files of Swagger UI.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::error::Error;
use std::fs::File;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

/// What the page needs of them.
const SWAGGER_UI: [&str; 2] = ["swagger-ui.css", "swagger-ui-bundle.js"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    compile_api(&out)?;
    pack_swagger_ui(&out)
}

fn compile_api(out: &Path) -> Result<(), Box<dyn Error>> {
    const FOLDER: &str = "src/control/grpc";
    println!("cargo::rerun-if-changed={FOLDER}/api.proto");
    let mut compiler = protox::Compiler::new([FOLDER])?;
    compiler.open_file("api.proto")?;
    Ok(std::fs::write(out.join("api.bin"), compiler.encode_file_descriptor_set())?)
}

/// From an archive of the whole project.
fn pack_swagger_ui(out: &Path) -> Result<(), Box<dyn Error>> {
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    for wanted in SWAGGER_UI {
        let ending = format!("/dist/{wanted}");
        let is_wanted =
            |number: &usize| matches!(archive.name_for_index(*number), Some(Ok(name)) if name.ends_with(&ending));
        let number = (0..archive.len()).find(is_wanted);
        let mut file = archive.by_index(number.ok_or(ending)?)?;
        let mut packed = GzEncoder::new(File::create(out.join(format!("{wanted}.gz")))?, Compression::best());
        io::copy(&mut file, &mut packed)?;
        packed.finish()?;
    }
    Ok(())
}
