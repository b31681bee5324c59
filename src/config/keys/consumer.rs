//! Keys of consumers, which take publications from queues.

use super::shared::{REDIS, TLS};
use super::{Key, Kind::*, Support};

keys! {
    /// One of `consumers`
    CONSUMER {
        Works name:              Text,                           "", "Unique, used in variables and metrics";
        Works enabled:           Bool,                           "", "Run it";
        Works type:              Text,                           "", "One of the sections below";
        Works postgresql:        Object(&[POSTGRESQL]),          "", "Source of type postgresql";
        Works kafka:             Object(&[KAFKA]),               "", "Source of type kafka";
        Works nats_jetstream:    Object(&[NATS_JETSTREAM]),      "", "Source of type nats_jetstream";
        Works redis_stream:      Object(&[REDIS, REDIS_STREAM]), "", "Source of type redis_stream";
        Works google_pub_sub:    Object(&[GOOGLE_PUB_SUB]),      "", "Source of type google_pub_sub";
        Works aws_sqs:           Object(&[AWS_SQS]),             "", "Source of type aws_sqs";
        Works azure_service_bus: Object(&[AZURE_SERVICE_BUS]),   "", "Source of type azure_service_bus";
    }
}

keys! {
    /// `postgresql` of a consumer
    POSTGRESQL {
        Works dsn:                            Text,           "",      "Connection string";
        Works outbox_table_name:              Text,           "",      "Table";
        Works num_partitions:                 Int,            "1",     "Parallel partitions";
        Works partition_select_limit:         Int,            "100",   "Rows per select";
        Works partition_poll_interval:        Duration,       "300ms", "Poll period";
        Works partition_notification_channel: Text,           "",      "LISTEN channel";
        Works partition_notification_dsn:     Text,           "",      "Direct DSN";
        Works tls:                            Object(&[TLS]), "",      "TLS object";
        Works use_try_lock:                   Bool,           "",      "Try-lock instead of waiting";
    }
}

keys! {
    /// `kafka` of a consumer
    KAFKA {
        Works brokers:                  Texts,                  "",                  "Seeds";
        Works topics:                   Texts,                  "",                  "Topics";
        Works consumer_group:           Text,                   "",                  "Group";
        Works max_poll_records:         Int,                    "100",               "Records per poll";
        Works fetch_max_bytes:          Int32,                  "",                  "0 = 50 MB";
        Works fetch_max_wait:           Duration,               "500ms",             "Fetch wait";
        Works fetch_read_uncommitted:   Bool,                   "",                  "Isolation";
        Works partition_queue_max_size: Int,                    "1000",              "Pause level, -1 = each poll";
        Works dial_timeout:             Duration,               "3s",                "Dial limit";
        Works tls:                      Object(&[TLS]),         "",                  "TLS object";
        Works sasl_mechanism:           Text,                   "",                  "Plain, scram-sha-256, scram-sha-512, aws-msk-iam";
        Works sasl_user:                Text,                   "",                  "User";
        Works sasl_password:            Text,                   "",                  "Password";
        Works assume_role_arn:          Text,                   "",                  "IAM role";
        Works instance_id:              Text,                   "",                  "Static member id";
        Works method_header:            Text,                   "centrifugo-method", "Method header";
        Works publication_data_mode:    Object(&[HEADER_MODE]), "",                  "Message body is data, not a command";
    }
}

keys! {
    /// `nats_jetstream` of a consumer
    NATS_JETSTREAM {
        Works url:                   Text,                   "nats://127.0.0.1:4222", "Server";
        Works credentials_file:      Text,                   "",                      "Creds";
        Works username:              Text,                   "",                      "User";
        Works password:              Text,                   "",                      "Password";
        Works token:                 Text,                   "",                      "Token";
        Works stream_name:           Text,                   "",                      "Stream";
        Works use_existing_consumer: Bool,                   "",                      "Attach only";
        Works subjects:              Texts,                  "",                      "Filter subjects";
        Works durable_consumer_name: Text,                   "",                      "Durable";
        Works deliver_policy:        Text,                   "new",                   "New, all";
        Works max_ack_pending:       Int,                    "100",                   "In flight";
        Works method_header:         Text,                   "centrifugo-method",     "Method header";
        Works tls:                   Object(&[TLS]),         "",                      "TLS object";
        Works publication_data_mode: Object(&[HEADER_MODE]), "",                      "Message body is data, not a command";
    }
}

keys! {
    /// `redis_stream` of a consumer, beside the keys of a Redis connection
    REDIS_STREAM {
        Works streams:               Texts,                 "",        "Stream keys";
        Works consumer_group:        Text,                  "",        "Group";
        Works visibility_timeout:    Duration,              "30s",     "Re-claim time";
        Works num_workers:           Int,                   "1",       "Workers per stream";
        Works payload_value:         Text,                  "payload", "Payload field";
        Works method_value:          Text,                  "method",  "Method field";
        Works publication_data_mode: Object(&[VALUE_MODE]), "",        "Message body is data, not a command";
    }
}

keys! {
    /// `google_pub_sub` of a consumer
    GOOGLE_PUB_SUB {
        Works project_id:               Text,                      "",                  "Project";
        Works subscriptions:            Texts,                     "",                  "Subscription ids";
        Works max_outstanding_messages: Int,                       "100",               "In flight";
        Works max_outstanding_bytes:    Int,                       "1000000",           "In flight bytes";
        Works auth_mechanism:           Text,                      "",                  "Default, service_account";
        Works credentials_file:         Text,                      "",                  "Key file";
        Works method_attribute:         Text,                      "centrifugo-method", "Method attribute";
        Works publication_data_mode:    Object(&[ATTRIBUTE_MODE]), "",                  "Message body is data, not a command";
    }
}

keys! {
    /// `aws_sqs` of a consumer
    AWS_SQS {
        Works queues:                 Texts,                     "",                  "Queue URLs";
        Works sns_envelope:           Bool,                      "",                  "Unwrap SNS";
        Works region:                 Text,                      "",                  "Region";
        Works max_number_of_messages: Int32,                     "10",                "Per poll";
        Works wait_time_time:         Duration,                  "20s",               "Long poll (name as is)";
        Works visibility_timeout:     Duration,                  "30s",               "Hide time";
        Works max_concurrency:        Int,                       "1",                 "Parallel messages";
        Works credentials_profile:    Text,                      "",                  "Profile";
        Works assume_role_arn:        Text,                      "",                  "IAM role";
        Works method_attribute:       Text,                      "centrifugo-method", "Method attribute";
        Works localstack_endpoint:    Text,                      "",                  "Test endpoint";
        Works publication_data_mode:  Object(&[ATTRIBUTE_MODE]), "",                  "Message body is data, not a command";
    }
}

keys! {
    /// `azure_service_bus` of a consumer
    AZURE_SERVICE_BUS {
        Works connection_string:         Text,                     "",                  "Auth";
        Works use_azure_identity:        Bool,                     "",                  "AAD auth";
        Works fully_qualified_namespace: Text,                     "",                  "Host";
        Works tenant_id:                 Text,                     "",                  "Tenant";
        Works client_id:                 Text,                     "",                  "Client";
        Works client_secret:             Text,                     "",                  "Secret";
        Works queues:                    Texts,                    "",                  "Queues";
        Works use_sessions:              Bool,                     "",                  "Sessions";
        Works max_concurrent_calls:      Int,                      "1",                 "Parallel";
        Works max_receive_messages:      Int,                      "1",                 "Batch";
        Works method_property:           Text,                     "centrifugo-method", "Method property";
        Works publication_data_mode:     Object(&[PROPERTY_MODE]), "",                  "Message body is data, not a command";
    }
}

keys! {
    /// `publication_data_mode` of consumers whose fields end in `_header`
    HEADER_MODE {
        Works enabled:                Bool, "",                           "Message body is data, not a command";
        Works channels_header:        Text, "centrifugo-channels",        "Comma-separated channels";
        Works idempotency_key_header: Text, "centrifugo-idempotency-key", "Idempotency key";
        Works delta_header:           Text, "centrifugo-delta",           "`true` to use delta";
        Works version_header:         Text, "centrifugo-version",         "Version";
        Works version_epoch_header:   Text, "centrifugo-version-epoch",   "Version epoch";
        Works tags_header_prefix:     Text, "centrifugo-tag-",            "Prefix of tag fields";
    }
}

keys! {
    /// `publication_data_mode` of consumers whose fields end in `_value`
    VALUE_MODE {
        Works enabled:               Bool, "",                           "Message body is data, not a command";
        Works channels_value:        Text, "centrifugo-channels",        "Comma-separated channels";
        Works idempotency_key_value: Text, "centrifugo-idempotency-key", "Idempotency key";
        Works delta_value:           Text, "centrifugo-delta",           "`true` to use delta";
        Works version_value:         Text, "centrifugo-version",         "Version";
        Works version_epoch_value:   Text, "centrifugo-version-epoch",   "Version epoch";
        Works tags_value_prefix:     Text, "centrifugo-tag-",            "Prefix of tag fields";
    }
}

keys! {
    /// `publication_data_mode` of consumers whose fields end in `_attribute`
    ATTRIBUTE_MODE {
        Works enabled:                   Bool, "",                           "Message body is data, not a command";
        Works channels_attribute:        Text, "centrifugo-channels",        "Comma-separated channels";
        Works idempotency_key_attribute: Text, "centrifugo-idempotency-key", "Idempotency key";
        Works delta_attribute:           Text, "centrifugo-delta",           "`true` to use delta";
        Works version_attribute:         Text, "centrifugo-version",         "Version";
        Works version_epoch_attribute:   Text, "centrifugo-version-epoch",   "Version epoch";
        Works tags_attribute_prefix:     Text, "centrifugo-tag-",            "Prefix of tag fields";
    }
}

keys! {
    /// `publication_data_mode` of consumers whose fields end in `_property`
    PROPERTY_MODE {
        Works enabled:                  Bool, "",                           "Message body is data, not a command";
        Works channels_property:        Text, "centrifugo-channels",        "Comma-separated channels";
        Works idempotency_key_property: Text, "centrifugo-idempotency-key", "Idempotency key";
        Works delta_property:           Text, "centrifugo-delta",           "`true` to use delta";
        Works version_property:         Text, "centrifugo-version",         "Version";
        Works version_epoch_property:   Text, "centrifugo-version-epoch",   "Version epoch";
        Works tags_property_prefix:     Text, "centrifugo-tag-",            "Prefix of tag fields";
    }
}
