//! Describes the server API over HTTP as OpenAPI 3, from the descriptor of the same API over GRPC. Source: server API §1 to §3.

use crate::control::grpc::API_DESCRIPTOR;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use serde_json::{Map, Value, json};

/// The description, with the API's path before its methods.
pub fn describe(api_prefix: &str) -> Value {
    let files = FileDescriptorSet::decode(API_DESCRIPTOR).expect("the descriptor is our own").file;
    let methods = files.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    let paths: Map<_, _> = methods
        .map(|method| (path(method.name()), operation(method.name(), method.input_type(), method.output_type())))
        .collect();
    let messages = files.iter().flat_map(|file| &file.message_type);
    let schemas: Map<_, _> = messages.map(|message| (message.name().to_owned(), schema(message))).collect();
    json!({
        "openapi": "3.0.3",
        "info": { "title": "Ringcast server API", "version": env!("CARGO_PKG_VERSION") },
        "servers": [{ "url": api_prefix.trim_end_matches('/') }],
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {
                    "type": "apiKey", "in": "header", "name": "X-API-Key",
                    "description": "http_api.key of the configuration; not needed with http_api.insecure",
                },
            },
        },
    })
}

/// `PresenceStats` is served at `/presence_stats`, `RPC` at `/rpc`.
fn path(method: &str) -> String {
    if method.chars().all(char::is_uppercase) {
        return format!("/{}", method.to_lowercase());
    }
    let mut path = String::new();
    for letter in method.chars() {
        let between = if path.is_empty() { "/" } else { "_" };
        if letter.is_uppercase() {
            path.push_str(between);
        }
        path.push(letter.to_ascii_lowercase());
    }
    path
}

fn operation(name: &str, request: &str, response: &str) -> Value {
    let content = |message: &str| json!({ "application/json": { "schema": reference(message) } });
    json!({
        "post": {
            "operationId": name,
            "requestBody": { "required": true, "content": content(request) },
            "responses": {
                "200": { "description": "A result, or an error with its code", "content": content(response) },
                "400": { "description": "The body is no request" },
                "401": { "description": "The key is missing or wrong" },
            },
        },
    })
}

fn schema(message: &DescriptorProto) -> Value {
    let properties: Map<_, _> =
        message.field.iter().map(|field| (field.name().to_owned(), property(message, field))).collect();
    json!({ "type": "object", "properties": properties })
}

fn property(message: &DescriptorProto, field: &FieldDescriptorProto) -> Value {
    let entry = field.type_name().rsplit('.').next().and_then(|name| {
        message
            .nested_type
            .iter()
            .find(|nested| nested.name() == name)?
            .field
            .iter()
            .find(|field| field.name() == "value")
    });
    if let Some(value) = entry {
        return json!({ "type": "object", "additionalProperties": value_of(value) });
    }
    match field.label() {
        Label::Repeated => json!({ "type": "array", "items": value_of(field) }),
        Label::Optional | Label::Required => value_of(field),
    }
}

fn value_of(field: &FieldDescriptorProto) -> Value {
    match field.r#type() {
        Type::Message => reference(field.type_name()),
        Type::String => json!({ "type": "string" }),
        Type::Bool => json!({ "type": "boolean" }),
        Type::Double => json!({ "type": "number" }),
        // Payloads are JSON of any kind.
        Type::Bytes => json!({}),
        _ => json!({ "type": "integer" }),
    }
}

fn reference(message: &str) -> Value {
    let name = message.rsplit('.').next().unwrap_or(message);
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringcast_proto::api::Method;

    /// A11
    #[test]
    fn every_method_is_described_at_the_path_that_serves_it() {
        let description = describe("/api");
        let paths = description["paths"].as_object().expect("an object");
        assert_eq!(paths.len(), 14);
        for path in paths.keys() {
            assert!(Method::from_path(&path[1..]).is_some(), "{path}");
        }
        assert_eq!(description["servers"][0]["url"], "/api");
    }

    /// A11
    #[test]
    fn fields_have_the_types_of_their_json() {
        let description = describe("/");
        let schemas = &description["components"]["schemas"];
        let publish = &schemas["PublishRequest"]["properties"];
        assert_eq!(publish["channel"], json!({ "type": "string" }));
        assert_eq!(publish["data"], json!({}));
        assert_eq!(publish["version"], json!({ "type": "integer" }));
        assert_eq!(publish["tags"], json!({ "type": "object", "additionalProperties": { "type": "string" } }));
        let broadcast = &schemas["BroadcastResult"]["properties"]["responses"];
        let responses = json!({ "type": "array", "items": { "$ref": "#/components/schemas/PublishResponse" } });
        assert_eq!(*broadcast, responses);
        assert_eq!(description["servers"][0]["url"], "");
    }
}
