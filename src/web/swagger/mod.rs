//! The page that describes the server API and sends requests to it: Swagger UI, which the build packs, and a description of ours.
//! Source: config key `swagger`.

mod openapi;

use bytes::Bytes;
use ringcast_runtime::options::Asset;
use std::io::Read;

/// Files of Swagger UI and their content types, packed by the build: they are unpacked where the page is on, and cost nothing else.
const PACKED: [(&str, &str, &[u8]); 2] = [
    ("swagger-ui.css", "text/css; charset=utf-8", include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz"))),
    (
        "swagger-ui-bundle.js",
        "text/javascript; charset=utf-8",
        include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz")),
    ),
];

/// Our own: no script stands in the page itself.
const OWN: [(&str, &str, &[u8]); 2] = [
    ("", "text/html; charset=utf-8", include_bytes!("index.html")),
    ("start.js", "text/javascript; charset=utf-8", include_bytes!("start.js")),
];

/// All files, for an API at this prefix.
pub fn files(api_prefix: &str) -> Vec<Asset> {
    let description = serde_json::to_vec_pretty(&openapi::describe(api_prefix)).expect("a value has a text");
    let asset = |path: &str, content_type: &str, bytes: Bytes| Asset {
        path: path.to_owned(),
        content_type: content_type.to_owned(),
        bytes,
    };
    let own = OWN.iter().map(|(path, content_type, bytes)| asset(path, content_type, Bytes::from_static(bytes)));
    let packed = PACKED.iter().map(|(path, content_type, bytes)| asset(path, content_type, unpack(bytes)));
    let description = asset("openapi.json", "application/json", description.into());
    own.chain(packed).chain([description]).collect()
}

fn unpack(packed: &[u8]) -> Bytes {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).expect("the build packed it");
    bytes.into()
}
