//! Tells clients which services and messages there are. Source: GRPC server reflection, v1 and v1alpha.

use super::message::Request;
use std::convert::Infallible;
use std::pin::Pin;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic_reflection::server::Builder;

/// `api.proto`, compiled: a set of file descriptors.
pub const API_DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.bin"));

type Answering = Pin<Box<dyn Future<Output = http::Response<Body>> + Send>>;

/// One version of the reflection service.
pub struct Version {
    path: &'static str,
    serve: Box<dyn Fn(Request) -> Answering + Send + Sync>,
}

/// The reflection services.
pub struct Reflection {
    versions: [Version; 2],
}

impl Reflection {
    /// Tells of the server API.
    pub fn new() -> Self {
        const READABLE: &str = "the descriptors are our own";
        let v1 = Builder::configure().register_encoded_file_descriptor_set(API_DESCRIPTOR).build_v1().expect(READABLE);
        let v1alpha =
            Builder::configure().register_encoded_file_descriptor_set(API_DESCRIPTOR).build_v1alpha().expect(READABLE);
        let versions = [
            Version::new("/grpc.reflection.v1.ServerReflection/", v1),
            Version::new("/grpc.reflection.v1alpha.ServerReflection/", v1alpha),
        ];
        Self { versions }
    }

    /// The version that a request is for.
    pub fn route(&self, request: &Request) -> Option<&Version> {
        self.versions.iter().find(|version| request.uri().path().starts_with(version.path))
    }
}

impl Version {
    fn new<S>(path: &'static str, service: S) -> Self
    where
        S: Service<Request, Response = http::Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let serve = move |request| -> Answering {
            let answer = service.clone().call(request);
            Box::pin(async move { answer.await.unwrap_or_else(|never| match never {}) })
        };
        Self { path, serve: Box::new(serve) }
    }

    /// Answers a request.
    pub async fn serve(&self, request: Request) -> http::Response<Body> {
        (self.serve)(request).await
    }
}
